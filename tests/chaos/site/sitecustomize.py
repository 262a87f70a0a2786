"""Loaded by every Python process of a round (it lies on their PYTHONPATH): the switch for frames, and a hasty restart.

While the file `frames` beside this one says so ({"kind": drop | duplicate | delay, "until": monotonic seconds, "share":
0..1, "seconds": delay}), messages that a process sends are lost, sent twice, or held back. What is held back keeps its
order: a connection may be late, it never overtakes itself. Each such message leaves two letters in the file `hits`, so
that a fault that met no message is not counted. Nothing of this is in the program; it is put around it here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import random
import sys
import time
from collections import deque

HERE = os.path.dirname(os.path.abspath(__file__))
CONTROL, HITS = os.path.join(HERE, "frames"), os.path.join(HERE, "hits")
LOOK = 0.02


class Weather:
    """What the control file says now, looked at every few milliseconds."""

    def __init__(self):
        self.plan, self.looked = {}, 0.0
        self.random = random.Random(os.getpid())
        self.hits = os.open(HITS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)  # now: later there may be none to open

    def now(self):
        moment = time.monotonic()
        if moment - self.looked > LOOK:
            self.looked = moment
            try:
                with open(CONTROL) as file:
                    self.plan = json.load(file)
            except (OSError, ValueError):
                self.plan = {}
        return self.plan if self.plan.get("until", 0.0) > moment else {}

    def fate(self):
        """(how often a frame is sent, how many seconds late)."""
        plan = self.now()
        if not plan or self.random.random() >= plan["share"]:
            return 1, 0.0
        os.write(self.hits, plan["kind"][:2].encode())
        return {"drop": (0, 0.0), "duplicate": (2, 0.0), "delay": (1, plan["seconds"])}[plan["kind"]]


WEATHER = Weather()


def _late(queue, delay, *call):
    queue.append((max(time.monotonic() + delay, queue[-1][0] if queue else 0.0), call))


def _due(queue):
    while queue and queue[0][0] <= time.monotonic():
        yield queue.popleft()[1]


def _wrap_async(cls):
    """AsyncPeer and AsyncPush: ``post`` is where every message leaves."""
    post = cls.post

    def bad_post(self, message):
        queue = self.__dict__.setdefault("_chaos", deque())
        times, delay = WEATHER.fate()
        if queue or delay:
            _late(queue, delay, message)
            self._loop.call_later(max(0.0, queue[-1][0] - time.monotonic()) + 0.001, flush, self)
            return
        for _ in range(times):
            post(self, message)

    def flush(self):
        if self._socket.closed:
            return
        for (message,) in _due(self._chaos):
            post(self, message)
        if self._chaos:
            self._loop.call_later(LOOK, flush, self)

    cls.post = bad_post


def _wrap_server(cls):
    """The supervisor's end has no loop of its own: what is late leaves before it waits, and it waits briefly then."""
    send, wait = cls.send, cls.wait

    def bad_send(self, socket, address, *messages):
        queue = self.__dict__.setdefault("_chaos", deque())
        times, delay = WEATHER.fate()
        if queue or delay:
            _late(queue, delay, socket, address, *messages)
            return True
        done = True
        for _ in range(times):
            done = send(self, socket, address, *messages)
        return done

    def brief_wait(self, seconds):
        queue = self.__dict__.setdefault("_chaos", deque())
        for call in _due(queue):
            send(self, *call)
        return wait(self, min(seconds, LOOK) if queue else seconds)

    cls.send, cls.wait = bad_send, brief_wait


def _sockets(module):
    for name in ("AsyncPeer", "AsyncPush"):
        _wrap_async(getattr(module, name))


def _server(module):
    _wrap_server(module.Server)


def _workers(module):
    """A crash loop in a second instead of a minute, and no parking: here workers are killed on purpose."""
    policy = module.RestartPolicy
    module.RestartPolicy = lambda: policy(base=0.1, cap=0.5, intensity=10_000)


PATCHES = {
    "producer.wire.sockets": _sockets,
    "producer.wire.server": _server,
    "producer.supervisor.workers": _workers,
}


class Finder(importlib.abc.MetaPathFinder):
    """Patches the modules above right after they were loaded."""

    def find_spec(self, name, path=None, target=None):
        if name not in PATCHES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            PATCHES[name](module)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
