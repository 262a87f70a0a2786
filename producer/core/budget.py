"""Who may spend what: admission of a claim, and the grant of each model request.

1. A cap is passed by spent + held, never by spent alone: what is held may all be spent.
2. A claim is admitted when every cap has room for its hold. A cap with no room admits nothing, not even a hold of zero.
3. A model request asks for ``need`` (its worst case) and can use ``floor`` or more. It gets at most its attempt's equal
   share of what the cap has not spent, so that one request cannot lock the others out; the floor where the share is
   smaller but the money is free; and what its attempt holds already, for nobody else could use it.
4. Where the floor is not free it waits as long as others may give money back, in the order of asking: what older
   requests wait for (``ahead``) is not taken from under them. So a large request is not starved by small ones.
5. It is refused when no return could ever make the floor fit (unspent < floor), or when nobody is left to give back.
   The oldest request waits for nobody older, so where all wait it is decided: no deadlock. A refused attempt ends and
   gives its hold back; until then it counts among those that may (``others_open``), and the next oldest waits on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum, auto
from functools import cache
from typing import NamedTuple

from producer.core.money import ZERO, MicroUSD, format_usd, round_up


class Cap(NamedTuple):
    """A limit and what stands against it, in micro-dollars. ``limit`` None: no limit. ``held`` counts every hold."""

    name: str
    limit: MicroUSD | None
    spent: MicroUSD = ZERO
    held: MicroUSD = ZERO


@dataclass(frozen=True)
class Refusal:
    """A claim that a cap does not afford now."""

    cap: str
    message: str


@dataclass(frozen=True)
class Share:
    """One attempt's view of a cap: ``running`` attempts share it, this one holds ``own`` of it.

    ``busy`` is the part of ``own`` that backs other open requests of the same attempt; ``ahead`` is the sum of the
    floors of older requests that wait on this cap.
    """

    cap: Cap
    running: int = 1
    own: MicroUSD = ZERO
    busy: MicroUSD = ZERO
    ahead: MicroUSD = ZERO


@dataclass(frozen=True)
class Granted:
    """The request may cost up to ``amount``; the attempt's hold must be at least busy + amount before it leaves."""

    amount: MicroUSD


@dataclass(frozen=True)
class Wait:
    """Ask again when money has come back."""


@dataclass(frozen=True)
class Refused:
    """No wait can help; ``cap`` is the one that stands in the way."""

    reason: str
    cap: str


class RoleMoney(StrEnum):
    """Whether a role's caps still afford a claim once all that is held has come back."""

    OK = auto()
    CAPPED = auto()


def room(caps: Iterable[Cap], own: int = 0) -> MicroUSD | None:
    """What every cap still has free, ``own`` being held by the asker itself. None: no limit. Never below zero."""
    free = [cap.limit - cap.spent - cap.held + own for cap in caps if cap.limit is not None]
    return MicroUSD(max(0, min(free))) if free else None


def fits(cap: Cap, amount: int) -> bool:
    """Whether a cap has room for a hold of ``amount``; one with no room at all has none for a hold of zero."""
    return cap.limit is None or cap.limit - cap.spent - cap.held >= max(1, amount)


def fitting(cap: Cap, amount: int, least: int) -> int:
    """How many claims of ``amount`` fit one after the other, where each needs ``least`` to be free, and not nothing."""
    free = room([cap])
    if free is not None and free < max(1, least):
        return 0
    return sys.maxsize if free is None or not amount else (free - max(1, least)) // amount + 1


def admit(caps: Iterable[Cap], amount: int) -> Refusal | None:
    """None where a hold of ``amount`` fits every cap, else the first cap that refuses."""
    for cap in caps:
        if not fits(cap, amount):
            return Refusal(cap.name, f"{_state(cap)}: no room for a hold of ${format_usd(amount)}")
    return None


def role_money(caps: Iterable[Cap], amount: int) -> RoleMoney:
    """CAPPED where what is spent leaves no room for ``amount``, even with every hold given back.

    ``amount`` is the role's dispatch reservation, or the floor that an attempt was last refused if that is more: else a
    role would be dispatched only to be stopped again.
    """
    settled = [Cap(cap.name, cap.limit, cap.spent) for cap in caps]
    return RoleMoney.CAPPED if admit(settled, amount) else RoleMoney.OK


def grant(need: int, floor: int, shares: Iterable[Share], *, others_open: bool) -> Granted | Wait | Refused:
    """Answer a request that may cost ``need`` and is useful from ``floor`` on, all in micro-dollars.

    ``others_open``: money can come back under these caps, because another request is open (the attempt's own too), or
    another attempt that holds money does not itself wait for some (it works in a tool, or is ending). A grant is
    between min(floor, need) and need. The caller raises the attempt's hold to busy + amount in the same transaction.
    """
    floor = min(floor, need)
    offer, tightest = need, None
    for share in shares:
        cap = share.cap
        if cap.limit is None:
            continue
        if cap.limit - cap.spent < floor:
            return Refused(f"{_state(cap)}: the request needs at least ${format_usd(floor)}", cap.name)
        part = _offer(share, cap.limit, floor)
        if part < offer:
            offer, tightest = part, cap
    if tightest is None or offer >= floor:
        return Granted(MicroUSD(offer))
    if others_open:
        return Wait()
    return Refused(f"{_state(tightest)}: the request needs at least ${format_usd(floor)}", tightest.name)


def soft_crossed(limit: MicroUSD | None, ratio: float, before: int, after: int) -> bool:
    """Whether spending went from below ``ratio`` of ``limit`` to that or more: true once a day for each cap."""
    return limit is not None and before < soft_limit(limit, ratio) <= after


@cache
def soft_limit(limit: MicroUSD, ratio: float) -> MicroUSD:
    """The soft cap: ``ratio`` of a limit, rounded up."""
    return round_up(Decimal(str(ratio)) * limit)


def _offer(share: Share, limit: int, floor: int) -> int:
    """What one cap would give; below ``floor`` (even below zero, after a cap was lowered) it gives nothing yet."""
    cap, idle = share.cap, share.own - share.busy
    free = limit - cap.spent - cap.held + idle
    usable = min(free, max(idle, free - share.ahead))
    fair = (limit - cap.spent) // max(1, share.running) - share.busy
    return min(usable, max(fair, idle, floor))


def _state(cap: Cap) -> str:
    limit = format_usd(cap.limit or 0)
    return f"{cap.name}: ${format_usd(cap.spent)} spent and ${format_usd(cap.held)} held of ${limit}"
