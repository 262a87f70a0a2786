"""Ledger calls of the agent's tools: each Call is matched with its Reply.

A call keeps its id when it is asked again of a new supervisor, so that a supervisor that finds the id in its ledger can
answer it without doing it twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from producer.ids import new_id
from producer.wire.messages import Call, JsonObject, Message, Reply
from producer.workers.runner import CallLedger

ANSWER_SECONDS = 120.0


class Calls:
    """The calls that wait for an answer."""

    def __init__(self, post: Callable[[Message], None], seconds: float = ANSWER_SECONDS) -> None:
        self._post, self._seconds = post, seconds
        self._open: dict[str, tuple[Call, asyncio.Future[Reply]]] = {}

    def of(self, attempt: str) -> CallLedger:
        """The function by which one attempt calls the ledger. It raises TimeoutError, and WireError for too much."""

        async def call(tool: str, arguments: JsonObject) -> Reply:
            asked = Call(call=new_id(), attempt=attempt, tool=cast(Any, tool), arguments=arguments)
            answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
            self._open[asked.call] = (asked, answer)
            try:
                self._post(asked)
                async with asyncio.timeout(self._seconds):
                    return await answer
            finally:
                self._open.pop(asked.call, None)

        return call

    def answered(self, reply: Reply) -> None:
        """A reply came; one that nobody waits for is dropped."""
        asked = self._open.get(reply.call)
        if asked and not asked[1].done():
            asked[1].set_result(reply)

    def ask_again(self) -> None:
        """There is a new supervisor, or what was said may have been lost: put every open question again."""
        for asked, _ in self._open.values():
            self._post(asked)

    def forget(self, attempt: str) -> None:
        """The attempt is over: nobody waits any more."""
        for asked, answer in list(self._open.values()):
            if asked.attempt == attempt:
                answer.cancel()
