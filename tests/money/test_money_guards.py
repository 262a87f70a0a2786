"""Agents that run away: each guard tells the agent what it ran into, and the report says so in the morning."""

from __future__ import annotations

import json

import pytest
from driving import Project
from rehearsing import LONG, ledger, rehearse, report, shell, with_shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def follow_up(title: str, role: str = "code", text: str = "") -> dict[str, str]:
    return {"agent_owner": role, "title": title, "description": text or f"Do what {title} says, and nothing else."}


def refusals(project: Project, task: str) -> list[str]:
    """What the agent was told: the text of the tool results that were errors, as the CLI passed them on."""
    rows = [row for row in project.actions("tool_failed") if row["task"] == task]
    return [row["detail"]["summary"] for row in rows]


def test_the_guards_speak_to_the_agent_and_in_the_report(project: Project, supervise) -> None:
    project.configure(
        {"code": with_shell(), "qa": with_shell()},
        limits={"depth": 1, "filed_per_attempt": 4, "pending_per_role": 2},
    )
    again = "Write the tests of the parser module, run them, and report every failure in the file notes.txt"
    turns = {
        "root": [
            ledger("insert_task", follow_up("child")),
            ledger("insert_task", follow_up("parser tests", "qa", again)),
            ledger("insert_task", follow_up("Parser tests.", "qa", again + "!")),
            ledger("insert_task", follow_up("lexer", "qa")),
            ledger("insert_task", follow_up("printer", "qa")),
            ledger("insert_task", follow_up("another one")),
            ledger("insert_task", follow_up("one too many")),
            {"text": "Done."},
        ],
        "child": [ledger("insert_task", follow_up("grandchild")), {"text": "Done."}],
        "*": [{"text": "Done."}],
    }
    supervisor = rehearse(supervise, project, {"code": turns, "qa": {"*": [{"text": "Done."}]}}, "--workers", "qa=0")
    root = project.file_task("root")
    supervisor.until_status(root, "done", seconds=LONG)
    duplicate, crowded, too_many = refusals(project, root)
    assert "says the same" in duplicate and "role qa has 2 tasks waiting" in crowded
    assert "this run has filed 4 tasks and may file 4 (limits.filed_per_attempt)" in too_many
    ((child,),) = project.rows("SELECT id FROM tasks WHERE title = 'child'")
    supervisor.until_status(child, "done", seconds=LONG)
    (deep,) = refusals(project, child)
    assert "at most 1 are allowed (limits.depth): finish the work in this task, or escalate" in deep
    guards = report(project).split("## Runaway guards")[1].split("##")[0]
    for words in ("says the same", "2 tasks waiting", "may file 4", "limits.depth"):
        assert words in guards


@pytest.mark.slow
def test_a_run_without_progress_is_ended_and_the_next_one_hears_why(project: Project, supervise) -> None:
    project.configure(
        {"code": with_shell(idle_timeout_seconds=15, retry={"base_seconds": 0.05, "cap_seconds": 0.1})},
        gateway={"record": True},
    )
    hangs = shell("[ -e once ] || { touch once; sleep 100; }")
    supervisor = rehearse(supervise, project, {"code": {"*": [hangs, {"text": "Done."}]}})
    task = project.file_task("hangs")
    supervisor.until_status(task, "done", seconds=LONG)
    first, second = project.task(task)["attempts"]
    assert (first["state"], first["error"]) == ("failed", "made no progress for 15 s") and second["resumed"]
    records = (project.places.state / "recordings" / f"{second['id']}.jsonl").read_text().splitlines()
    assert "What interrupted you: made no progress for 15 s" in json.loads(records[0])["request"]
    assert "made no progress for 15 s: hangs" in report(project)
