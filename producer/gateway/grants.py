"""What the gateway wants of a supervisor, and what it keeps about each attempt.

    Reserve  ->  Reply (granted | refused)  ->  the request leaves  ->  Metered  ->  Booked

1. Nothing leaves without a grant, and every grant is ended by exactly one Metered, also where the request never left.
2. Only attempts that the supervisor opened are served. A token that is genuine but not open yet (the gateway just
   started) waits a little; a closed one is refused at once.
3. Closing cuts the attempt's streams; when the last one is settled, Closed is reported, after all its Metered.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Protocol

from producer.core.money import MicroUSD
from producer.gateway.clamp import History
from producer.wire.messages import Metered, Open, Reserve

REMEMBERED = 10_000


class Refused(Exception):
    """The supervisor will not grant the request; the text says which cap and why. ``closed``: its attempt is over."""

    def __init__(self, reason: str, closed: bool = False) -> None:
        self.closed = closed
        super().__init__(reason)


class Supervisor(Protocol):
    """The other end of the link, however it is reached. It may be away: calls wait or queue, none fails for it."""

    async def reserve(self, request: Reserve) -> MicroUSD:
        """Ask for money, and wait for the answer through restarts of the supervisor. Raises Refused."""

    def report(self, record: Metered) -> None:
        """Tell how a request ended, again and again until it is booked."""

    def closed(self, attempt: str) -> None:
        """Tell that no request of the attempt is open, after everything that was reported of it."""

    @property
    def present(self) -> bool:
        """Whether anything was heard of it lately."""


@dataclass(eq=False)
class Flow:
    """One request under way, in the task that makes it. ``waiting``: it has not left yet. ``over``: it has ended.

    ``why`` it was cut; ``last_words``: what is left is to say how it ended, and that is not cut.
    """

    task: asyncio.Task[Any]
    waiting: bool = True
    last_words: bool = False
    why: str | None = None
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def cut(self, reason: str) -> None:
        """End the request now: its task is cancelled, and finds in ``why`` that it was us, and for what reason."""
        if self.why is None and not self.last_words:
            self.why = reason
            self.task.cancel()


@dataclass(eq=False)
class Attempt:
    """An attempt that may spend: its earlier prompts and its open requests."""

    ident: str
    role: str = ""
    history: History = field(default_factory=History)
    flows: set[Flow] = field(default_factory=set)
    closing: bool = False


class Attempts:
    """The attempts that the supervisor opened."""

    def __init__(self) -> None:
        self._open: dict[str, Attempt] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._changed = asyncio.Event()

    def open(self, message: Open) -> None:
        """Accept the attempt's token; idempotent. A closed attempt stays closed."""
        if message.attempt not in self._open and message.attempt not in self._closed:
            self._open[message.attempt] = Attempt(message.attempt, message.role)
            self._wake()

    def close(self, attempt: str) -> bool:
        """Refuse the token from now on and cut its streams. True where no request is open any more."""
        self._closed[attempt] = None
        while len(self._closed) > REMEMBERED:
            self._closed.popitem(last=False)
        self._wake()
        found = self._open.get(attempt)
        if found is None:
            return True
        found.closing = True
        for flow in found.flows:
            flow.cut("closed")
        return self.forget(found)

    def forget(self, attempt: Attempt) -> bool:
        """Drop a closing attempt once its last request is settled. True where it was dropped."""
        if not attempt.closing or attempt.flows:
            return False
        self._open.pop(attempt.ident, None)
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, attempt: str, seconds: float) -> Attempt | None:
        """The attempt, waiting at most so long for it to be opened; None where it is closed, or nobody opened it."""
        deadline = asyncio.get_running_loop().time() + seconds
        while attempt not in self._open and attempt not in self._closed:
            left = deadline - asyncio.get_running_loop().time()
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return None
        found = self._open.get(attempt)
        return None if found is None or found.closing else found

    def was_closed(self, attempt: str) -> bool:
        """Whether the supervisor said that the attempt is over."""
        return attempt in self._closed

    def is_open(self, attempt: str) -> bool:
        """Whether the attempt may still have lines for its journal."""
        return attempt in self._open

    @property
    def names(self) -> list[str]:
        """The open attempts."""
        return list(self._open)

    @property
    def flows(self) -> list[Flow]:
        """Every request under way."""
        return [flow for attempt in self._open.values() for flow in attempt.flows]
