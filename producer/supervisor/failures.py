"""Failures in a burst: so many of one role in so short a time that the kill switch is armed."""

from __future__ import annotations

from collections import defaultdict

from producer.core.guards import Burst, burst
from producer.ids import from_iso, iso
from producer.supervisor.kernel import Kernel


class Failures:
    """Runs inside the batch's transaction. ``burst_roles``: what the brake has to look at."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.burst_roles: set[str] = set()
        self._failures: defaultdict[str, tuple[float, ...]] = defaultdict(tuple)

    def recall(self) -> None:
        """The failures that a supervisor before this one counted, as far as no human has looked since."""
        config, db = self._kernel.config.failure_burst, self._kernel.store.db
        seen = db.value(
            "SELECT max(json_extract(CAST(body AS TEXT), '$.at')) FROM audit WHERE action IN"
            " ('kill_switch_armed_by_producer', 'kill_switch_disarmed', 'kill_switch_released')"
        )
        for role, finished in db.rows(
            "SELECT role, finished_at FROM attempts WHERE state IN ('failed', 'lost') AND finished_at > ?"
            " ORDER BY finished_at",
            max(seen or "", iso(db.now - config.window_seconds)),
        ):
            self._failures[role] = (*self._failures[role], from_iso(finished))[-config.count :]

    def count(self, role: str) -> None:
        """A run of a role failed."""
        policy = Burst(self._kernel.config.failure_burst.count, self._kernel.config.failure_burst.window_seconds)
        now = self._kernel.store.db.now
        self._failures[role] = (*self._failures[role], now)[-policy.count :]
        if burst(self._failures[role], now, policy):
            self._failures[role] = ()
            self.burst_roles.add(role)
