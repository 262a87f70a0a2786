"""What peers send that they should not: an audit row each, but no flood of rows.

A peer that sends nothing else would fill the disk with rows about it. So each of its faults gets at most MOST rows in
PERIOD seconds; how many more there were is one row when that time is over, and when the supervisor goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from producer.supervisor.kernel import Kernel

MOST, PERIOD = 100, 60.0


@dataclass
class _Count:
    since: float
    rows: int = 0
    more: int = 0


class Complaints:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._counts: dict[tuple[str, str], _Count] = {}

    def note(self, action: str, peer: str, *, actor: str = "producer", **detail: Any) -> None:
        """One more fault of a peer."""
        if self.admits(action, peer):
            self._kernel.audit(action, actor=actor, peer=peer, **detail)

    def admits(self, action: str, peer: str) -> bool:
        """Whether one more fault of a peer gets a row; it is counted."""
        count = self._counts.setdefault((action, peer), _Count(self._kernel.monotonic()))
        if count.rows < MOST:
            count.rows += 1
            return True
        count.more += 1
        return False

    def tend(self, *, leaving: bool = False) -> None:
        """Say what was left out of a time that is over; when we are leaving, of all."""
        now = self._kernel.monotonic()
        for (action, peer), count in list(self._counts.items()):
            if leaving or now - count.since >= PERIOD:
                del self._counts[action, peer]
                if count.more:
                    self._kernel.audit(action, peer=peer, more=count.more)
