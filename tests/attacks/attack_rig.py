"""What an attacker has who got hold of a worker's key: the worker's ends of the sockets, and nothing that checks."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import zmq
from driving import Project, Supervisor

from producer.ids import new_id
from producer.places import Places
from producer.reaper import PROJECT_MARKER
from producer.wire.auth import Keys, Peer
from producer.wire.codec import MAGIC, decode

SECONDS = 20.0
_contexts: list[zmq.Context[Any]] = []  # kept, for one that is collected with an open socket waits for ever


def frames(kind: str, body: object) -> list[bytes]:
    """A message as it crosses the wire, with nothing checked."""
    return [MAGIC, kind.encode(), body if isinstance(body, bytes) else json.dumps(body).encode()]


class Dialer:
    """A connection to one of the supervisor's sockets, with the keys of ``name``."""

    def __init__(self, places: Places, socket: str, name: str, kind: int, identity: bytes | None = None) -> None:
        keys = Keys(places)
        pair = keys.load(name)
        self.context: zmq.Context[Any] = zmq.Context()
        _contexts.append(self.context)
        self.socket = self.context.socket(kind)
        self.socket.linger = 500
        self.socket.curve_publickey, self.socket.curve_secretkey = pair.public, pair.secret
        self.socket.curve_serverkey = keys.server().public
        if identity is not None:
            self.socket.identity = identity
        self.socket.connect(places.address(socket))

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(list(parts))

    def say(self, kind: str, body: object) -> None:
        self.send(*frames(kind, body))

    def hear(self, seconds: float = SECONDS) -> list[bytes] | None:
        return self.socket.recv_multipart() if self.socket.poll(int(seconds * 1000)) else None

    def close(self) -> None:
        self.socket.close()
        self.context.term()


class Impostor:
    """A process that holds the key of a worker of ``role`` and speaks as it pleases."""

    def __init__(self, supervisor: Supervisor, role: str = "code") -> None:
        self.supervisor, self.role, self.id = supervisor, role, new_id()
        self.project: Project = supervisor.project
        marked = {PROJECT_MARKER: self.project.places.key}
        self.process = subprocess.Popen(["sleep", "600"], env={**self.project.env, **marked}, start_new_session=True)
        Keys(self.project.places).issue(Peer("worker", self.id, role))
        self.tasks = Dialer(self.project.places, "tasks", self.id, zmq.DEALER, self.id.encode())
        self.results = Dialer(self.project.places, "results", self.id, zmq.PUSH)
        self.attempt = self.task = ""

    def hello(self, **changes: Any) -> None:
        body = {
            "worker": self.id,
            "role": self.role,
            "slot": 0,
            "pid": self.process.pid,
            "pid_start": 1.0,
            "version": "1",
        }
        self.tasks.say("Hello", {**body, **changes})

    def take(self, free: int = 1) -> None:
        """Greet, and take the task that is ready."""
        self.hello()
        self.tasks.say("Ready", {"free": free})
        task = self.until("TaskMsg")
        self.attempt, self.task = task.attempt, task.task
        self.tasks.say("Started", {"attempt": self.attempt, "session_id": "s"})

    def until(self, kind: str) -> Any:
        """The next message of a kind."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            heard = self.tasks.hear(1.0)
            message = decode(heard) if heard and len(heard) == 3 else None
            if type(message).__name__ == kind:
                return message
            for at in range(1, len(heard or []), 2) if heard and len(heard) > 3 else ():
                message = decode([heard[0], *heard[at : at + 2]])
                if type(message).__name__ == kind:
                    return message
        raise AssertionError(f"no {kind} came")

    def call(self, tool: str, attempt: str | None = None, **arguments: Any) -> Any:
        """A ledger tool; the Reply."""
        call = new_id()
        self.tasks.say("Call", {"call": call, "attempt": attempt or self.attempt, "tool": tool, "arguments": arguments})
        reply = self.until("Reply")
        assert reply.call == call
        return reply

    def close(self) -> None:
        self.tasks.close()
        self.results.close()
        Keys(self.project.places).revoke(self.id)
        self.process.kill()
        self.process.wait(10)


def filed(supervisor: Supervisor, role: str = "code", title: str = "a task", **more: object) -> str:
    """A task, filed by an operator."""
    task = {"agent_owner": role, "title": title, "description": title, **more}
    found: str = supervisor.ask("insert_tasks", tasks=[task])[0]
    return found
