"""Scripts and agents beside a running supervisor: they ask it, and never write the ledger themselves."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from driving import Project

from producer.errors import IllegalTransition, InvalidDependency, InvalidTask, LedgerError, TaskClaimRace, UnknownTask

SCRIPT = """
import sys
from producer import LedgerClient
client = LedgerClient(sys.argv[1], actor="a script")
first = client.insert_task(agent_owner="code", title="first", description="d", payload={"cost_usd": "0.5"})
ids = client.insert_tasks({"agent_owner": "code", "title": f"n{n}", "description": "d"} for n in range(500))
client.record_decision(task_id=first, agent_owner="code", kind="design", decision_text="so", rationale="because")
print(first, len(ids), len(set(ids)))
client.close()
"""


def test_a_script_files_thousands_while_the_supervisor_works(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2, "prefetch": 8}}, limits={"pending_per_role": 2000})
    supervisor = supervise().ready()
    ran = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(project.state / "ledger.db")], env=project.env, cwd=project.root,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, count, distinct = ran.stdout.split()
    assert (count, distinct) == ("500", "500")
    supervisor.until_count("done", 501)
    assert project.task(first)["cost_usd"] == "0.50" and len(project.task(first)["decisions"]) == 1
    assert {row["actor"] for row in project.actions("task_inserted")} == {"a script"}
    assert project.rows("SELECT count(*), max(number) FROM attempts") == [(501, 1)]
    assert supervisor.stop() == 0
    assert project.books_balance() == 500_000


def test_many_clients_at_once_lose_nothing_even_while_the_supervisor_changes(project: Project, supervise) -> None:
    supervisor = supervise().ready()
    filed: list[str] = []
    failures: list[BaseException] = []

    def file(name: int) -> None:
        try:
            with project.client(f"client {name}") as client:
                for number in range(15):
                    filed.append(client.insert_task(agent_owner="code", title=f"{name}.{number}", description="d"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=file, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    supervisor.until_count("done", 5)
    supervisor.kill()
    supervisor = supervise().ready()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert not failures and len(set(filed)) == 60
    supervisor.until_count("done", 60)
    assert project.rows("SELECT count(*) FROM tasks") == [(60,)]


def test_a_running_task_can_be_killed_and_escalated_from_outside(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    supervisor = supervise().ready()
    unwanted, doubtful = [project.file_task(name, payload={"sleep_seconds": 600}) for name in ("unwanted", "doubtful")]
    supervisor.until_count("in_progress", 2)
    with project.client("anna") as client:
        client.kill_task(unwanted, reason="not wanted")
        client.escalate_task(doubtful, reason="look at it")
    supervisor.until(lambda: len(supervisor.workers(state="idle")) == 2)
    for task, status in ((unwanted, "killed"), (doubtful, "escalated")):
        after = project.task(task)
        assert (after["status"], after["retry_count"], after["attempts"][0]["state"]) == (status, 0, "cancelled")
    assert project.actions("task_killed")[0]["actor"] == "anna"
    assert "look at it" in supervisor.until(lambda: (project.state / "escalations" / f"{doubtful}.md").read_text())
    with project.client() as client:
        client.requeue_task(doubtful)
    supervisor.until_count("in_progress", 1)
    assert supervisor.stop() == 0
    assert project.books_balance() == 0


def test_what_the_supervisor_refuses_arrives_as_the_same_error_as_without_one(project: Project, supervise) -> None:
    supervisor = supervise().ready()
    done = project.file_task()
    supervisor.until_status(done, "done")
    base = {"agent_owner": "code", "title": "t", "description": "d"}

    def refusals() -> list[str]:
        told = []
        with project.client() as client:
            for kind, attempt in (
                (IllegalTransition, lambda: client.requeue_task(done)),
                (UnknownTask, lambda: client.requeue_task("01ARZ3NDEKTSV4RRFFQ69G5FAV")),
                (IllegalTransition, lambda: client.kill_task(done, reason="too late")),
                (TaskClaimRace, lambda: client.claim_task(done, "code")),
                (LedgerError, lambda: client.complete_task(done)),
                (InvalidTask, lambda: client.insert_task(**{**base, "title": "  "})),
                (InvalidTask, lambda: client.insert_task(**{**base, "agent_owner": "nobody"})),
                (InvalidTask, lambda: client.insert_task(**base, priority=6)),
                (InvalidTask, lambda: client.insert_task(**base, payload=[1])),
                (InvalidDependency, lambda: client.insert_task(**base, dependencies=["01ARZ3NDEKTSV4RRFFQ69G5FAV"])),
                (InvalidDependency, lambda: client.insert_task(**base, task_id="self", dependencies=["self"])),
            ):
                with pytest.raises(kind) as caught:
                    attempt()
                told.append(f"{type(caught.value).__name__}: {caught.value}")
        return told

    with_one = refusals()
    rows = len(project.audit())
    assert supervisor.stop() == 0
    assert refusals() == with_one
    assert project.rows("SELECT count(*) FROM tasks") == [(1,)]
    assert [row["action"] for row in project.audit()[rows:]] == ["signal", "producer_shutdown"]
