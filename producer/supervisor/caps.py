"""The caps of a role, a task, a lineage and the project, and the standing that follows from them.

A role at its cap is `capped` until the next UTC day, or until a cap is raised or money comes back: its tasks stay
pending. `*` is the project: at its ceiling every role waits. A task or a lineage that has spent its own budget is
escalated, for no other day will pay for it.
"""

from __future__ import annotations

import sys

from producer.core.budget import Cap, RoleMoney, fitting, role_money, room, soft_crossed
from producer.core.money import ZERO, MicroUSD, format_usd
from producer.core.schedule import RoleState
from producer.ledger.roles import PROJECT, RoleRow
from producer.supervisor.kernel import Kernel

DAY = 86_400.0


class Caps:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._day = kernel.store.accounts.today()
        self._seen = self._spent()

    # ---- the caps themselves

    def role(self, role: str, date: str | None = None) -> Cap:
        """A role's daily cap."""
        found = self._kernel.config.roles.get(role)
        return self._kernel.store.accounts.role_cap(role, found.daily_cap if found else MicroUSD(0), date)

    def project(self, date: str | None = None) -> Cap:
        """The project's daily ceiling."""
        return self._kernel.store.accounts.project_cap(self._kernel.config.budget.project_ceiling, date)

    def own(self, role: str, task: str, root: str) -> list[Cap]:
        """What limits a task itself: its budget and its lineage's, where they are configured."""
        accounts, config = self._kernel.store.accounts, self._kernel.config
        limit, lineage = config.roles[role].max_budget, config.limits.lineage_budget
        caps = [] if limit is None else [accounts.task_cap(task, limit)]
        return caps if lineage is None else [*caps, accounts.lineage_cap(root, lineage)]

    def declare(self) -> None:
        """Write today's caps beside the figures of the budget table."""
        config = self._kernel.config
        for name, role in config.roles.items():
            soft = MicroUSD(int(role.daily_cap * config.budget.soft_cap_ratio))
            self._kernel.store.accounts.set_caps(name, role.daily_cap, soft)

    # ---- admission

    def admits(self, role: str) -> int:
        """How many claims the role's and the project's caps have room for; a role that is spent becomes capped."""
        config = self._kernel.config
        amount = config.roles[role].dispatch_reservation
        limits = [(role, self.role(role), amount, amount), (PROJECT, self.project(), amount, amount)]
        if "producer" in config.roles:
            own = amount if role == "producer" else ZERO
            limits.insert(0, ("producer", self.role("producer"), own, config.producer_reservation))
        count = sys.maxsize
        for name, cap, each, least in limits:
            count = min(count, fitting(cap, each, least))
            if not count:
                self._hold_back(name, [cap], least, 0)
                break
        return count

    def refuse(self, cap: str, role: str, floor: int) -> bool:
        """A model request was refused for want of ``floor``: nothing is dispatched until there is so much room.

        False where the room will be there once others have given back what they hold.
        """
        name = PROJECT if cap == "project" else role
        found = self.project() if name == PROJECT else self.role(role)
        return self._hold_back(name, [found], 0, floor)

    def throttle(self, role: str, until: float, reason: str) -> None:
        """A usage limit was met. What a human or a crash loop did to the role stands above it, and a later end too."""
        row = self._kernel.store.roles.all().get(role)
        longer = row is not None and row.state == "throttled" and (row.until or 0) >= until
        if row and not longer and row.state in ("ok", "throttled"):
            self._kernel.store.roles.set_state(role, "throttled", until=until, reason=reason)

    def comes_back(self, cap: str, role: str, task: str, root: str, floor: int) -> bool:
        """Whether a task's or a lineage's own budget has the room once others have given back what they hold."""
        own = {found.name: found for found in self.own(role, task, root)}
        return cap in own and role_money([own[cap]], max(1, floor)) is RoleMoney.OK

    def tightest(self, role: str) -> tuple[str, MicroUSD]:
        """The cap that leaves a run of the role least, and how much: what is free, and its own reservation."""
        own = self._kernel.config.roles[role].dispatch_reservation
        left = [(cap.name, room([cap], own) or ZERO) for cap in (self.role(role), self.project())]
        return min(left, key=lambda pair: pair[1])

    def _hold_back(self, name: str, caps: list[Cap], amount: int, needed: int) -> bool:
        if role_money(caps, max(amount, needed)) is not RoleMoney.CAPPED:
            return False
        standing = self._kernel.store.roles.all().get(name)
        if standing and standing.state in ("failed", "draining"):
            return True
        cap, kernel = caps[0], self._kernel
        midnight = (kernel.store.db.now // DAY + 1) * DAY
        reason = f"${format_usd(cap.spent)} of ${format_usd(cap.limit or 0)} spent today"
        if kernel.store.roles.set_state(name, "capped", until=midnight, reason=reason, needed=max(amount, needed)):
            who = "the project" if name == PROJECT else f"role {name}"
            kernel.audit("budget_cap", role=name, reason=reason)
            text = f"{reason}; its tasks wait for tomorrow or a higher cap"
            kernel.notify("cap", f"{who} is at its cap", text, push=reason)
        return True

    # ---- what holds roles back now

    def review(self) -> dict[str, RoleRow]:
        """Let go of what has passed (a throttle, a day, a raised cap) and return every role's standing."""
        rows = self._kernel.store.roles.all()
        passed = [row for row in rows.values() if self._has_passed(row)]
        for row in passed:
            self._kernel.store.roles.set_state(row.role, "ok")
        return self._kernel.store.roles.all() if passed else rows

    def _has_passed(self, row: RoleRow) -> bool:
        over = row.until is None or row.until <= self._kernel.store.db.now
        return (row.state == "throttled" and over) or (row.state == "capped" and (over or self._affordable(row)))

    def _affordable(self, row: RoleRow) -> bool:
        cap = self.project() if row.role == PROJECT else self.role(row.role)
        return role_money([cap], row.needed) is RoleMoney.OK

    # ---- warnings

    def look(self) -> None:
        """What was spent since the last look: warn once a day at a soft cap, report a cap that was passed."""
        accounts = self._kernel.store.accounts
        today = accounts.today()
        if today != self._day:
            self._day, self._seen = today, {}
        spent = self._spent()
        if spent == self._seen:
            return
        before, self._seen = self._seen, spent
        for name, now in spent.items():
            self._passed(name, self.project() if name == PROJECT else self.role(name), before.get(name, 0), now)

    def _spent(self) -> dict[str, int]:
        """What the project, and each of its roles, has spent today."""
        day, roles = self._kernel.store.accounts.day(self._day), self._kernel.config.roles
        spent = {name: money for name, (money, _) in day.items() if name in roles}
        return {PROJECT: sum(money for money, _ in day.values()), **spent}

    def _passed(self, name: str, cap: Cap, before: int, now: int) -> None:
        if soft_crossed(cap.limit, self._kernel.config.budget.soft_cap_ratio, before, now):
            self._warn(name, cap)
        if cap.limit is not None and now > cap.limit >= before:
            self._kernel.audit("budget_breach", role=name, spent_micros=cap.spent, cap_micros=cap.limit)
            text = f"${format_usd(cap.spent)} of ${format_usd(cap.limit)} spent today"
            self._kernel.notify("cap", f"{cap.name} passed its cap", text, push=text)

    def _warn(self, name: str, cap: Cap) -> None:
        if self._kernel.store.accounts.warn_once(name):
            text = f"${format_usd(cap.spent)} of ${format_usd(cap.limit or 0)} spent today"
            self._kernel.audit("soft_cap", role=name, spent_micros=cap.spent)
            self._kernel.notify("soft_cap", f"{cap.name} passed its soft cap", text, push=text)


def role_state(row: RoleRow | None) -> RoleState:
    """A role's standing as the scheduler reads it."""
    return RoleState(row.state) if row else RoleState.OK
