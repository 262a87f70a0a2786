"""What a failure costs: a wait, a retry, in the end a person; and what is no failure."""

from __future__ import annotations

import time
from itertools import pairwise

from driving import Project

from producer.ids import from_iso

QUICK = {"base_seconds": 0.3, "cap_seconds": 0.4}


def test_failures_wait_are_tried_again_and_end_with_a_person(project: Project, supervise) -> None:
    project.configure({"code": {"retry": QUICK, "workers": 2}}, failure_burst={"count": 100})
    payloads = {
        "twice": {"fail": 2}, "always": {"fail": True, "cost_usd": "0.000001"}, "permanent": {"fail": "permanent"},
    }  # fmt: skip
    ids = {title: project.file_task(title, payload=payload) for title, payload in payloads.items()}
    assert supervise("--once").exits() == 1
    after = {title: project.task(task) for title, task in ids.items()}
    ends = {title: (task["status"], task["retry_count"], len(task["attempts"])) for title, task in after.items()}
    assert ends == {"twice": ("done", 2, 3), "always": ("escalated", 3, 3), "permanent": ("escalated", 0, 1)}
    assert after["always"]["escalation_reason"] == "failed 3 times: told to fail"
    assert after["permanent"]["escalation_reason"].startswith("no retry would help: told to fail")
    for task in (after["twice"], after["always"]):
        runs = task["attempts"]
        assert all(a["finished_at"] < b["claimed_at"] for a, b in pairwise(runs))
        assert len({run["session_id"] for run in runs}) == 1, "a later run takes the first one's session up"
    failed = [row["detail"]["retry_count"] for row in project.actions("task_failed") if row["task"] == ids["always"]]
    assert failed == [1, 2, 3]
    assert project.books_balance() == 3


def test_a_usage_limit_holds_the_role_back_until_its_reset_and_costs_no_retry(project: Project, supervise) -> None:
    project.configure({"code": None, "qa": None})
    supervisor = supervise().ready()
    until = time.time() + 4
    limited = project.file_task("limited", priority=0, payload={"fail": "throttled", "until": until})
    row = supervisor.until_action("role_throttled")
    assert row["detail"]["until"] == int(until)
    with project.client() as client:
        client.kill_task(limited, reason="no longer wanted")
    behind = project.file_task("behind it")
    other = supervisor.until_status(project.file_task("another role's", "qa"), "done")
    after = supervisor.until_status(behind, "done")
    assert from_iso(after["attempts"][0]["claimed_at"]) >= until - 0.001
    assert other["attempts"][0]["claimed_at"] < after["attempts"][0]["claimed_at"], "only the one role waited"
    limited_after = project.task(limited)
    assert (limited_after["retry_count"], limited_after["attempts"][0]["state"]) == (0, "throttled")
    assert supervisor.stop() == 0


def test_a_burst_of_failures_stops_everything_and_calls_a_person(project: Project, supervise) -> None:
    project.configure({"code": {"retry": {"max": 1}}}, failure_burst={"count": 3, "window_seconds": 60})
    for number in range(5):
        project.file_task(f"t{number}", payload={"fail": True})
    supervisor = supervise().ready()
    supervisor.until_action("kill_switch_armed_by_producer")
    assert supervisor.status()["kill_switch"]["armed"]
    assert (project.state / "kill_switch").exists()
    counts = project.counts()
    assert (counts["escalated"], counts["pending"]) == (3, 2)
    assert supervisor.stop() == 0
    assert supervise("--once").exits() == 0, "armed: nothing is claimed, so nothing escalates"
    assert project.counts()["pending"] == 2


def test_a_cap_holds_under_many_workers_and_what_is_left_waits(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 4, "prefetch": 2, "daily_cap_usd": 0.5, "dispatch_reservation_usd": 0.1}})
    with project.client() as client:
        client.insert_tasks(
            {"agent_owner": "code", "title": f"t{n}", "description": "d", "payload": {"cost_usd": "0.1"}}
            for n in range(12)
        )
    supervisor = supervise().ready()
    supervisor.until_action("budget_cap")
    supervisor.until(lambda: project.counts()["in_progress"] == 0)
    assert (project.counts()["done"], project.counts()["pending"]) == (5, 7)
    assert supervisor.status()["roles"]["code"]["state"] == "capped"
    assert supervisor.stop() == 0
    assert project.books_balance() == 500_000
