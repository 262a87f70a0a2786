"""Messages that are lost, come twice or late. The wire does none of it on a good day; the fault battery does."""

from __future__ import annotations

from driving import Project

# What the tests change in the supervisor's process: it loses or repeats the first message of a kind that it sends.
WRONGED = """
from producer.supervisor import runs, workers
from producer.wire import server
workers.PING_AFTER = 0.3
send, seen = server.Server.send, []
def wronged(self, socket, address, *messages):
    said = []
    for message in messages:
        first = type(message).__name__ == {kind!r} and address != b"gateway" and socket == "tasks" and not seen
        if first:
            seen.append(message)
        said += [message] * ({times} if first else 1)
    return send(self, socket, address, *said)
server.Server.send = wronged
"""
# It takes the first account that a worker gives of its runs for the account of a worker that has none.
DEAF = """
from producer.supervisor import runs, workers
workers.PING_AFTER = 0.3
compare, seen = runs.Runs.compare, []
def deaf(self, worker, running, outbox):
    if running and not seen:
        seen.extend(running)
        running = []
    return compare(self, worker, running, outbox)
runs.Runs.compare = deaf
"""
CALL = {"insert": [{"agent_owner": "code", "title": "a follow-up", "description": "of a task"}]}


def wronged(kind: str, times: int) -> str:
    return WRONGED.format(kind=kind, times=times)


def test_a_task_that_was_lost_on_its_way_kept_its_worker_idle_until_the_deadline(project: Project, supervise) -> None:
    supervisor = supervise(prelude=wronged("TaskMsg", 0)).ready()
    task = project.file_task("lost", payload={"sleep_seconds": 0.1})
    after = supervisor.until_status(task, "done")
    assert [(a["state"], a["error"]) for a in after["attempts"]] == [
        ("cancelled", "it did not reach its worker"),
        ("succeeded", None),
    ]
    assert after["retry_count"] == 0
    assert supervisor.stop() == 0
    project.books_balance()


def test_a_task_that_came_twice_was_run_twice(project: Project, supervise) -> None:
    project.configure({"code": {"prefetch": 3}})
    supervisor = supervise(prelude=wronged("TaskMsg", 2)).ready()
    task = project.file_task("twice", payload={"sleep_seconds": 0.1, "cost_usd": "0.01"})
    supervisor.until_status(task, "done")
    supervisor.until_status(project.file_task("after it", payload={"sleep_seconds": 0.1}), "done")
    assert project.actions("stale_result") == []
    assert supervisor.stop() == 0
    assert project.books_balance() == 10_000


def test_an_answer_that_was_lost_kept_an_agents_tool_waiting_until_it_gave_up(project: Project, supervise) -> None:
    supervisor = supervise(prelude=wronged("Reply", 0)).ready()
    task = project.file_task("asks", payload=CALL)
    after = supervisor.until_status(task, "done")
    assert len(after["attempts"]) == 1
    supervisor.until_count("done", 2)
    assert project.rows("SELECT count(*) FROM tasks") == [(2,)], "asked twice, filed once"
    assert supervisor.stop() == 0


def test_an_acknowledgement_that_was_lost_leaves_the_result_settled_once(project: Project, supervise) -> None:
    supervisor = supervise(prelude=wronged("Ack", 0)).ready()
    task = project.file_task("heard", payload={"cost_usd": "0.01"})
    supervisor.until_status(task, "done")
    supervisor.until_action("stale_result")
    assert len(project.actions("task_completed")) == 1
    assert supervisor.stop() == 0
    assert project.books_balance() == 10_000


def test_a_drain_that_was_lost_left_a_worker_for_ever(project: Project, supervise) -> None:
    supervisor = supervise("--workers", "code=2", prelude=wronged("Drain", 0)).ready()
    supervisor.ask("scale", desired={"code": 1})
    supervisor.until(lambda: len(supervisor.workers()) == 1)
    assert supervisor.stop() == 0


def test_the_cost_of_a_result_that_came_too_late_was_booked_nowhere(project: Project, supervise) -> None:
    supervisor = supervise(prelude=DEAF).ready()
    task = project.file_task("late", payload={"sleep_seconds": 1.5, "cost_usd": "0.01"})
    after = supervisor.until_status(task, "done")
    supervisor.until(lambda: len(project.rows("SELECT * FROM meter")) == 2)
    assert [a["state"] for a in after["attempts"]] == ["cancelled", "succeeded"]
    assert [row["outcome"] for row in (r["detail"] for r in project.actions("stale_result"))]
    assert supervisor.stop() == 0
    assert project.books_balance() == 20_000, "the agent worked twice, and both were paid for"


def test_a_task_queued_behind_others_was_killed_at_the_deadline_of_its_dispatch(project: Project, supervise) -> None:
    project.configure({"code": {"prefetch": 4, "timeout_seconds": 2}})
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 1.2}) for n in range(4)]
    supervisor = supervise(prelude="from producer.supervisor import run; run.SLACK = 0.5").ready()
    supervisor.until_count("done", 4)
    assert [[a["state"] for a in project.task(task)["attempts"]] for task in tasks] == [["succeeded"]] * 4
    assert supervisor.stop() == 0
