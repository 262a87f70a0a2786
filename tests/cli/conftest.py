"""Fixtures of the command line's tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cli_rig import CONFIG, SOURCE, Project, StandIn

from producer.ids import new_id


@pytest.fixture
def project(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    home = tmp_path_factory.mktemp("h")
    private = {"HOME": str(home), "XDG_STATE_HOME": str(home / "s"), "XDG_RUNTIME_DIR": str(home / "r")}
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "PRODUCER_CONFIG", "PRODUCER_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in private.items():
        monkeypatch.setenv(name, value)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, "LANG": "C.UTF-8", **private}
    made = Project(tmp_path, env)
    made.config.write_text(CONFIG)
    yield made
    for child in made.children:
        child.kill()
        child.communicate()


@pytest.fixture
def stand_in(project: Project) -> Iterator[Callable[[], StandIn]]:
    with ExitStack() as stack:

        def make() -> StandIn:
            found = StandIn(project)
            stack.callback(found.leave)
            return found

        yield make


@pytest.fixture
def some_status() -> dict[str, Any]:
    """What a supervisor with one busy worker answers."""
    money = {"spent_usd": "0.25", "held_usd": "0.10", "cap_usd": "2.00"}
    worker = {
        "id": new_id(), "slot": 0, "pid": 4711, "state": "busy", "task": new_id(), "attempt": new_id(),
        "title": "Write the parser", "activity": "Write", "seconds": 12.5, "cost_usd": "0.25",
    }  # fmt: skip
    role = {"state": "ok", "until": None, "reason": None, "desired": 2, "workers": [worker]}
    capped = {"state": "capped", "until": "2026-05-07T00:00:00.000Z", "reason": "its cap", "desired": 1, "workers": []}
    return {
        "project": "testbed",
        "supervisor": {"running": True, "pid": 99, "since": "2026-05-06T07:08:09.123Z", "version": "1.0.0"},
        "kill_switch": {"armed": False, "reason": None, "since": None},
        "roles": {"code": role, "qa": capped},
        "queue": {"pending": 1, "blocked": 0, "in_progress": 1, "done": 3, "failed": 0, "escalated": 0, "killed": 0},
        "budget": {"date": "2026-05-06", "project": money, "roles": {"code": money, "qa": money}},
        "auth": "rehearsal", "gateway": {"url": "http://127.0.0.1:1", "pid": 5}, "rehearsal": True, "events": [],
    }  # fmt: skip
