"""The claude runner in a sandbox: the ledger's tools, and what ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.sandbox import Wishes, choice
from tests.workers.conftest import MakeTask, Surroundings
from tests.workers.scripted_api import ScriptedApi, Turn
from tests.workers.test_claude import at_gateway, left_over, once, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(choice.bwrap_problem() is not None, reason=str(choice.bwrap_problem())),
]


def wishes(tmp_path: Path, network: str = "full") -> dict[str, object]:
    return Wishes("bwrap", network, str(tmp_path / "project"), hide=(str(tmp_path / "tasks"),)).fact()


@pytest.mark.parametrize("network", ["full", "gateway"])
def test_the_ledgers_tools_work_from_inside(
    make_task: MakeTask, around: Surroundings, tmp_path: Path, network: str
) -> None:
    filed = {"agent_owner": "qa", "title": "check", "description": "check it"}
    with ScriptedApi(once(("mcp__ledger__insert_task", filed))) as api:
        result = run(at_gateway(make_task, api, sandbox=wishes(tmp_path, network)), around)
        assert len(api.requests) == 2
    assert result.outcome == "succeeded" and around.calls == [("insert_task", filed)]


def test_a_session_is_resumed_in_a_new_sandbox(make_task: MakeTask, around: Surroundings, tmp_path: Path) -> None:
    with ScriptedApi(once(("Bash", {"command": "echo one > ~/kept"}))) as api:
        first = at_gateway(make_task, api, allowed_tools=["Bash"], sandbox=wishes(tmp_path))
        assert run(first, around).outcome == "succeeded"
    with ScriptedApi(once(("Bash", {"command": "true"}), ("Bash", {"command": "cat ~/kept"}))) as api:
        again = at_gateway(
            make_task, api, allowed_tools=["Bash"], sandbox=wishes(tmp_path), task=first.task, number=2,
            session_id=first.session_id, resume=True,
        )  # fmt: skip
        assert run(again, around).outcome == "succeeded"
        assert "one" in api.results(-1)[-1] and "do the task" in str(api.requests[0])
    assert around.started()[-1].resumed


def test_a_long_system_prompt_is_read_from_inside(make_task: MakeTask, around: Surroundings, tmp_path: Path) -> None:
    with ScriptedApi(lambda body, number: Turn(text="fine")) as api:
        result = run(at_gateway(make_task, api, system_prompt="long " * 30_000, sandbox=wishes(tmp_path)), around)
        assert "long long long" in str(api.requests[0]["system"])
    assert result.outcome == "succeeded"


def test_in_a_hurry_the_namespace_goes_first(make_task: MakeTask, around: Surroundings, tmp_path: Path) -> None:
    stubborn = "trap '' TERM; (trap '' TERM; setsid sleep 60) & echo up; sleep 60"
    with ScriptedApi(once(("Bash", {"command": stubborn}))) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"], sandbox=wishes(tmp_path))
        up = lambda: sum(each.name() == "sleep" for each in left_over(task)) == 2  # noqa: E731
        result = run(task, around, stop_when=up, outcome="cancelled", grace=0.5)
    assert (result.outcome, result.survivors) == ("cancelled", 0)
    assert left_over(task) == []


def test_in_the_sandbox_a_process_hears_the_term_and_has_a_grace(
    make_task: MakeTask, around: Surroundings, tmp_path: Path
) -> None:
    """A daemon of the agent's, which only our ladder can have told: it saves its work and leaves."""
    code = "import signal, sys; signal.signal(15, lambda *_: (open('saved', 'w').close(), sys.exit())); open('up', 'w').close(); signal.pause()"
    with ScriptedApi(once(("Bash", {"command": f'setsid python3 -c "{code}" >/dev/null 2>&1 & sleep 60'}))) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"], sandbox=wishes(tmp_path))
        here = tmp_path / "project"
        result = run(task, around, stop_when=(here / "up").exists, outcome="cancelled", grace=20.0)
    assert (here / "saved").exists() and (result.outcome, result.survivors) == ("cancelled", 0)
    assert left_over(task) == []


def test_a_sandbox_that_is_not_there_starts_nothing(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(choice, "bwrap_problem", lambda: "bubblewrap is not installed")
    with ScriptedApi(lambda body, number: Turn(text="fine")) as api:
        result = run(at_gateway(make_task, api, sandbox=wishes(tmp_path)), around)
        assert api.requests == []
    assert result.outcome == "permanent" and "install bubblewrap" in (result.error or "")
