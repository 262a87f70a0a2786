"""What the end of a run means for its task: done, again, later, or a human's.

1. A failure, or a worker that vanished under the task (which may be the task's own fault), counts. The ``max``-th one
   exhausts the task, as in 0.3.x: ``max`` 3 is three runs at most.
2. A permanent error is exhausted at once: the same request would meet the same answer.
3. What we did to the run (cancel, drain, kill switch), what a cap did and what a usage limit did costs no retry.
4. Retries wait: exponential backoff with full jitter (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015), a
   uniform share of min(cap, base * 2**n). Without the jitter, tasks that failed together come back together.
5. A usage limit holds back the whole role until the time that the API named. A time that is absent, past or no number
   becomes ``THROTTLE_SECONDS`` from now, so that a wrong clock cannot make a hot loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from producer.core.lifecycle import AttemptEvent, Outcome, TaskEvent

THROTTLE_SECONDS = 60.0
_DOUBLINGS = 64  # 2**64 base delays are beyond every cap, and still a finite float


@dataclass(frozen=True)
class RetryPolicy:
    """A role's patience: how many failures, and the first and the longest backoff in seconds."""

    max: int = 3
    base_seconds: float = 30.0
    cap_seconds: float = 900.0


class Settlement(NamedTuple):
    """What follows from the end of an attempt; times are seconds since the epoch.

    ``retry_count`` is the task's new count; the task may be claimed from ``not_before`` on (None: at once, as far as
    the caps allow); ``failed`` counts towards the role's failure burst; ``throttle_until`` holds back the whole role;
    ``reason`` says why a human must look, where one must.
    """

    attempt: AttemptEvent
    task: TaskEvent
    retry_count: int
    not_before: float | None = None
    failed: bool = False
    throttle_until: float | None = None
    reason: str | None = None


def backoff(retries: int, policy: RetryPolicy, jitter: float) -> float:
    """Seconds to wait after ``retries`` earlier retries; ``jitter`` is uniform in 0..1."""
    return jitter * min(policy.cap_seconds, policy.base_seconds * 2.0 ** min(retries, _DOUBLINGS))


def settle(
    outcome: Outcome | str,
    *,
    retry_count: int,
    policy: RetryPolicy,
    now: float,
    jitter: float,
    until: float | None = None,
    error: str | None = None,
) -> Settlement:
    """What ``outcome`` means for a task that had ``retry_count`` retries before this run.

    ``until`` is the reset time of a usage limit, ``error`` the run's own words. Raises ValueError for an outcome that
    is none of the wire's words.
    """
    outcome = Outcome(outcome)
    match outcome:
        case Outcome.SUCCEEDED:
            return Settlement(AttemptEvent.SUCCEEDED, TaskEvent.COMPLETED, retry_count)
        case Outcome.FAILED | Outcome.LOST:
            ended = AttemptEvent(outcome.value)
            if retry_count + 1 >= policy.max:
                return _exhausted(ended, retry_count + 1, f"failed {_times(retry_count + 1)}", error)
            again = now + backoff(retry_count, policy, jitter)
            return Settlement(ended, TaskEvent.RETRIED, retry_count + 1, not_before=again, failed=True)
        case Outcome.PERMANENT:
            return _exhausted(AttemptEvent.FAILED, retry_count, "no retry would help", error)
        case Outcome.THROTTLED:
            known = until is not None and math.isfinite(until) and until > now
            reset = until if known else now + THROTTLE_SECONDS
            return Settlement(
                AttemptEvent.THROTTLED, TaskEvent.INTERRUPTED, retry_count, not_before=reset, throttle_until=reset
            )
        case Outcome.BUDGET | Outcome.CANCELLED:
            return Settlement(AttemptEvent.CANCELLED, TaskEvent.INTERRUPTED, retry_count)


def _exhausted(ended: AttemptEvent, retry_count: int, why: str, error: str | None) -> Settlement:
    reason = f"{why}: {error}" if error else why
    return Settlement(ended, TaskEvent.EXHAUSTED, retry_count, failed=True, reason=reason)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
