"""Notices that the wall clock was set back, now or while no supervisor ran, and shortens what would wait for it.

A clock that is put forward needs nothing: waits end early and are judged anew. Budget days follow the clock.
"""

from __future__ import annotations

from producer.ledger import waits
from producer.supervisor.kernel import Kernel

LEAP = 30.0  # seconds; less is how clocks are kept right, and no wait suffers by it


class WallClock:
    """The wall clock against the monotonic one. Call both inside a transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ahead = kernel.clock() - kernel.monotonic()

    def begin(self) -> None:
        """Compare with the last moment that the ledger knows."""
        last = waits.last_moment(self._kernel.store)
        self._heed(0.0 if last is None else last - self._kernel.clock())

    def look(self) -> None:
        """Compare with the last look."""
        before, self._ahead = self._ahead, self._kernel.clock() - self._kernel.monotonic()
        self._heed(before - self._ahead)

    def _heed(self, back: float) -> None:
        if back > LEAP:
            waits.set_back(self._kernel.store, back)
