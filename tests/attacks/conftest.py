"""What the attacks share: one supervisor for all that is sent to one, whoever attacks it, and projects that are attacked
by the real CLI, each once for all tests (see siege.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_rig import Impostor, filed
from driving import SOURCE, Project, Supervisor, end_all
from siege import Fallen, besiege

from producer.ids import new_id
from producer.sandbox import choice

# The attackers are the workers of `code`: none of it is started.
NO_CODE = """
from producer.supervisor import workers
start = workers.Workers.start
workers.Workers.start = lambda self, role, slot: None if role == "code" else start(self, role, slot)
ended = workers.Workers.ended
workers.Workers.ended = lambda self, worker: (self._history.clear(), ended(self, worker))  # their deaths park no role
"""


@pytest.fixture(scope="module")
def transport() -> str:
    """How the supervisor that is besieged is reached; a module that tries another way overrides this."""
    return "ipc"


@pytest.fixture(scope="module")
def besieged(private: Path, transport: str) -> Iterator[Supervisor]:
    """A supervisor with two roles, `code` (whose workers are the attackers) and `qa` (with one honest worker)."""
    base = private / f"b{new_id()[-6:]}"
    (base / "h").mkdir(parents=True)
    (base / "project").mkdir()
    env = {
        "HOME": str(base / "h"), "XDG_STATE_HOME": str(base / "s"), "XDG_RUNTIME_DIR": str(base / "r"),
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": SOURCE,
    }  # fmt: skip
    project = Project(base / "project", env, transport)
    project.configure({"code": {"workers": 200}, "qa": {"workers": 1}, "wakeup": {"workers": 0}})
    supervisor = Supervisor(project, prelude=NO_CODE).ready(1)
    yield supervisor
    supervisor.stop()
    left = end_all(project, [supervisor])
    assert not left, left


@pytest.fixture
def impostor(besieged: Supervisor) -> Iterator[Impostor]:
    """An attacker with a worker's key and a task of its own, which is running."""
    found = Impostor(besieged)
    besieged.ask("role_reset", role="code")  # so many workers that die would park it
    task = filed(besieged, title=f"for {found.id}")
    try:
        found.take()
        assert found.task == task
        yield found
    finally:
        if besieged.project.task(task)["status"] not in ("done", "killed"):
            besieged.ask("kill_task", task_id=task)
        found.close()


@pytest.fixture(scope="session")
def fallen(private: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fallen]:
    """What came of the attacks, by the way in which the attacker was held."""
    if problem := choice.bwrap_problem():
        pytest.skip(problem)
    with besiege(private, tmp_path_factory.mktemp("siege")) as found:
        yield found
