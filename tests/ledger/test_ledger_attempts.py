"""Claiming and settling: once each, and what a human or an agent decided meanwhile stays."""

from __future__ import annotations

import json

import pytest
from ledger_rig import Desk

from producer.core.lifecycle import AttemptEvent, TaskEvent, TaskState
from producer.core.money import MicroUSD
from producer.core.retry import Settlement
from producer.errors import IllegalTransition, UnknownTask
from producer.ledger.attempts import Ending
from producer.ledger.model import Cost
from producer.ledger.views import Reader

DONE = Settlement(AttemptEvent.SUCCEEDED, TaskEvent.COMPLETED, 0)


def test_a_claim_moves_the_task_makes_an_attempt_and_holds_the_money(desk: Desk) -> None:
    task = desk.add(payload={"a": 1})
    claim = desk.claim(task, 250_000, worker="w1")
    assert (claim.task, claim.role, claim.number, claim.payload, claim.retry_count) == (task, "code", 1, {"a": 1}, 0)
    assert (desk.column(task, "status"), desk.column(task, "attempts")) == ("in_progress", 1)
    (run,) = desk.attempts.all_running()
    assert (run.attempt, run.task, run.worker, run.root, run.number) == (claim.attempt, task, "w1", task, 1)
    assert desk.attempts.running(claim.attempt) == desk.attempts.running_of_task(task) == run
    assert desk.accounts.hold(claim.attempt) == (desk.accounts.today(), 250_000, 0)
    assert desk.actions(task) == ["task_inserted", "dispatch"]


@pytest.mark.parametrize("how", ["running", "killed", "done"])
def test_only_a_pending_task_is_claimed_and_a_refused_claim_leaves_nothing(desk: Desk, how: str) -> None:
    task = desk.add()
    if how == "killed":
        with desk.transaction():
            desk.queue.kill(task, "me", "no")
    else:
        attempt = desk.claim(task).attempt
        if how == "done":
            desk.settle(attempt, "succeeded")
    before = desk.db.value("SELECT count(*) FROM attempts"), desk.actions()
    with pytest.raises(IllegalTransition):
        desk.claim(task, 100)
    assert (desk.db.value("SELECT count(*) FROM attempts"), desk.actions()) == before
    with pytest.raises(UnknownTask):
        desk.claim("nobody")


def test_a_success_is_kept_with_what_it_said(desk: Desk) -> None:
    task = desk.add()
    claim = desk.claim(task)
    desk.time.now += 60
    ending = Ending("succeeded", "all is well", output_refs=("a.py",), actual=MicroUSD(7), turns=3, tool_calls=5)
    assert desk.settle(claim.attempt, "succeeded", ending) is TaskState.DONE
    with Reader(desk.db.path) as reader:
        shown = reader.show(task)
    assert (shown["status"], shown["result"], shown["output_refs"]) == ("done", "all is well", ["a.py"])
    assert (shown["actual_cost_usd"], shown["finished_at"]) == ("0.000007", desk.db.stamp)
    (attempt,) = shown["attempts"]
    assert (attempt["state"], attempt["turns"], attempt["tool_calls"]) == ("succeeded", 3, 5)
    assert desk.actions(task)[-1] == "task_completed"


@pytest.mark.parametrize(
    ("outcome", "state", "attempt_state", "retries", "action"),
    [
        ("succeeded", "done", "succeeded", 0, "task_completed"),
        ("failed", "pending", "failed", 1, "task_failed"),
        ("lost", "pending", "lost", 1, "task_failed"),
        ("permanent", "escalated", "failed", 0, "escalation"),
        ("throttled", "pending", "throttled", 0, "task_interrupted"),
        ("budget", "pending", "cancelled", 0, "task_interrupted"),
        ("cancelled", "pending", "cancelled", 0, "task_interrupted"),
    ],
)
def test_each_outcome_leaves_its_mark(
    desk: Desk, outcome: str, state: str, attempt_state: str, retries: int, action: str
) -> None:
    task = desk.add()
    claim = desk.claim(task, 1000)
    assert desk.settle(claim.attempt, outcome) == state
    assert (desk.column(task, "status"), desk.column(task, "retry_count")) == (state, retries)
    assert desk.db.value("SELECT state FROM attempts WHERE id = ?", claim.attempt) == attempt_state
    assert desk.actions(task)[-1] == action
    assert desk.accounts.hold(claim.attempt) is None
    assert desk.attempts.all_running() == []


