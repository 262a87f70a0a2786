"""What a SIGKILL of anything costs: nothing but the run that it hit."""

from __future__ import annotations

import os
import signal

import psutil
from driving import Project, Supervisor, carriers, until

from producer.wire.outbox import LOG, read

QUICK = {"base_seconds": 0.05, "cap_seconds": 0.2}
# A crash loop in a second instead of a minute; the policy itself is tested in tests/core.
HASTY = (
    "from functools import partial; from producer.supervisor import workers; "
    "workers.RestartPolicy = partial(workers.RestartPolicy, base=0.05, cap=0.2)"
)
STRICT = HASTY.replace("cap=0.2", "cap=0.2, intensity=2")


def completions(project: Project) -> dict[str, int]:
    """How often each task was completed, by the audit log."""
    found: dict[str, int] = {}
    for row in project.actions("task_completed"):
        found[row["task"]] = found.get(row["task"], 0) + 1
    return found


def busy_with(supervisor: Supervisor, task: str) -> dict:
    """The worker that runs a task."""

    def look():
        return next((worker for worker in supervisor.workers(state="busy") if worker["task"] == task), None)

    return supervisor.until(look, what=f"a worker with {task}")


def test_a_killed_worker_costs_its_own_run_and_nothing_else(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2, "prefetch": 2, "retry": QUICK}})
    supervisor = supervise(prelude=HASTY).ready()
    names = ("hit", "bystander", "queued behind", "queued behind too")
    hit, bystander, *queued = [project.file_task(name, payload={"sleep_seconds": 1.5}) for name in names]
    supervisor.until_count("in_progress", 4)
    victim = busy_with(supervisor, hit)
    supervisor.until(lambda: project.task(hit)["attempts"][0]["started_at"])
    os.kill(victim["pid"], signal.SIGKILL)
    supervisor.until_count("done", 4)
    after = project.task(hit)
    assert [(a["number"], a["state"]) for a in after["attempts"]] == [(1, "lost"), (2, "succeeded")]
    assert (after["retry_count"], after["attempts"][0]["error"]) == (1, "its worker exited")
    assert len(project.task(bystander)["attempts"]) == 1
    assert [project.task(task)["retry_count"] for task in (bystander, *queued)] == [0, 0, 0]
    assert set(completions(project).values()) == {1}
    assert len(supervisor.workers()) == 2 and victim["pid"] not in [worker["pid"] for worker in supervisor.workers()]
    assert supervisor.stop() == 0
    project.books_balance()


def test_a_killed_supervisor_loses_nothing_and_does_nothing_twice(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2, "retry": QUICK}})
    with project.client() as client:
        client.insert_tasks(
            {"agent_owner": "code", "title": f"t{n}", "description": "d", "priority": 1 + n % 3,
             "payload": {"sleep_seconds": 0.05, "cost_usd": "0.000001"}}
            for n in range(60)
        )  # fmt: skip
        long = client.insert_task(
            agent_owner="code", title="long", description="d", priority=0, payload={"sleep_seconds": 3}
        )
    supervisor = supervise().ready()
    pids = {worker["pid"] for worker in supervisor.workers()}
    for done in (5, 20, 35):
        supervisor.until_count("done", done)
        supervisor.kill()
        assert all(psutil.pid_exists(pid) for pid in pids), "the workers go on without a supervisor"
        supervisor = supervise().ready()
        assert {worker["pid"] for worker in supervisor.workers()} == pids
    supervisor.until_count("done", 61)
    assert set(completions(project).values()) == {1} and len(completions(project)) == 61
    assert len(project.task(long)["attempts"]) == 1, "the long run went on under every supervisor"
    assert project.rows("SELECT max(retry_count) FROM tasks") == [(0,)]
    assert supervisor.stop() == 0
    assert project.books_balance() == 60


def test_a_result_that_nobody_heard_is_kept_for_the_next_supervisor(project: Project, supervise) -> None:
    task = project.file_task(payload={"sleep_seconds": 1, "cost_usd": "0.5"})
    supervisor = supervise().ready()
    pid = busy_with(supervisor, task)["pid"]
    supervisor.kill()
    outbox = next(project.places.outboxes.iterdir()) / LOG
    until(lambda: read(outbox).results, what="a result in the outbox")
    os.kill(pid, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    supervisor = supervise()
    assert supervisor.until_status(task, "done", "escalated")["status"] == "done"
    assert len(project.task(task)["attempts"]) == 1
    assert supervisor.stop() == 0
    assert project.books_balance() == 500_000


def test_workers_that_were_only_starting_when_the_supervisor_died_are_not_left_over(
    project: Project, supervise
) -> None:
    project.configure({"code": {"workers": 3}})
    supervisor = supervise()
    supervisor.until(lambda: len(carriers(project.places.key)) == 3, what="three worker processes")
    supervisor.kill()
    supervisor = supervise().ready(3)
    pids = {worker["pid"] for worker in supervisor.workers()}
    supervisor.until(lambda: set(carriers(project.places.key)) == pids, what="the fleet, and nobody else")


def test_a_task_that_crashes_its_workers_is_escalated_at_the_third(project: Project, supervise) -> None:
    project.configure({"code": {"retry": QUICK}, "qa": None})
    task = project.file_task("poison <b>", payload={"crash": True})
    other = project.file_task("bystander", "qa", payload={"sleep_seconds": 1})
    supervisor = supervise("--once", prelude=HASTY)
    assert supervisor.exits() == 1
    after = project.task(task)
    assert [a["state"] for a in after["attempts"]] == ["lost"] * 3
    assert (after["status"], after["retry_count"]) == ("escalated", 3)
    assert after["escalation_reason"] == "failed 3 times: its worker exited"
    text = (project.state / "escalations" / f"{task}.md").read_text()
    assert "failed 3 times" in text and f"producerctl task requeue {task}" in text and "poison &lt;b>" in text
    assert f"{task}: failed 3 times" in project.attention()
    assert len(project.task(other)["attempts"]) == 1 and project.task(other)["status"] == "done"
    project.books_balance()


BROKEN = """
import sys
from pathlib import Path
from producer import InvocationResult

if Path("broken").exists() and "code" in sys.argv:
    raise RuntimeError("cannot be imported today")

class Fine:
    async def invoke(self, agent_role, prompt, **given):
        return InvocationResult(text="done")
"""


def test_a_role_whose_workers_do_not_come_up_is_parked_and_the_others_go_on(project: Project, supervise) -> None:
    project.configure({"code": None, "qa": None})
    (project.root / "mine.py").write_text(BROKEN)
    (project.root / "broken").touch()
    waiting = project.file_task("for the broken role")
    supervisor = supervise(invoker="mine:Fine", prelude=STRICT)
    parked = supervisor.until_action("role_failed")
    assert parked["detail"]["role"] == "code"
    assert "cannot be imported today" in supervisor.until_action("worker_exited")["detail"]["log"]
    supervisor.until_status(project.file_task("for the other", "qa"), "done")
    role = supervisor.status()["roles"]["code"]
    assert (role["state"], role["workers"]) == ("failed", []) and "exited" in role["reason"]
    supervisor.until(lambda: "role code is parked" in project.attention())
    assert project.task(waiting)["status"] == "pending"
    (project.root / "broken").unlink()
    assert supervisor.ask("role_reset", role="code")["changed"]
    supervisor.until_status(waiting, "done")
    assert supervisor.stop() == 0
