"""What an outcome costs a task, and when it comes back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.lifecycle import AttemptEvent, Outcome, TaskEvent
from producer.core.retry import THROTTLE_SECONDS, RetryPolicy, backoff, settle

POLICY = RetryPolicy(max=3, base_seconds=30.0, cap_seconds=900.0)
NOW = 1_700_000_000.0


def end(outcome, retry_count=0, policy=POLICY, jitter=1.0, **more):
    return settle(outcome, retry_count=retry_count, policy=policy, now=NOW, jitter=jitter, **more)


def test_success_completes_and_costs_nothing():
    done = end("succeeded", retry_count=2)
    assert (done.attempt, done.task, done.retry_count) == (AttemptEvent.SUCCEEDED, TaskEvent.COMPLETED, 2)
    assert (done.not_before, done.failed, done.throttle_until, done.reason) == (None, False, None, None)


@pytest.mark.parametrize("outcome", ["failed", "lost"])
def test_the_third_failure_escalates(outcome):
    ends = [end(outcome, retry_count=n, error="HTTP 500") for n in range(3)]
    assert [e.task for e in ends] == [TaskEvent.RETRIED, TaskEvent.RETRIED, TaskEvent.EXHAUSTED]
    assert [e.retry_count for e in ends] == [1, 2, 3]
    assert [e.not_before and e.not_before - NOW for e in ends] == [30.0, 60.0, None]
    assert all(e.failed and e.attempt == outcome for e in ends)
    assert ends[-1].reason == "failed 3 times: HTTP 500"


def test_a_permanent_error_is_not_tried_again():
    over = end("permanent", error="HTTP 400: prompt is too long")
    assert (over.attempt, over.task, over.retry_count) == (AttemptEvent.FAILED, TaskEvent.EXHAUSTED, 0)
    assert over.failed
    assert over.reason == "no retry would help: HTTP 400: prompt is too long"


@pytest.mark.parametrize("most", [0, 1])
def test_a_patience_of_one_or_none_means_one_run(most):
    over = end("failed", policy=RetryPolicy(max=most))
    assert (over.task, over.retry_count, over.reason) == (TaskEvent.EXHAUSTED, 1, "failed once")


def test_a_usage_limit_holds_the_role_until_its_reset():
    held = end("throttled", until=NOW + 18_000)
    assert (held.attempt, held.task) == (AttemptEvent.THROTTLED, TaskEvent.INTERRUPTED)
    assert held.not_before == held.throttle_until == NOW + 18_000
    assert not held.failed


@pytest.mark.parametrize("until", [None, 0.0, NOW, math.nan, math.inf, -math.inf])
def test_a_useless_reset_time_becomes_a_minute(until):
    assert end("throttled", until=until).throttle_until == NOW + THROTTLE_SECONDS


@pytest.mark.parametrize("outcome", ["budget", "cancelled"])
def test_what_we_stopped_may_go_on_at_once(outcome):
    stopped = end(outcome, retry_count=3)
    assert (stopped.attempt, stopped.task) == (AttemptEvent.CANCELLED, TaskEvent.INTERRUPTED)
    assert (stopped.retry_count, stopped.not_before, stopped.failed) == (3, None, False)


def test_an_unknown_outcome_is_refused():
    with pytest.raises(ValueError, match="finished"):
        end("finished")


policies = st.builds(RetryPolicy, max=st.integers(0, 50), base_seconds=st.floats(0, 1e6), cap_seconds=st.floats(0, 1e6))


@given(policies, st.integers(0, 10_000), st.floats(0, 1))
def test_backoff_is_finite_and_within_the_cap(policy, retries, jitter):
    assert 0 <= backoff(retries, policy, jitter) <= policy.cap_seconds


@given(policies, st.integers(0, 100))
def test_the_longest_backoff_never_shrinks(policy, retries):
    assert backoff(retries, policy, 1.0) <= backoff(retries + 1, policy, 1.0)


@given(st.sampled_from(Outcome), policies, st.integers(0, 60), st.floats(0, 1), st.one_of(st.none(), st.floats()))
def test_only_failures_cost_and_nothing_starts_in_the_past(outcome, policy, retry_count, jitter, until):
    after = end(outcome, retry_count=retry_count, policy=policy, jitter=jitter, until=until)
    assert after.retry_count - retry_count == (outcome in ("failed", "lost"))
    assert after.failed == (outcome in ("failed", "lost", "permanent"))
    assert (after.reason is not None) == (after.task is TaskEvent.EXHAUSTED)
    assert after.not_before is None or NOW <= after.not_before < math.inf


@given(st.sampled_from([Outcome.FAILED, Outcome.LOST]), st.integers(1, 20))
def test_a_task_that_always_fails_runs_as_often_as_its_patience_says(outcome, most):
    policy, retry_count, runs = RetryPolicy(max=most), 0, 1
    while (after := end(outcome, retry_count=retry_count, policy=policy)).task is TaskEvent.RETRIED and runs < 100:
        retry_count, runs = after.retry_count, runs + 1
    assert runs == most
    assert after.retry_count == most
