"""A claude process that stands by: started and connected before its task comes, so that the task need not wait for it.

1. It is made for one attempt, whose id, session, token and directories the supervisor chose beforehand; a process
   serves one task. If something else is run first, it goes, and its directory with it.
2. A process that ends while it stands by is started again, each time after twice the wait; one that lived is
   replaced soon.
3. It is part of the worker: nothing of it is left when the worker leaves.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from producer.wire.messages import JsonObject, Reply, TaskMsg
from producer.workers.runner import CallLedger

log = logging.getLogger("producer.worker")
SHORTEST_WAIT = 1.0
LONGEST_WAIT = 60.0
LIVED_SECONDS = 30.0
STDERR_LINES = 20
Tell = Callable[[bool], None]


@dataclass(eq=False)
class Agent:
    """One claude process: its messages, the prompt it waits for, and who answers its ledger calls."""

    prompt: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=STDERR_LINES))
    ledger: CallLedger | None = None
    messages: AsyncIterator[Any] | None = None
    first: asyncio.Future[Any] | None = None

    def begin(self, messages: AsyncIterator[Any]) -> None:
        """Start the process: the SDK does so when its first message is asked for."""
        self.messages, self.first = messages, asyncio.ensure_future(_next(messages))

    async def said(self) -> AsyncIterator[JsonObject]:
        """What the process reads: one message, once there is a prompt. Asked for when it has connected."""
        self.connected.set()
        text = await self.prompt
        yield {
            "type": "user",
            "session_id": "",
            "message": {"role": "user", "content": text},
            "parent_tool_use_id": None,
        }

    async def hear(self) -> Any:
        """The next message of the process. Raises StopAsyncIteration at the end, and what the SDK raises."""
        assert self.messages is not None
        if self.first is None:
            return await anext(self.messages)
        message = await asyncio.shield(self.first)
        self.first = None
        return message

    async def call(self, tool: str, arguments: JsonObject) -> Reply:
        """A ledger call of the agent's."""
        if self.ledger is None:
            return Reply(call="", ok=False, error="no task has begun")
        return await self.ledger(tool, arguments)

    @property
    def alive(self) -> bool:
        """Whether it has not ended or failed, as far as its first message tells."""
        return self.first is not None and not self.first.done()

    async def close(self) -> None:
        """Let go of a process that has been ended."""
        if self.first is not None:
            self.first.cancel()
            await asyncio.gather(self.first, return_exceptions=True)
        if isinstance(self.messages, AsyncGenerator):
            with suppress(Exception):
                await self.messages.aclose()


async def _next(messages: AsyncIterator[Any]) -> Any:
    try:
        return await anext(messages)
    except StopAsyncIteration:  # which no future can carry
        raise EOFError("claude ended without a word") from None


class Standing:
    """At most one process that stands by. ``start`` starts one for a task message, ``end`` ends an attempt's."""

    def __init__(self, start: Callable[[TaskMsg], Agent], end: Callable[[str], Awaitable[None]]) -> None:
        self._start, self._end = start, end
        self._task: TaskMsg | None = None
        self._agent: Agent | None = None
        self._tending: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    def prepare(self, task: TaskMsg, tell: Tell) -> None:
        """Have a process ready for this attempt, for no other. ``tell`` hears when it is, and when it is so no more."""
        if self._task is not None and self._task.attempt == task.attempt:
            return
        self.drop()
        self._task = task
        self._tending = asyncio.ensure_future(self._tend(task, tell))

    def take(self, attempt: str) -> Agent | None:
        """The process that stands by for this attempt; any other goes. None where there is none."""
        task, agent = self._task, self._agent
        if task is None or task.attempt != attempt or agent is None or not agent.alive:
            self.drop(keep=attempt)
            return None
        self._agent = None
        self.drop(keep=attempt)
        return agent

    def drop(self, keep: str | None = None) -> None:
        """Stand by no longer. The directory of the attempt ``keep`` stays: it has begun."""
        task, agent, tending = self._task, self._agent, self._tending
        self._task = self._agent = self._tending = None
        if tending is not None:
            tending.cancel()
        if task is not None:
            going = asyncio.ensure_future(self._dismiss(task, agent, unused=task.attempt != keep))
            self._leaving.add(going)
            going.add_done_callback(self._leaving.discard)

    async def leave(self) -> None:
        """The worker leaves: return once nothing of it is left."""
        self.drop()
        if self._leaving:
            await asyncio.wait(self._leaving)

    async def _dismiss(self, task: TaskMsg, agent: Agent | None, unused: bool) -> None:
        if agent is not None:
            await self._finish(task, agent)
        if unused:
            await asyncio.to_thread(shutil.rmtree, Path(task.config_dir).parent, ignore_errors=True)

    async def _finish(self, task: TaskMsg, agent: Agent) -> None:
        await self._end(task.attempt)
        await agent.close()

    async def _tend(self, task: TaskMsg, tell: Tell) -> None:
        wait = SHORTEST_WAIT
        while True:
            try:
                agent = self._agent = self._start(task)
            except Exception as problem:
                log.warning("no claude process could be started: %s", problem)
            else:
                began = time.monotonic()
                why = await self._watch(agent, tell)
                log.warning("the claude process that stood by has gone: %s", why)
                self._agent = None
                await self._finish(task, agent)
                wait = SHORTEST_WAIT if time.monotonic() - began > LIVED_SECONDS else wait
            tell(False)
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    async def _watch(self, agent: Agent, tell: Tell) -> str:
        """Say when it has connected, and return why it ended."""
        assert agent.first is not None
        connected = asyncio.ensure_future(agent.connected.wait())
        try:
            await asyncio.wait({connected, agent.first}, return_when=asyncio.FIRST_COMPLETED)
            if connected.done():
                tell(True)
            await asyncio.wait({agent.first})
        finally:
            connected.cancel()
        problem = agent.first.exception()
        return " ".join(agent.stderr) or (f"{type(problem).__name__}: {problem}" if problem else "it spoke unasked")
