"""The supervisor's end of the nursery: worker processes by fork, so that a fleet is not a fleet of imports.

1. It is started with the first worker that is wanted, and leaves when none was wanted for a while: it costs nothing
   while the fleet is whole. Until it is ready no worker is started. One that dies, or does not answer, is done
   without: workers are then started one by one, as fresh processes.
2. A forked worker is no child of ours. Its pidfd says when it has gone.
3. Where workers belong into a systemd unit of their own (producer/workers_unit.py), the nursery is begun there, and
   nothing takes its place: a worker that was started here could not enclose its agents. It is asked for again after a
   pause.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from producer import workers_unit
from producer.supervisor.kernel import Child, Foreign, Kernel, spawn
from producer.wire import tokens

IMPORT_SECONDS = 60.0
ANSWER_SECONDS = 5.0
LEAVE_SECONDS = 1.0
REST_SECONDS = 5.0
PAUSE_SECONDS = 2.0
LOG = "nursery.log"


class Nursery:
    """Launches workers; see Launch. ``ready`` has to be asked before."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._elsewhere = workers_unit.address()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._began = self._wanted = 0.0
        self._again = float("-inf")
        self._serving = self._failed = False
        self._useless = kernel.options.launch is not spawn or not hasattr(os, "pidfd_open")

    @property
    def pid(self) -> int | None:
        """Its process, which no sweep may end; None where it is in the workers' unit, or there is none."""
        return self._process.pid if self._process else None

    def ready(self, env: Mapping[str, str]) -> bool:
        """Whether a worker can be launched now; the first question starts the nursery."""
        now = self._wanted = self._kernel.monotonic()
        if self._useless or self._serving:
            return True
        if self._control is None:
            if now >= self._again:
                self._start(env)
        elif now - self._began > IMPORT_SECONDS:
            self._give_up()
        elif (said := self._heard()) == b"ready\n":
            self._serving, self._failed = True, False
            self._unwatch()
            self._control.settimeout(ANSWER_SECONDS)
        elif said is not None:
            self._give_up()
        return self._useless or self._serving

    def launch(self, command: list[str], env: Mapping[str, str], log: Path) -> Child | None:
        """Start a worker: by fork, else as a fresh process; None where it has to wait for the workers' unit.

        ``command`` is python -P -m MODULE ...
        """
        if self._serving and self._control is not None:
            try:
                self._control.sendall(json.dumps({"arguments": command[4:], "log": str(log)}).encode() + b"\n")
                return Foreign.of(int(self._control.recv(32)))
            except (OSError, ValueError):
                self._give_up()
        return self._kernel.options.launch(command, env, log) if self._useless else None

    def rest(self) -> None:
        """Let it go where nobody wanted a worker for a while."""
        if self._serving and self._kernel.monotonic() - self._wanted > REST_SECONDS:
            self.close()

    def close(self) -> None:
        """Have it leave; the workers stay."""
        self._unwatch()
        process, control = self._process, self._control
        self._process = self._control = None
        self._serving = False
        if control is not None:
            control.close()
            (self._kernel.places.workers / LOG).unlink(missing_ok=True)
        if process is not None:
            try:
                process.wait(LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, env: Mapping[str, str]) -> None:
        try:
            self._control = self._knock(self._elsewhere, env) if self._elsewhere else self._bear(env)
        except OSError:
            self._give_up()
            return
        self._control.setblocking(False)  # with a time limit a look would wait for it, MSG_DONTWAIT or not
        self._began = self._kernel.monotonic()
        self._kernel.server.watch(self._control.fileno())

    def _bear(self, env: Mapping[str, str]) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs, (self._kernel.places.workers / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "producer.workers.nursery", self._kernel.options.invoker],
                env=dict(env), cwd=self._kernel.places.workers, stdin=theirs.fileno(), stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        return ours

    def _knock(self, where: str, env: Mapping[str, str]) -> socket.socket:
        places = self._kernel.places
        return workers_unit.knock(where, {
            "wants": "nursery", "ledger": str(places.ledger), "proof": workers_unit.proof(tokens.secret(places)),
            "invoker": self._kernel.options.invoker, "env": dict(env),
        })  # fmt: skip

    def _heard(self) -> bytes | None:
        """What it says, b"" if it has gone; None where it has said nothing yet."""
        assert self._control is not None
        try:
            return self._control.recv(32)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _give_up(self) -> None:
        if not self._failed:
            self._kernel.audit("nursery_failed")
        self._failed, self._useless = True, self._elsewhere is None
        self._again = self._kernel.monotonic() + PAUSE_SECONDS
        self.close()

    def _unwatch(self) -> None:
        if self._control is not None:
            with suppress(KeyError):
                self._kernel.server.unwatch(self._control.fileno())
