"""What runs an attempt: the Runner protocol, and the Stop by which an attempt is told to end.

1. A runner takes a task and gives a Result. It reports through ``emit`` (one Started, then Progress) and uses the
   ledger through ``call``. Whatever it raises is a failure of the attempt.
2. A runner that is told to stop returns soon; one that does not is ended by the ladder (see attempt.py).
3. ``quick`` is for a runner that needs no waiting: it answers at once, or says None and ``run`` is used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from producer.wire.messages import JsonObject, Outcome, Progress, Reply, Result, Started, TaskMsg

Emit = Callable[[Progress | Started], None]
CallLedger = Callable[[str, JsonObject], Awaitable[Reply]]


class Stop:
    """Set once, with the reason and the outcome it makes; carries the attempt's last sign of life too."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason = ""
        self.outcome: Outcome = "cancelled"
        self.grace = 0.0
        self.last_sign = time.monotonic()

    def set(self, reason: str, *, outcome: Outcome = "cancelled", grace: float = 5.0) -> None:
        """Ask the attempt to end. ``grace`` is the seconds between TERM and KILL; only the first call counts."""
        if not self._event.is_set():
            self.reason, self.outcome, self.grace = reason, outcome, grace
            self._event.set()

    def is_set(self) -> bool:
        """Whether the attempt was asked to end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return once the attempt was asked to end."""
        await self._event.wait()

    def touch(self) -> None:
        """The attempt gave a sign of life: the no-progress timeout starts again."""
        self.last_sign = time.monotonic()


class Runner(Protocol):
    """Runs attempts, one at a time.

    ``spawns`` says whether a run may start processes, so that a sweep follows it; ``hung`` whether code of a run still
    goes on inside this process although ``run`` has returned.
    """

    spawns: bool
    hung: bool

    async def warm(self) -> None:
        """Prepare what every run needs (imports, probes), before the first task comes."""

    def stand_by(self, task: TaskMsg | None, tell: Callable[[bool], None]) -> None:
        """Have ready what the run of this attempt will need, and nothing for another; None: for none.

        ``task`` has everything but the task itself. ``tell`` hears when it is ready, and when it is so no more.
        """

    async def leave(self) -> None:
        """The worker leaves: keep nothing ready."""

    def quick(self, task: TaskMsg) -> Result | None:
        """The result, where it can be had at once."""

    async def run(self, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
        """Run one attempt to its end."""
