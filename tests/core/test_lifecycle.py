"""The two tables, by example and as a machine: whatever happens, the rules at the top of lifecycle.py hold."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from producer.core.lifecycle import (
    ATTEMPT_TRANSITIONS,
    TASK_TRANSITIONS,
    AttemptEvent,
    AttemptState,
    Outcome,
    TaskEvent,
    TaskState,
    next_attempt,
    next_task,
)
from producer.core.retry import RetryPolicy, settle
from producer.errors import IllegalTransition
from producer.wire import messages


def test_the_life_of_a_task_that_fails_once():
    state = TaskState.PENDING
    for event in (TaskEvent.CLAIMED, TaskEvent.RETRIED, TaskEvent.CLAIMED, TaskEvent.COMPLETED):
        state = next_task(state, event)
    assert state is TaskState.DONE


@pytest.mark.parametrize("event", list(TaskEvent))
def test_done_is_final(event):
    with pytest.raises(IllegalTransition):
        next_task(TaskState.DONE, event)


@pytest.mark.parametrize("state", [TaskState.FAILED, TaskState.ESCALATED, TaskState.KILLED])
def test_a_human_may_requeue_whatever_ended_badly(state):
    assert next_task(state, TaskEvent.REQUEUED) is TaskState.PENDING


def test_only_people_move_a_failed_task():
    leaving = {event for state, event in TASK_TRANSITIONS if state is TaskState.FAILED}
    assert leaving == {TaskEvent.REQUEUED, TaskEvent.KILLED, TaskEvent.ESCALATED}


def test_what_is_refused_names_the_task_the_state_and_the_event():
    with pytest.raises(IllegalTransition) as caught:
        next_task(TaskState.KILLED, TaskEvent.CLAIMED, "01J")
    assert (caught.value.kind, caught.value.ident) == ("task", "01J")
    assert (caught.value.state, caught.value.event) == ("killed", "claimed")


@given(st.sampled_from(TaskState), st.sampled_from(TaskEvent))
def test_a_task_event_is_in_the_table_or_raises(state, event):
    if (state, event) in TASK_TRANSITIONS:
        assert next_task(state, event) is TASK_TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition):
            next_task(state, event)


def test_every_task_state_can_be_reached():
    seen, fresh = set(), {TaskState.PENDING}
    while fresh:
        seen |= fresh
        fresh = {after for (before, _), after in TASK_TRANSITIONS.items() if before in seen} - seen
    assert seen == set(TaskState)


def test_an_attempt_ends_exactly_once():
    assert set(ATTEMPT_TRANSITIONS.values()) == set(AttemptState) - {AttemptState.RUNNING}
    for first, second in product(AttemptEvent, AttemptEvent):
        ended = next_attempt(AttemptState.RUNNING, first)
        with pytest.raises(IllegalTransition):
            next_attempt(ended, second, "late")


def test_the_outcomes_are_the_words_of_the_wire():
    assert {outcome.value for outcome in Outcome} == set(get_args(messages.Outcome))


class OneTask(RuleBasedStateMachine):
    """A task, its attempts and the people around it, driven as the supervisor drives them."""

    policy = RetryPolicy(max=2, base_seconds=1.0, cap_seconds=8.0)

    def __init__(self):
        super().__init__()
        self.task, self.attempts, self.retries, self.runs = TaskState.PENDING, [], 0, 0
        self.now, self.not_before = 1000.0, 0.0

    def allowed(self, event):
        return (self.task, event) in TASK_TRANSITIONS

    @property
    def running(self):
        return [at for at, state in enumerate(self.attempts) if state is AttemptState.RUNNING]

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.task is TaskState.PENDING and self.now >= self.not_before and not self.running)
    @rule()
    def claim(self):
        self.task = next_task(self.task, TaskEvent.CLAIMED)
        self.attempts.append(AttemptState.RUNNING)

    @precondition(lambda self: self.running)
    @rule(outcome=st.sampled_from(Outcome), jitter=st.floats(0, 1), reset=st.one_of(st.none(), st.floats(0, 2000)))
    def attempt_ends(self, outcome, jitter, reset):
        before = self.retries
        end = settle(
            outcome, retry_count=self.retries, policy=self.policy, now=self.now, jitter=jitter, until=reset, error="x"
        )
        (at,) = self.running
        self.attempts[at] = next_attempt(self.attempts[at], end.attempt)
        if self.task is not TaskState.IN_PROGRESS:
            return  # a human or its agent decided meanwhile
        self.task = next_task(self.task, end.task)
        self.retries, self.not_before = end.retry_count, end.not_before or 0.0
        self.runs += outcome in (Outcome.FAILED, Outcome.LOST, Outcome.PERMANENT)
        assert self.retries == before + (outcome in (Outcome.FAILED, Outcome.LOST))
        assert (self.task is TaskState.ESCALATED) == (end.reason is not None)

    @precondition(lambda self: self.attempts and not self.running)
    @rule(event=st.sampled_from(AttemptEvent))
    def late_result(self, event):
        before = list(self.attempts)
        with pytest.raises(IllegalTransition):
            next_attempt(self.attempts[-1], event)
        assert self.attempts == before

    @rule(event=st.sampled_from([TaskEvent.KILLED, TaskEvent.ESCALATED, TaskEvent.REQUEUED]))
    def human_acts(self, event):
        before = self.task
        if self.allowed(event):
            self.task = next_task(self.task, event)
            if event is TaskEvent.REQUEUED:
                self.retries = self.runs = 0
        else:
            with pytest.raises(IllegalTransition):
                next_task(self.task, event)
            assert self.task is before

    @invariant()
    def one_run_at_a_time(self):
        assert len(self.running) <= 1
        assert self.task is not TaskState.IN_PROGRESS or self.running

    @invariant()
    def retries_are_bounded(self):
        assert self.retries <= self.policy.max
        assert self.runs <= self.policy.max

    @invariant()
    def backoff_is_bounded(self):
        assert self.not_before <= max(self.now + 60, 2000)


TestOneTask = OneTask.TestCase
