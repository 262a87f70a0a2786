"""Watches for a project that has nothing to do: tells a person, and wakes an agent (rules: producer/core/idle.py).

That idleness was told is remembered in the ledger: a supervisor that is restarted does not tell it again, and tells
`back online` for the one before it.
"""

from __future__ import annotations

from producer.core.idle import (
    WAKEUP,
    ConsiderWakeup,
    ReportBack,
    ReportIdle,
    Seen,
    SendWakeup,
    SkipWakeup,
    Spell,
    WakeFacts,
    WakeRules,
    look,
    wake,
)
from producer.ids import iso
from producer.ledger.quiet import Quiet
from producer.ledger.roles import PROJECT, RoleRow
from producer.supervisor.kernel import Kernel
from producer.supervisor.wakeup import Wakeups

MEMORY = "idle"  # the remembered fact: `told` while a person knows that the project is idle
LONGEST_PACE = 1.0
IN_SERVICE = ("ok", "throttled", "capped")  # these go on by themselves
WORDS = {
    "suppressed": "the last wake-ups found nothing to do, so no more are sent until something is filed or done",
    "cooldown": "the last wake-up is not long ago",
    "stuck_work": "ready tasks wait for a role that is out of service",
    "no_role": "there is no role `wakeup`",
}


class Idleness:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._quiet, self._wakeups = kernel, Quiet(kernel.store.db), Wakeups(kernel)
        self._spell = Spell(told=kernel.store.meta(MEMORY) == "told")
        self._newest = self._quiet.newest_attempt()
        self._next = 0.0

    def look(self, *, stopped: bool) -> None:
        """Look, at most once a second. ``stopped``: the kill switch is armed, or the supervisor is leaving."""
        kernel, now = self._kernel, self._kernel.monotonic()
        if now < self._next or kernel.options.once:
            return
        threshold = kernel.config.idle_threshold_polls * kernel.config.poll_interval_seconds
        self._next = now + min(LONGEST_PACE, threshold / 4)
        self._wakeups.settle()
        told = self._spell.told
        self._spell, actions = look(self._spell, self._seen(stopped), now, threshold)
        skipped: str | None = None
        for action in actions:
            match action:
                case ConsiderWakeup(seconds):
                    skipped = self._consider(seconds)
                case ReportIdle(seconds):
                    self._report_idle(seconds, skipped)
                case ReportBack():
                    kernel.notify("back_online", "back online", "work goes on after a time without any")
        if self._spell.told != told:
            kernel.store.set_meta(MEMORY, "told" if self._spell.told else "")

    def _seen(self, stopped: bool) -> Seen:
        newest, before = self._quiet.newest_attempt(), self._newest
        self._newest = newest
        if stopped:
            return Seen(stopped=True)
        if newest != before or self._quiet.running(wakeup=False):
            return Seen(running=True)
        waking = self._quiet.running(wakeup=True) or self._quiet.coming((WAKEUP,))
        return Seen(coming=self._quiet.coming(self._roles(IN_SERVICE) - {WAKEUP}), waking=waking)

    def _roles(self, states: tuple[str, ...]) -> set[str]:
        """Roles in one of these states that have workers."""
        rows = self._kernel.store.roles.all().values()
        return {row.role for row in rows if row.role != PROJECT and row.state in states and row.desired > 0}

    # ---- wake-ups

    def _consider(self, seconds: float) -> str | None:
        """Send a wake-up where it is time; else why not."""
        settings = self._kernel.config.notifications
        rules = WakeRules(
            settings.idle_wakeup_enabled, settings.idle_wakeup_cooldown_seconds,
            settings.idle_wakeup_max_consecutive_done,
        )  # fmt: skip
        if not rules.enabled:
            return None
        facts = WakeFacts(self._quiet.last_wakeup(), self._quiet.idle_in_a_row(rules.max_done), self._hindrance())
        self._spell, decision = wake(self._spell, facts, rules, self._kernel.store.db.now)
        match decision:
            case SendWakeup():
                self._wakeups.send(seconds)
            case SkipWakeup(reason, until):
                self._kernel.audit(
                    "idle_wakeup_skipped", reason=reason, until=None if until is None else iso(until),
                    idle_seconds=int(seconds),
                )  # fmt: skip
                return reason
        return None

    def _hindrance(self) -> str | None:
        rows = self._kernel.store.roles.all()
        mine, project = rows.get(WAKEUP), rows.get(PROJECT)
        if mine is None:
            return "no_role"
        if project and project.state == "capped":
            return "project_capped"
        if mine.state != "ok" or mine.desired < 1:
            return f"role_{mine.state}" if mine.desired else "role_without_workers"
        if any(self._quiet.ready(role) for role in self._out_of_service(rows)):
            return "stuck_work"
        return None

    def _out_of_service(self, rows: dict[str, RoleRow]) -> set[str]:
        return set(rows) - {PROJECT, WAKEUP} - self._roles(IN_SERVICE)

    # ---- telling

    def _report_idle(self, seconds: float, skipped: str | None) -> None:
        stuck, waiting = self._quiet.waiting()
        parts = [f"for {_duration(seconds)} nothing ran and nothing was ready"]
        if waiting:
            parts.append(f"pending: {waiting}")
        if stuck:
            parts.append(f"escalated or failed: {stuck}")
        counts = "; ".join(parts)
        if self._wakeups.open:
            counts += f"; wake-up task {self._wakeups.open}"
        why = f"; no wake-up: {WORDS.get(skipped, skipped.replace('_', ' '))}" if skipped else ""
        self._kernel.notify("idle", "idle", counts + why, push=counts)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
