"""Workers in a unit of their own: begun through its socket alone, by a supervisor that proves who it is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from driving import Project, Supervisor, carriers

from producer import workers_unit
from producer.errors import SandboxMissing
from producer.places import Places
from producer.sandbox import choice
from producer.wire import tokens

Supervise = Callable[..., Supervisor]
PORTER = [sys.executable, "-P", "-m", "producer.workers.porter"]


class Unit:
    """What systemd does for the workers' unit: every connection is the stdin of a process of it."""

    def __init__(self, path: Path, env: dict[str, str]) -> None:
        self.path, self.env = path, env
        self.begun: list[subprocess.Popen[bytes]] = []
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Listen."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen()
        Thread(target=self._serve, args=(self._socket,), daemon=True).start()

    def close(self) -> None:
        """Listen no more; what was begun goes on."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._socket = None
            self.path.unlink()

    def _serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    self.begun.append(subprocess.Popen(PORTER, stdin=connection, env=self.env, start_new_session=True))

    def pids(self) -> set[int]:
        """The processes that it has begun, nurseries among them, and that live."""
        return {process.pid for process in self.begun if process.poll() is None}


@pytest.fixture
def unit(project: Project) -> Iterator[Unit]:
    there = Unit(project.root.parent / "unit", project.env)
    yield there
    there.close()
    for process in there.begun:
        process.wait(30)


def through(unit: Unit, **more: Any) -> dict[str, Any]:
    """How a supervisor is started that knows of the unit."""
    return {"env": {workers_unit.VARIABLE: str(unit.path)}, **more}


def test_workers_are_begun_in_their_unit_and_nothing_of_them_outside(
    project: Project, supervise: Supervise, unit: Unit
) -> None:
    unit.open()
    project.configure({"code": {"workers": 2}})
    supervisor = supervise(**through(unit)).ready(2)
    pids = {worker["pid"] for worker in supervisor.workers()}
    [nursery] = unit.pids()
    assert {psutil.Process(pid).ppid() for pid in pids} == {nursery}
    assert all(workers_unit.VARIABLE not in psutil.Process(pid).environ() for pid in pids), (
        "they need no way to more of them"
    )
    assert set(carriers(project.places.key)) == {*pids, nursery}
    project.file_task()
    supervisor.until_count("done", 1)
    assert supervisor.stop() == 0


def test_without_its_unit_no_worker_is_begun_and_with_it_they_come(
    project: Project, supervise: Supervise, unit: Unit
) -> None:
    supervisor = supervise(**through(unit, prelude="import producer.supervisor.nursery as n; n.PAUSE_SECONDS = 0.1"))
    supervisor.ready(0).until_action("nursery_failed")
    task = project.file_task()
    for _ in range(20):
        assert supervisor.workers() == [], "one that is begun here could not enclose its agents"
    unit.open()
    supervisor.ready(1).until_status(task, "done")
    assert len(project.actions("nursery_failed")) == 1, "said once"
    assert supervisor.stop() == 0


def test_another_nursery_follows_one_that_was_killed(project: Project, supervise: Supervise, unit: Unit) -> None:
    unit.open()
    prelude = "import producer.supervisor.nursery as n; n.PAUSE_SECONDS = 0.1; n.REST_SECONDS = 1e9"
    supervisor = supervise(**through(unit, prelude=prelude)).ready(1)
    first = {worker["pid"] for worker in supervisor.workers()}
    [nursery] = unit.pids()
    os.kill(nursery, signal.SIGKILL)
    supervisor.ask("scale", desired={"code": 2})
    supervisor.ready(2)
    pids = {worker["pid"] for worker in supervisor.workers()}
    assert first < pids
    [next_one] = unit.pids()
    assert {psutil.Process(pid).ppid() for pid in pids - first} == {next_one}
    assert supervisor.stop() == 0


def test_the_next_supervisor_adopts_what_the_unit_holds(project: Project, supervise: Supervise, unit: Unit) -> None:
    unit.open()
    project.configure({"code": {"workers": 2}})
    supervisor = supervise(**through(unit)).ready(2)
    task = project.file_task(payload={"sleep_seconds": 3})
    supervisor.until_count("in_progress", 1)
    pids = {worker["pid"] for worker in supervisor.workers()}
    supervisor.kill()
    supervisor = supervise(**through(unit)).ready(2)
    assert {worker["pid"] for worker in supervisor.workers()} == pids
    supervisor.until_status(task, "done")
    assert len(project.task(task)["attempts"]) == 1
    supervisor.stop()
    assert carriers(project.places.key) == []


def test_which_sandboxes_work_is_asked_where_the_workers_are(
    project: Project, unit: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"bwrap": choice.bwrap_problem(), "landlock": choice.landlock_problem()}
    monkeypatch.setenv(workers_unit.VARIABLE, str(unit.path))
    with pytest.raises(SandboxMissing, match="does not answer"):
        choice.choose("auto")
    unit.open()
    assert {"bwrap": choice.bwrap_problem(), "landlock": choice.landlock_problem()} == here
    assert len(unit.begun) == 1, "an answer is kept, that there is none is not"


# ---- what the porter answers


def asked(env: dict[str, str], words: bytes) -> tuple[int, bytes]:
    """A porter's exit code and answer; 0 is what a nursery leaves with, too."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(PORTER, stdin=theirs, stderr=subprocess.DEVNULL, env=env)
        ours.settimeout(60.0)
        said = b""
        with suppress(BrokenPipeError, ConnectionResetError):
            ours.sendall(words)
            said = ours.recv(4096)
    return process.wait(30), said


def wanted(places: Places, **more: Any) -> bytes:
    """A request for a nursery."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    request = {"wants": "nursery", "ledger": str(places.ledger), "proof": "", "invoker": "echo", "env": env, **more}
    return json.dumps(request).encode() + b"\n"


def test_it_says_which_sandboxes_work_where_it_is(project: Project) -> None:
    code, said = asked(project.env, b'{"wants": "sandboxes"}\n')
    assert code == 0 and set(json.loads(said)) == {"bwrap", "landlock"}


def test_a_nursery_needs_the_proof(project: Project) -> None:
    places = project.places.make()
    proof = workers_unit.proof(tokens.secret(places))
    assert asked(project.env, wanted(places, proof=proof)) == (0, b"ready\n")
    for false in ("", proof[:-1] + "x", None, workers_unit.proof(b"another")):
        assert asked(project.env, wanted(places, proof=false)) == (1, b""), false


def test_a_ledger_of_ones_own_opens_nothing(project: Project, tmp_path: Path) -> None:
    """An agent can make a secret where it may write, but the unit looks where its own private directories are."""
    mine = Places.of(tmp_path / "mine.db", {"XDG_STATE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}).make()
    assert asked(project.env, wanted(mine, proof=workers_unit.proof(tokens.secret(mine)))) == (1, b"")
    assert not (Places.of(mine.ledger, project.env).keys / tokens.FILE).exists(), "nor is a secret made by asking"


@pytest.mark.parametrize("words", [b"\n", b"{}\n", b"[]\n", b'{"wants": "more"}\n', b"\xff\n", b"x" * (3 << 20), b"[" * 99999 + b"\n"])  # fmt: skip
def test_words_that_are_none_are_refused(project: Project, words: bytes) -> None:
    assert asked(project.env, words) == (1, b"")
