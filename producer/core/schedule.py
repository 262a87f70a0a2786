"""Which worker is handed how many tasks next, when several roles want some at once.

1. The ledger decides which task of a role is next (priority, then age); this decides whose turn it is to ask.
2. Every free worker of every role gets one task before any gets a second, so that prefetching never takes an urgent
   task from under an idle worker. The worker with the most credit is the emptiest and comes first.
3. Roles take turns: the first worker of each, then the second of each. Who begins moves on with ``turn``, so that a
   tight project cap, or a ``limit`` on one batch, is shared out over time and starves no role.
4. A role that is capped, failed or draining is passed over; a throttled one until its time has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import zip_longest


class RoleState(StrEnum):
    """Whether a role is given work; the words of `status --json`."""

    OK = auto()
    THROTTLED = auto()  # a usage limit, until a time
    CAPPED = auto()  # its money is spent
    FAILED = auto()  # parked: its workers died too often
    DRAINING = auto()  # a human wants it to finish and stop


@dataclass(frozen=True)
class RoleView:
    """A role as the scheduler sees it; ``free``: (worker id, how many more tasks it can take)."""

    name: str
    state: RoleState = RoleState.OK
    until: float | None = None
    free: Sequence[tuple[str, int]] = ()


@dataclass(frozen=True)
class Claim:
    """Claim up to ``n`` of the role's ready tasks for this worker."""

    role: str
    worker: str
    n: int


def claims(roles: Sequence[RoleView], *, now: float, turn: int = 0, limit: int | None = None) -> list[Claim]:
    """What to claim, in this order; at most ``limit`` tasks in all. ``turn`` goes up by one with every call."""
    start = turn % len(roles) if roles else 0
    lanes = [_emptiest_first(role) for role in (*roles[start:], *roles[:start]) if claimable(role, now)]
    dealt = list(_deal(lanes))
    firsts = [Claim(role, worker, 1) for role, worker, _ in dealt]
    rests = [Claim(role, worker, credit - 1) for role, worker, credit in dealt if credit > 1]
    return firsts + rests if limit is None else _cut(firsts + rests, limit)


def claimable(role: RoleView, now: float) -> bool:
    """Whether tasks of the role may be started at ``now``."""
    if role.state is RoleState.THROTTLED:
        return role.until is not None and role.until <= now
    return role.state is RoleState.OK


def _emptiest_first(role: RoleView) -> list[tuple[str, str, int]]:
    free = sorted(role.free, key=lambda entry: -entry[1])
    return [(role.name, worker, credit) for worker, credit in free if credit > 0]


def _deal(lanes: Iterable[list[tuple[str, str, int]]]) -> Iterable[tuple[str, str, int]]:
    return (entry for row in zip_longest(*lanes) for entry in row if entry is not None)


def _cut(wanted: Iterable[Claim], limit: int) -> list[Claim]:
    taken: list[Claim] = []
    for claim in wanted:
        n = min(claim.n, limit)
        if n <= 0:
            break
        taken.append(Claim(claim.role, claim.worker, n))
        limit -= n
    return taken
