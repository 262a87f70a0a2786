"""Caps with the real CLI: what a role, a task and a lineage may spend, and what becomes of the work when they have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from driving import Project
from rehearsing import LONG, billed, equal_bills, ledger, rehearse, report, requests, shell, with_shell, write_script

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DEAR = {"output_tokens": 4_000}  # $0.04 an answer of claude-sonnet-5-5, and about two cents of prompt
WORK = [shell("true", **DEAR), shell("true", **DEAR), {"text": "Done.", **DEAR}]
RECORD = {"gateway": {"record": True}}


def test_a_role_at_its_cap_waits_for_tomorrow_or_for_more_money(project: Project, supervise) -> None:
    def configure(cap: float) -> None:
        project.configure({"code": with_shell(daily_cap_usd=cap), "qa": with_shell()}, **RECORD)

    configure(0.11)
    supervisor = rehearse(supervise, project, {"*": {"*": WORK}})
    task, next_task = project.file_task("expensive"), project.file_task("after it")
    supervisor.until(lambda: supervisor.status()["roles"]["code"]["state"] == "capped", LONG, "a capped role")
    role = supervisor.status()["roles"]["code"]
    midnight = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00")
    assert role["until"].startswith(midnight) and "spent today" in role["reason"]
    assert 0 < equal_bills(project) <= 110_000
    (attempt,) = project.task(task)["attempts"]
    assert (attempt["outcome"], project.task(task)["status"]) == ("budget", "pending")
    assert project.task(task)["retry_count"] == 0 and project.task(next_task)["attempts"] == []
    assert len(project.actions("soft_cap")) == 1 and project.actions("escalation") == []
    other = project.file_task("of another role", "qa")
    supervisor.until_status(other, "done", seconds=LONG)
    supervisor.until(lambda: "at its cap" in project.attention(), what="the notice")

    configure(5)
    assert supervisor.ask("reload")["changes"]
    supervisor.until_status(next_task, "done", seconds=LONG)
    assert project.task(task)["status"] == "done" and project.task(task)["attempts"][-1]["resumed"]
    assert len(requests(project, task)) == 3, "an answer was paid twice"
    assert len(project.actions("budget_cap")) == 1 and supervisor.status()["roles"]["code"]["state"] == "ok"
    assert project.actions("budget_breach") == []
    equal_bills(project)
    assert supervisor.stop() == 0


def test_a_task_and_a_lineage_that_have_spent_their_own_budget_go_to_a_person(project: Project, supervise) -> None:
    child = {"agent_owner": "qa", "title": "child work", "description": "Spend what the root has left."}
    turns = {
        "code": {"own": WORK, "root": [ledger("insert_task", child, **DEAR), {"text": "Filed.", **DEAR}]},
        "qa": {"*": [*(shell("true", **DEAR) for _ in range(5)), {"text": "Done.", **DEAR}]},
    }
    project.configure(
        {"code": with_shell(max_budget_usd=0.10), "qa": with_shell()}, limits={"lineage_budget_usd": 0.20}, **RECORD
    )
    supervisor = rehearse(supervise, project, turns)
    own, root = project.file_task("own"), project.file_task("root")
    supervisor.until_status(own, "escalated", seconds=LONG)
    supervisor.until_status(root, "done", seconds=LONG)
    ((kid,),) = project.rows("SELECT id FROM tasks WHERE parent_task_id = ?", root)
    shown = supervisor.until_status(kid, "escalated", seconds=LONG)
    assert f"task {own} has spent its own budget" in project.task(own)["escalation_reason"]
    assert f"lineage {root} has spent its own budget" in shown["escalation_reason"]
    (line,) = project.rows("SELECT sum(cost_micros) FROM tasks WHERE root_task_id = ?", root)
    assert line[0] <= 200_000 and project.rows("SELECT cost_micros FROM tasks WHERE id = ?", own)[0][0] <= 100_000
    assert shown["retry_count"] == 0 and supervisor.status()["roles"]["qa"]["state"] == "ok"
    equal_bills(project)
    assert f"lineage {root} has spent its own budget" in report(project)


def test_a_model_without_a_price_is_never_called(project: Project, supervise) -> None:
    script = str(write_script(project, {"*": {"*": WORK}}))
    project.configure({"code": with_shell(model="claude-nobody-knows-9")}, **RECORD)
    task = project.file_task()
    refused = supervise("--rehearse", script, invoker=None)
    assert refused.exits() == 2 and "claude-nobody-knows-9" in refused.output.read_text()
    assert project.task(task)["attempts"] == [] and billed(project) == []
