"""When a project counts as idle, and when an agent is woken to look what is left to do.

1. Idle: for the threshold nothing ran, nothing was ready, and nothing would have become ready by itself.
2. A stopped project (kill switch, shutdown) is not idle: the time begins anew when it goes on.
3. Idleness is told once; `back online` once, when work of another role than `wakeup` is claimed again.
4. A wake-up is no work: while one waits or runs the spell goes on, untold and uncounted; after it the time begins anew.
5. A wake-up needs the cooldown since the last one to be over, and fewer than `max_done` in a row that filed nothing.
   What sets that count back: a wake-up that filed something, anything else filed or completed, the kill switch turned.
6. A wake-up that is not sent is noted once for each reason in a spell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

WAKEUP = "wakeup"
Verdict: TypeAlias = Literal["done", "queued", "failed"]


@dataclass(frozen=True)
class Seen:
    """One look. ``running``: work runs, or was claimed since the last look; ``coming``: some is ready, or will be."""

    running: bool = False
    coming: bool = False
    waking: bool = False
    stopped: bool = False


@dataclass(frozen=True)
class Spell:
    """What is remembered between looks. ``since``: when it became quiet; ``noted``: reasons for no wake-up."""

    since: float | None = None
    told: bool = False
    noted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ReportIdle:
    """Tell a person; ``seconds`` of quiet so far."""

    seconds: float


@dataclass(frozen=True)
class ReportBack:
    """Tell a person that work goes on."""


@dataclass(frozen=True)
class ConsiderWakeup:
    """Ask ``wake``; ``seconds`` of quiet so far."""

    seconds: float


IdleAction: TypeAlias = ReportIdle | ReportBack | ConsiderWakeup


def look(spell: Spell, seen: Seen, now: float, threshold: float) -> tuple[Spell, tuple[IdleAction, ...]]:
    """One look at ``now`` (monotonic seconds): what is remembered, and what is to be done, in this order."""
    if seen.stopped:
        return replace(spell, since=None), ()
    if seen.running:
        return Spell(), (ReportBack(),) if spell.told else ()
    if seen.coming or seen.waking:
        return replace(spell, since=None), ()
    since = now if spell.since is None else min(spell.since, now)
    quiet = now - since
    if quiet < threshold:
        return replace(spell, since=since), ()
    report = () if spell.told else (ReportIdle(quiet),)
    return replace(spell, since=since, told=True), (ConsiderWakeup(quiet), *report)


@dataclass(frozen=True)
class WakeRules:
    """The configuration's word on wake-ups."""

    enabled: bool = True
    cooldown: float = 7200.0
    max_done: int = 2


@dataclass(frozen=True)
class WakeFacts:
    """``last``: when the last wake-up was sent; ``idle_in_a_row``: wake-ups that filed nothing; ``hindrance``: why a
    wake-up could not run or would be of no use, None where it could."""

    last: float | None = None
    idle_in_a_row: int = 0
    hindrance: str | None = None


@dataclass(frozen=True)
class SendWakeup:
    """File a task for the role `wakeup`."""


@dataclass(frozen=True)
class SkipWakeup:
    """Note why there is no wake-up now. ``until``: seconds since the epoch, where time alone will do."""

    reason: str
    until: float | None = None


def wake(spell: Spell, facts: WakeFacts, rules: WakeRules, now: float) -> tuple[Spell, SendWakeup | SkipWakeup | None]:
    """Whether to wake an agent at ``now`` (seconds since the epoch), in a spell that is long enough."""
    decision = _decide(facts, rules, now)
    if isinstance(decision, SendWakeup):
        return replace(spell, since=None), decision
    if decision is None or decision.reason in spell.noted:
        return spell, None
    return replace(spell, noted=spell.noted | {decision.reason}), decision


def _decide(facts: WakeFacts, rules: WakeRules, now: float) -> SendWakeup | SkipWakeup | None:
    if not rules.enabled:
        return None
    if facts.hindrance:
        return SkipWakeup(facts.hindrance)
    if facts.idle_in_a_row >= rules.max_done:
        return SkipWakeup("suppressed")
    last = facts.last
    if last is not None and last <= now < last + rules.cooldown:  # a last one in the future: the clock was set back
        return SkipWakeup("cooldown", last + rules.cooldown)
    return SendWakeup()


def verdict(completed: bool, filed: int) -> Verdict:
    """What came of a wake-up."""
    if filed:
        return "queued"
    return "done" if completed else "failed"


def idle_in_a_row(verdicts: Iterable[str]) -> int:
    """How many wake-ups in a row filed nothing; ``verdicts`` since the last other reset, newest first."""
    count = 0
    for word in verdicts:
        if word == "queued":
            break
        count += 1
    return count
