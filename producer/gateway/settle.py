"""What to book for a model request, however it ended.

    the final usage came                        its cost, exact
    the stream began and broke off              the prompt as counted, and all output that it was allowed, not exact
    it left, and nothing of use came back       the whole worst case, not exact
    it never left, or the API answered an error nothing

The API may go on producing what a cut stream no longer shows, so the second line cannot be less: a cap must hold
whatever the bill says. The allowed output is the lowered max_tokens, not what the client asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto

from msgspec.structs import replace

from producer.core.money import ZERO, MicroUSD
from producer.errors import UnknownModel
from producer.gateway.clamp import Plan
from producer.gateway.meter import Meter
from producer.wire.messages import Usage


class Left(StrEnum):
    """How far a request came: not out of the house, on its way, or answered with an error."""

    NEVER = auto()
    SENT = auto()
    FAILED = auto()


@dataclass(frozen=True)
class Charge:
    """What one request is booked with."""

    usage: Usage
    cost: MicroUSD
    exact: bool


def settle(left: Left, plan: Plan, max_tokens: int, meter: Meter) -> Charge:
    """The charge of a request that ended, after ``max_tokens`` were allowed to it."""
    if left in (Left.NEVER, Left.FAILED):
        return Charge(Usage(), ZERO, True)
    usage = meter.usage()
    if usage is None:
        return _worst(plan, max_tokens)
    if not meter.final:
        rest = {
            "output_tokens": max(max_tokens, usage.output_tokens),
            "web_searches": max(plan.searches, usage.web_searches),
        }
        usage = replace(usage, **rest)
    try:
        cost = plan.price.cost_of(usage, speed=meter.speed or plan.speed, geo=meter.geo or plan.geo)
    except UnknownModel:
        return _worst(plan, max_tokens)
    return Charge(usage, cost, meter.final)


def _worst(plan: Plan, max_tokens: int) -> Charge:
    return Charge(Usage(), plan.worst(max_tokens), False)
