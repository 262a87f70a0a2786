"""The user's own login and config in each sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.sandbox import Wishes, choice
from tests.workers.conftest import MakeTask, Surroundings
from tests.workers.scripted_api import ScriptedApi
from tests.workers.test_claude import once, run

pytestmark = pytest.mark.e2e
PROBLEMS = {"bwrap": choice.bwrap_problem(), "landlock": choice.landlock_problem()}
WAYS = [
    pytest.param(way, marks=pytest.mark.skipif(problem is not None, reason=str(problem)))
    for way, problem in PROBLEMS.items()
]


@pytest.mark.parametrize("way", WAYS)
def test_the_users_own_login_works_from_inside(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    host, room = tmp_path / "host", tmp_path / "project" / "room"
    (host / ".claude").mkdir(parents=True)
    room.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(host))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-host")
    script = once(("Bash", {"command": "touch room/inside; touch ~/outside; mktemp > room/where"}))
    with ScriptedApi(script) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        wishes = Wishes(way, "full", str(room.parent), hide=(str(tmp_path / "tasks"),))
        task = make_task(auth="inherit", allowed_tools=["Bash"], sandbox=wishes.fact())
        result = run(task, around)
        assert set(api.keys) == {"sk-host"}
    assert result.outcome == "succeeded", result.error
    assert (room / "inside").exists() and not (host / "outside").exists()
    assert list((host / ".claude" / "projects").glob(f"*/{task.session_id}.jsonl"))
    own = {"bwrap": "/tmp", "landlock": Path(task.config_dir).parent / "tmp"}[way]
    assert (room / "where").read_text().startswith(f"{own}/"), "a temporary file of its own"
