"""What all tests share: an environment of their own, projects, and supervisors that are gone when the test is over."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from driving import SOURCE, Project, Supervisor, end_all
from hypothesis import settings

ROOM_FOR_SOCKETS = 60  # bytes of a directory below which the longest socket path still fits
FOREIGN = ("ANTHROPIC_", "CLAUDE", "PRODUCER_", "AI_PRODUCER_")
UNWANTED = (
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
)
_numbers = count()

# A shell that starts this in its background has it ignore Ctrl-C, and whatever a test starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tests", max_examples=30, stateful_step_count=25, deadline=None, database=None)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests' private directories go: pytest's own, or a short one where that is too deep for a socket."""
    base = tmp_path_factory.getbasetemp() / "p"
    if len(os.fsencode(base)) <= ROOM_FOR_SOCKETS:
        base.mkdir(mode=0o700)
        yield base
        return
    short = Path(tempfile.mkdtemp(prefix="ap-", dir="/tmp"))
    yield short
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(autouse=True)
def environment(private: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No test reaches the state, the keys or the service manager of the user who runs it. What a process needs."""
    base = private / str(next(_numbers))
    (base / "h").mkdir(parents=True)
    for name in list(os.environ):
        if name in UNWANTED or name.startswith(FOREIGN):
            monkeypatch.delenv(name)
    own = {"HOME": str(base / "h"), "XDG_STATE_HOME": str(base / "s"), "XDG_RUNTIME_DIR": str(base / "r")}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return {**own, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": SOURCE}


Supervise = Callable[..., Supervisor]


@pytest.fixture
def over() -> str:
    """How supervisors are reached: `sockets` of producer.yaml. Modules that try another way override this."""
    return "ipc"


@pytest.fixture
def project(tmp_path: Path, environment: dict[str, str], over: str) -> Project:
    """A project with one role, `code`; ``configure`` rewrites its producer.yaml."""
    root = tmp_path / "project"
    root.mkdir()
    made = Project(root, environment, over)
    made.configure({"code": None})
    return made


@pytest.fixture
def supervise(project: Project) -> Iterator[Supervise]:
    """Starts supervisors of the project. Afterwards no process of it may be left."""
    running: list[Supervisor] = []

    def start(*options: str, **more: Any) -> Supervisor:
        running.append(Supervisor(project, *options, **more))
        return running[-1]

    yield start
    left = end_all(project, running)
    assert not left, "processes were left over:\n" + "\n".join(left)
