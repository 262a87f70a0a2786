"""What goes into the ledger and what comes out of it, as plain records.

Those that every task makes are named tuples: they cost a quarter of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from producer.core.lifecycle import TaskState
from producer.core.money import MicroUSD


@dataclass(frozen=True)
class Draft:
    """A task that somebody wants to file. Ids of dependencies may name tasks of the same batch."""

    agent_owner: str
    title: str
    description: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 3
    dependencies: Sequence[str] = ()
    sprint_id: str | None = None
    parent_task_id: str | None = None
    caused_by_task_id: str | None = None
    task_id: str | None = None
    requires_approval: bool = False


@dataclass(frozen=True)
class Filing:
    """On whose behalf tasks are filed: an operator (no attempt), or a running attempt, whose limits then count."""

    actor: str
    attempt: str | None = None
    parent: str | None = None


class Ready(NamedTuple):
    """A task that a worker might take, as it stands in the queue; ``seq`` is its row.

    ``payload`` is None where no JSON object stands there: whoever edits a task with sqlite3 may leave anything.
    """

    task: str
    seq: int
    role: str
    root: str
    status: str
    attempts: int
    title: str
    description: str
    retry_count: int
    actual: int | None
    cost: int
    payload: dict[str, Any] | None


class Prepared(NamedTuple):
    """An attempt whose process was started before there was a task for it: its id, and its session's."""

    attempt: str
    session: str


class Claim(NamedTuple):
    """A task that was just claimed, and its attempt."""

    attempt: str
    task: str
    role: str
    number: int
    title: str
    description: str
    payload: dict[str, Any]
    session_id: str
    resume: bool
    retry_count: int


@dataclass(slots=True)
class Running:
    """An attempt that has not been settled; the ledger keeps it up to date. Money is in micro-dollars.

    ``cost`` and ``task_cost``: booked on the attempt, on its task; ``actual``: what invokers reported for the task;
    ``booked``: whether anything was booked on the attempt, be it nothing. ``held``: what it may still cost, the greater
    of ``base``, what is left of the claim's reservation, and the sum of its open model ``requests``; ``date`` pays;
    ``seq``: the row of the task.
    """

    attempt: str
    task: str
    seq: int
    role: str
    root: str
    worker: str
    number: int
    retry_count: int
    cancel: str | None
    task_status: TaskState
    actual: int | None
    cost: int
    task_cost: int
    booked: bool
    date: str
    base: int
    held: int
    asked: bool = True  # may have made ledger calls, whose answers are kept
    requests: dict[str, int] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        """The sum of its open model requests."""
        return sum(self.requests.values())


class Cost(NamedTuple):
    """One cost to book, once, by its request id."""

    request: str
    attempt: str
    model: str
    amount: MicroUSD
    source: str
    exact: bool = True
    tokens: Mapping[str, int] = MappingProxyType({})


TOKEN_COLUMNS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "web_searches",
)


def total(amounts: Iterable[int]) -> MicroUSD:
    """The sum of amounts of money."""
    return MicroUSD(sum(amounts))
