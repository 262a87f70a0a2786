"""Results on their way to the supervisor: to the outbox, to the socket, and again until one has acknowledged them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from producer.wire.messages import Message, Result
from producer.wire.outbox import Outbox

log = logging.getLogger("producer.worker")
RESEND_AFTER = 10.0


class Push(Protocol):
    """What is needed of the results socket; see wire.sockets.AsyncPush."""

    def post(self, message: Message) -> None:
        """Queue a message."""

    def follow(self) -> None:
        """Go where the supervisor listens now."""


class Deliveries:
    """What a worker has ended and not heard an acknowledgement for. Times are monotonic seconds."""

    def __init__(self, outbox: Outbox, push: Push) -> None:
        self._outbox, self._push = outbox, push
        self._unkept: dict[str, Result] = {}
        self._sent: dict[str, float] = {}
        self._acknowledged = asyncio.Event()

    def attempts(self) -> list[str]:
        """Whose results are still to be acknowledged."""
        return [*self._outbox.attempts(), *self._unkept]

    def deliver(self, result: Result) -> None:
        """Outbox first, then the socket. A disk that refuses must not keep the result from the supervisor."""
        try:
            self._outbox.put(result)
        except OSError as problem:
            log.error("result of %s could not be kept: %s", result.attempt, problem)
            self._unkept[result.attempt] = result
        self._send(result, time.monotonic())

    def acknowledged(self, attempts: Sequence[str]) -> None:
        """These are committed: forget them."""
        self._outbox.remove(*attempts)
        for attempt in attempts:
            self._unkept.pop(attempt, None)
            self._sent.pop(attempt, None)
        self._acknowledged.set()

    def send_all(self) -> None:
        """Send what there is to a supervisor that has just welcomed us."""
        for result in self._results():
            self._send(result, time.monotonic())

    def send_late(self, now: float) -> None:
        """Send again what should have been acknowledged by now."""
        late = [attempt for attempt, at in self._sent.items() if now - at > RESEND_AFTER]
        for result in self._results() if late else ():
            if result.attempt in late:
                self._send(result, now)

    async def settled(self, seconds: float) -> None:
        """Wait until all is acknowledged, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.attempts():
                    self._acknowledged.clear()
                    await self._acknowledged.wait()

    def _send(self, result: Result, now: float) -> None:
        self._sent[result.attempt] = now
        self._push.post(result)

    def _results(self) -> list[Result]:
        """What is not acknowledged: on disk, or where the disk refused, in memory."""
        return [*self._outbox.results(), *self._unkept.values()]
