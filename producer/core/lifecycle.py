"""The life of a task and of an attempt: every legal transition, in two tables.

1. A task is work that is wanted; an attempt is one run of it. A claim puts the task in progress and starts an attempt.
2. What is not in a table is illegal: it raises IllegalTransition and changes nothing.
3. An attempt ends once. A second ending is stale: it is illegal here, so that nobody can act on it.
4. Only work that ran its course costs the task: `retried` and `exhausted` do, `interrupted` (drain, kill switch, usage
   limit, a cap, a supervisor that stops) does not.
5. `done` is final, because others were started on the strength of it. A human may requeue everything else that ended.
6. A task may leave in_progress before its attempt ends (a human kills it, its own agent escalates it). What the attempt
   then reports settles the attempt and its money; the task keeps what was decided, and is claimed again only when
   no attempt of it runs.
7. docs/lifecycle.md is drawn from these tables: `python -m producer.core.lifecycle > docs/lifecycle.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum, auto
from typing import TypeVar

from producer.errors import IllegalTransition


class Outcome(StrEnum):
    """How a run ended, in the words of the wire's Result; `lost` is said by the supervisor alone."""

    SUCCEEDED = auto()
    FAILED = auto()  # worth a retry
    PERMANENT = auto()  # no retry will help
    THROTTLED = auto()  # a usage limit, until a named time
    BUDGET = auto()  # a cap stopped it
    CANCELLED = auto()  # we stopped it
    LOST = auto()  # its worker is gone


class TaskState(StrEnum):
    """Where a task stands; the words of the ledger's `status` column."""

    PENDING = auto()
    IN_PROGRESS = auto()
    DONE = auto()
    FAILED = auto()
    ESCALATED = auto()
    KILLED = auto()


class TaskEvent(StrEnum):
    """What happened to a task."""

    CLAIMED = auto()  # an attempt was started
    COMPLETED = auto()  # its attempt succeeded
    RETRIED = auto()  # its attempt failed and a retry was spent
    INTERRUPTED = auto()  # its attempt was stopped through no fault of the task
    EXHAUSTED = auto()  # no retry is left, or none would help
    FAILED = auto()  # a script that claimed it by itself gave it up (LedgerClient.fail_task)
    REQUEUED = auto()  # a human wants it tried again
    KILLED = auto()  # a human wants it gone
    ESCALATED = auto()  # an agent or a human says that a human must look


class AttemptState(StrEnum):
    """Where an attempt stands. It is born running; every other state is final."""

    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()
    LOST = auto()
    CANCELLED = auto()
    THROTTLED = auto()


class AttemptEvent(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = auto()
    FAILED = auto()
    LOST = auto()
    CANCELLED = auto()
    THROTTLED = auto()


TASK_TRANSITIONS: Mapping[tuple[TaskState, TaskEvent], TaskState] = {
    (TaskState.PENDING, TaskEvent.CLAIMED): TaskState.IN_PROGRESS,
    (TaskState.PENDING, TaskEvent.ESCALATED): TaskState.ESCALATED,
    (TaskState.PENDING, TaskEvent.KILLED): TaskState.KILLED,
    (TaskState.IN_PROGRESS, TaskEvent.COMPLETED): TaskState.DONE,
    (TaskState.IN_PROGRESS, TaskEvent.RETRIED): TaskState.PENDING,
    (TaskState.IN_PROGRESS, TaskEvent.INTERRUPTED): TaskState.PENDING,
    (TaskState.IN_PROGRESS, TaskEvent.EXHAUSTED): TaskState.ESCALATED,
    (TaskState.IN_PROGRESS, TaskEvent.FAILED): TaskState.FAILED,
    (TaskState.IN_PROGRESS, TaskEvent.ESCALATED): TaskState.ESCALATED,
    (TaskState.IN_PROGRESS, TaskEvent.KILLED): TaskState.KILLED,
    (TaskState.FAILED, TaskEvent.REQUEUED): TaskState.PENDING,
    (TaskState.FAILED, TaskEvent.ESCALATED): TaskState.ESCALATED,
    (TaskState.FAILED, TaskEvent.KILLED): TaskState.KILLED,
    (TaskState.ESCALATED, TaskEvent.REQUEUED): TaskState.PENDING,
    (TaskState.ESCALATED, TaskEvent.KILLED): TaskState.KILLED,
    (TaskState.KILLED, TaskEvent.REQUEUED): TaskState.PENDING,
}

ATTEMPT_TRANSITIONS: Mapping[tuple[AttemptState, AttemptEvent], AttemptState] = {
    (AttemptState.RUNNING, event): AttemptState(event.value) for event in AttemptEvent
}


def next_task(state: TaskState, event: TaskEvent, ident: str | None = None) -> TaskState:
    """The state of task ``ident`` after ``event``. Raises IllegalTransition where the table has no such row."""
    try:
        return TASK_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("task", state, event, ident) from None


def next_attempt(state: AttemptState, event: AttemptEvent, ident: str | None = None) -> AttemptState:
    """The state of attempt ``ident`` after ``event``. Raises IllegalTransition: an attempt ends only once."""
    try:
        return ATTEMPT_TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition("attempt", state, event, ident) from None


S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


def _diagram(first: S, states: Iterable[S], table: Mapping[tuple[S, E], S]) -> str:
    """One Mermaid block: events between the same two states share an arrow; what nothing leaves is an end."""
    arrows: dict[tuple[S, S], list[str]] = {}
    for (state, event), after in table.items():
        arrows.setdefault((state, after), []).append(event)
    lines = [f"[*] --> {first}"]
    lines += [f"{state} --> {after}: {', '.join(events)}" for (state, after), events in arrows.items()]
    lines += [f"{state} --> [*]" for state in states if not any(state == source for source, _ in table)]
    return "\n".join(["```mermaid", "stateDiagram-v2", *("    " + line for line in lines), "```"])


def mermaid() -> str:
    """Both tables as a Markdown page: docs/lifecycle.md, without the last line's newline."""
    return f"""# The life of a task and of an attempt

Drawn from the tables in `producer/core/lifecycle.py`; do not edit, but
`python -m producer.core.lifecycle > docs/lifecycle.md`. What is not drawn here is refused.

## Task

{_diagram(TaskState.PENDING, TaskState, TASK_TRANSITIONS)}

`retried` spends one of the role's retries and waits for the backoff; `interrupted` (a drain, the kill switch, a usage
limit, a cap) spends none. `exhausted`: no retry is left, or none would help.

## Attempt

{_diagram(AttemptState.RUNNING, AttemptState, ATTEMPT_TRANSITIONS)}

An attempt ends once; what is reported after that is stale and changes nothing but its cost."""


if __name__ == "__main__":
    import sys

    sys.stdout.write(mermaid() + "\n")
