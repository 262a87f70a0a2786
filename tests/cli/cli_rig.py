"""The installed program as a subprocess, in a project and in private directories of the test's own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import producer
from producer.cli import execute
from producer.ledger import LedgerClient, Reader
from producer.ledger.lock import Holder, Lock
from producer.places import Places
from producer.wire.auth import Keys
from producer.wire.messages import Event, Reply, Request
from producer.wire.server import Incoming, Server

CONFIG = """\
project_name: testbed
budget:
  project_ceiling_usd: 10
  agents:
    producer: {daily_cap_usd: 1}
    code: {daily_cap_usd: 2, workers: 2}
    qa: {daily_cap_usd: 3}
"""
SOURCE = str(Path(producer.__file__).parent.parent)
Completed = subprocess.CompletedProcess[str]


@dataclass
class Project:
    """A project directory, and the program called in it."""

    path: Path
    env: dict[str, str]
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.path / "producer.yaml"

    @property
    def ledger(self) -> Path:
        return self.path / "agent-state" / "ledger.db"

    @property
    def switch(self) -> Path:
        return self.path / "agent-state" / "kill_switch"

    @property
    def places(self) -> Places:
        return Places.of(self.ledger, self.env)

    def run(self, *words: str, code: int = 0, stdin: str = "", **env: str) -> Completed:
        """Run a command to its end; it must exit with ``code`` and show no traceback."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "producer", *words],
            cwd=self.path, env=self.env | env, input=stdin, capture_output=True, encoding="utf-8", timeout=60,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr + done.stdout, done.stderr
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def out(self, *words: str, **more: Any) -> str:
        """What a command prints on stdout, which must succeed."""
        return self.run(*words, **more).stdout.rstrip("\n")

    def refused(self, *words: str, code: int = 2) -> str:
        """The one line with which a command is refused. In this process, because there are many of these."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), chdir(self.path):
            assert execute(words) == code, err.getvalue()
        assert err.getvalue().startswith("error: ") and err.getvalue().count("\n") == 1, err.getvalue()
        assert out.getvalue() == ""
        return err.getvalue().strip()

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "producer", *words], cwd=self.path, env=self.env,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        )  # fmt: skip
        self.children.append(child)
        return child

    def add(self, title: str = "A task", *, role: str = "code", **more: Any) -> str:
        """File a task without a process."""
        with self.client() as ledger:
            return ledger.insert_task(agent_owner=role, title=title, description="what to do", **more)

    def client(self) -> LedgerClient:
        return LedgerClient(self.ledger)

    def reader(self) -> Reader:
        return Reader(self.ledger)


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


class StandIn:
    """Something that holds the ledger as a supervisor does and answers what it is told to answer."""

    def __init__(self, project: Project) -> None:
        places = project.places.make()
        with project.client():
            pass  # there is a ledger
        self.answers: dict[str, Any] = {}
        self.silent = False
        self.asked: list[Request] = []
        self.events: list[Event] = []
        self._lock = Lock(places.lock)
        assert self._lock.acquire(Holder("supervisor", os.getpid(), time.time(), "0.test"))
        keys = Keys(places)
        keys.ensure()
        self._server = Server(places, keys)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._server.wait(0.02)
            for message in self._server.receive():
                if isinstance(message, Incoming) and isinstance(message.message, Request):
                    self._answer(message.address, message.message)
            for event in self.events:
                self._server.publish(event)

    def _answer(self, address: bytes, request: Request) -> None:
        self.asked.append(request)
        if self.silent:
            return
        if request.op not in self.answers:
            reply = Reply(call=request.call, ok=False, result="UsageError", error=f"no such operation: {request.op}")
        else:
            reply = Reply(call=request.call, ok=True, result=self.answers[request.op])
        self._server.send("control", address, reply)

    def leave(self) -> None:
        if self._thread.is_alive():
            self._stop.set()
            self._thread.join()
            self._server.close()
            self._lock.release()