def test_a_second_outcome_is_stale_it_changes_nothing_and_leaves_a_row(desk: Desk) -> None:
    task = desk.add()
    claim = desk.claim(task, 1000)
    run = desk.attempts.running(claim.attempt)
    assert run is not None
    desk.settle(claim.attempt, "failed")
    before = (
        desk.db.dict("SELECT * FROM tasks"),
        desk.db.dict("SELECT * FROM attempts"),
        desk.accounts.day(desk.db.stamp[:10]),
    )
    with desk.transaction():
        assert desk.attempts.settle(run, DONE, Ending("succeeded", "late")) is None
    assert desk.actions(task)[-1] == "stale_result"
    assert before == (
        desk.db.dict("SELECT * FROM tasks"), desk.db.dict("SELECT * FROM attempts"),
        desk.accounts.day(desk.db.stamp[:10]),
    )  # fmt: skip


def test_a_stale_outcome_does_not_end_the_attempt_that_came_after(desk: Desk) -> None:
    task = desk.add()
    first = desk.claim(task)
    old = desk.attempts.running(first.attempt)
    assert old is not None
    desk.settle(first.attempt, "cancelled")
    second = desk.claim(task)
    with desk.transaction():
        assert desk.attempts.settle(old, DONE, Ending("succeeded")) is None
    assert desk.column(task, "status") == "in_progress"
    assert [run.attempt for run in desk.attempts.all_running()] == [second.attempt]


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled", "permanent"])
@pytest.mark.parametrize("decided", ["killed", "escalated"])
def test_what_was_decided_while_it_ran_stays(desk: Desk, decided: str, outcome: str) -> None:
    task = desk.add()
    child = desk.add("child", dependencies=[task])
    claim = desk.claim(task, 1000)
    with desk.transaction():
        event = TaskEvent.KILLED if decided == "killed" else TaskEvent.ESCALATED
        desk.queue.move(task, event, escalation_reason="because")
    assert desk.settle(claim.attempt, outcome) == decided
    assert (desk.column(task, "status"), desk.column(task, "escalation_reason")) == (decided, "because")
    assert desk.column(child, "open_dependencies") == 1
    assert desk.accounts.hold(claim.attempt) is None
    assert desk.actions(task)[-1] == "attempt_ended" and "task_completed" not in desk.actions(task)


def test_a_wish_to_stop_is_remembered_once(desk: Desk) -> None:
    attempt = desk.claim(desk.add()).attempt
    with desk.transaction():
        assert desk.attempts.cancel(attempt, "first")
        assert not desk.attempts.cancel(attempt, "second")
        assert not desk.attempts.cancel("nobody", "third")
    run = desk.attempts.running(attempt)
    assert run is not None and run.cancel == "first"


# ---- sessions


def test_a_session_is_taken_up_only_where_it_began(desk: Desk) -> None:
    task = desk.add()
    first = desk.claim(task)
    assert not first.resume
    desk.settle(first.attempt, "cancelled")
    second = desk.claim(task)
    assert not second.resume and second.session_id != first.session_id
    with desk.transaction():
        assert desk.attempts.started(second.attempt, second.session_id, False, None)
    desk.settle(second.attempt, "cancelled")
    third = desk.claim(task)
    assert third.resume and third.session_id == second.session_id
    desk.settle(third.attempt, "cancelled")
    assert desk.claim(task).session_id == second.session_id


