"""Notices that the wall clock is set back while the supervisor runs, and shortens what would wait for it.

A clock that is put forward needs nothing: waits end early and are judged anew. Budget days follow the clock.
"""

from __future__ import annotations

from producer.ledger import waits
from producer.supervisor.kernel import Kernel


class WallClock:
    """The wall clock against the monotonic one."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ahead = kernel.clock() - kernel.monotonic()

    def look(self) -> None:
        """Compare with the last look. Inside a transaction."""
        before, self._ahead = self._ahead, self._kernel.clock() - self._kernel.monotonic()
        if before - self._ahead > waits.LEAP:
            waits.set_back(self._kernel.store, before - self._ahead)