def test_a_fresh_start_is_the_session_from_then_on_and_says_why(desk: Desk) -> None:
    task = desk.add()
    first = desk.claim(task)
    with desk.transaction():
        desk.attempts.started(first.attempt, "another-session", False, "the transcript was damaged")
    desk.settle(first.attempt, "failed")
    desk.time.now += 3600
    with desk.transaction():
        desk.queue.release_due()
    assert desk.claim(task).session_id == "another-session"
    note = desk.db.value("SELECT detail FROM audit_log WHERE action = 'session_note'")
    assert json.loads(note) == {"note": "the transcript was damaged"}


def test_a_session_is_not_taken_up_where_the_role_does_not_or_has_changed(desk: Desk) -> None:
    task = desk.add()
    first = desk.claim(task)
    with desk.transaction():
        desk.attempts.started(first.attempt, first.session_id, False, None)
    desk.settle(first.attempt, "cancelled")
    second = desk.claim(task, resume=False)
    assert not second.resume and second.session_id != first.session_id
    desk.settle(second.attempt, "cancelled")
    with desk.transaction():
        desk.queue.route(task, "qa", "me")
    assert not desk.claim(task).resume


def test_a_start_that_comes_after_the_end_changes_nothing(desk: Desk) -> None:
    claim = desk.claim(desk.add())
    desk.settle(claim.attempt, "cancelled")
    with desk.transaction():
        assert not desk.attempts.started(claim.attempt, claim.session_id, False, "note")
        assert not desk.attempts.started("nobody", "s", False, None)
    assert "session_note" not in desk.actions()


# ---- costs


def test_a_late_cost_is_not_lost_under_the_next_attempt_of_its_task(desk: Desk) -> None:
    task = desk.add()
    first = desk.claim(task, 1000).attempt
    desk.settle(first, "cancelled")
    second = desk.claim(task, 1000).attempt
    with desk.transaction():
        desk.attempts.book(Cost("r2", second, "m", MicroUSD(5), "gateway"))
        desk.attempts.book(Cost("r1", first, "m", MicroUSD(70), "gateway"))
    desk.settle(second, "succeeded")
    assert desk.column(task, "cost_micros") == 75
    assert dict(desk.db.rows("SELECT id, cost_micros FROM attempts")) == {first: 70, second: 5}


def test_a_cost_is_booked_once_also_when_it_comes_late(desk: Desk) -> None:
    task = desk.add()
    claim = desk.claim(task, 1000)
    tokens = {"input_tokens": 10, "output_tokens": 20, "cache_read_tokens": 0}
    with desk.transaction():
        assert desk.attempts.book(Cost("r1", claim.attempt, "m", MicroUSD(5), "gateway", tokens=tokens))
        assert not desk.attempts.book(Cost("r1", claim.attempt, "m", MicroUSD(5), "gateway"))
        assert not desk.attempts.book(Cost("r2", "nobody", "m", MicroUSD(5), "gateway"))
    desk.settle(claim.attempt, "failed")
    with desk.transaction():
        assert desk.attempts.book(Cost("r3", claim.attempt, "m", MicroUSD(2), "gateway", exact=False))
        assert not desk.attempts.book(Cost("r3", claim.attempt, "m", MicroUSD(2), "gateway"))
    rows = desk.db.rows("SELECT cost_usd, detail FROM audit_log WHERE action = 'cost' ORDER BY id")
    first, second = json.loads(rows[0][1]), json.loads(rows[1][1])
    assert (first["late"], first["exact"], first["tokens"]) == (False, True, {"input_tokens": 10, "output_tokens": 20})
    assert (second["late"], second["exact"]) == (True, False)
    assert [row[0] for row in rows] == [0.000005, 0.000002]
    assert desk.column(task, "cost_micros") == desk.db.value("SELECT cost_micros FROM attempts") == 7
    assert desk.db.rows("SELECT request, input_tokens, output_tokens FROM meter ORDER BY 1") == [
        ("r1", 10, 20),
        ("r3", 0, 0),
    ]
