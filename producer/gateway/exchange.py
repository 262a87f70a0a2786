"""One model request from grant to bill.

    switch -> Reserve -> switch -> journal: Opened -> upstream -> (pieces pass by) -> journal: Metered -> last byte

1. Three things end an exchange early: the client leaves, its attempt is closed, the kill switch is thrown. While it
   waits for money an armed switch is enough; once it has left, only one that says `now`. Each cuts its flow.
2. However it ends, ``settle`` runs exactly once, before the last byte, and what it books is decided in settle.py. The
   supervisor is told right after the piece that had to wait for the journal.
3. Errors of the API pass through with their headers: the CLI knows what to do with them. Only the text of a usage
   limit gets the time of its end (limits.py).
4. Who gets no answer about money is told to come back before the CLI takes the silence for a failure of the task.
5. A refusal of ours has a status that the CLI does not retry, and a text that begins with a marker for the worker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp
from starlette.types import Scope, Send

from producer import ids, killswitch
from producer.core.money import ZERO, MicroUSD
from producer.gateway import asgi, limits
from producer.gateway.clamp import Plan
from producer.gateway.grants import Attempt, Flow, Refused
from producer.gateway.meter import Meter
from producer.gateway.settle import Left, settle
from producer.gateway.upstream import NEVER_LEFT, passed_back
from producer.wire.journal import Opened
from producer.wire.messages import Metered, Reserve

if TYPE_CHECKING:
    from producer.gateway.app import Gateway

log = logging.getLogger(__name__)
GONE, CLOSED, SWITCHED = "gone", "closed", "kill-switch"
CLIENT_GONE = 499
NOBODY = "no supervisor has granted the money for this request in time"
AGAIN_SECONDS = 5.0


class Stopped(Exception):
    """The exchange was ended from outside: ``args[0]`` is gone, closed or kill-switch."""


class Late(Exception):
    """Nobody has answered about the money in time."""


class Exchange:
    """A priced request of one attempt, on its way through ``gateway``."""

    def __init__(self, gateway: Gateway, attempt: Attempt, plan: Plan, flow: Flow, scope: Scope, send: Send) -> None:
        self.gateway, self.attempt, self.plan, self.flow, self.scope = gateway, attempt, plan, flow, scope
        self.request = ids.new_id()
        self.meter = Meter(plan.cache_1h)
        self.granted = MicroUSD(0)
        self.max_tokens = 0
        self.left = Left.NEVER
        self.status = CLIENT_GONE
        self.started = self.asked = self.settled = False
        self.record: Metered | None = None
        self.kept: list[bytes] = []
        self._send = send

    async def run(self) -> None:
        """See it through; never raises for what peers do."""
        try:
            await self._run()
        except Refused as refusal:
            self.settled = True  # a refusal leaves no grant to end
            if refusal.closed:
                return await refuse_closed(self._send)
            await asgi.send_error(self._send, 402, "billing_error", f"ai-producer:budget: {refusal}")
        except Stopped as stop:
            self.settle()
            await self._say_stopped(str(stop))
        except Late:
            self.settle()
            await refuse_for_now(self._send, NOBODY, self.gateway.clock() + AGAIN_SECONDS)
        finally:
            self.settle()
            self._report()

    async def _run(self) -> None:
        """Raises Stopped where it was cut (asyncio says only that its task was cancelled), Refused and Late."""
        try:
            if await self._granted() and await self._noted():
                self.flow.waiting = False
                await self._pump()
        except asyncio.CancelledError:
            if self.flow.why is None:
                raise
            self.flow.task.uncancel()
            raise Stopped(self.flow.why) from None
        finally:
            self.flow.last_words = True

    async def _granted(self) -> bool:
        """Wait for money. Raises Refused, Stopped or Late."""
        if self.plan.unbounded:
            tokens = await self.gateway.upstream.count(self.plan, self.scope["headers"])
            self.plan = self.plan if tokens is None else self.plan.counted(tokens)
        need, floor = self.plan.need, self.plan.floor
        ask = Reserve(request=self.request, attempt=self.attempt.ident, need=need, floor=floor)
        self.asked = True
        self.granted = await self._answer(ask)
        self._check_switch()
        self.max_tokens = self.plan.fitting(self.granted)
        if self.max_tokens < self.plan.floor_tokens:
            self.settle()
            raise Refused(
                f"the grant affords {self.max_tokens} output tokens, of {self.plan.floor_tokens} that are useful"
            )
        return True

    async def _answer(self, ask: Reserve) -> MicroUSD:
        try:
            async with asyncio.timeout(self.gateway.grant_seconds):
                return await self.gateway.supervisor.reserve(ask)
        except TimeoutError:
            raise Late from None

    async def _noted(self) -> bool:
        """The journal's line, before anything leaves."""
        worst = self.plan.worst(self.max_tokens)
        model, at = self.plan.body["model"], self.gateway.clock()
        try:
            self.gateway.journal.opened(
                Opened(request=self.request, attempt=self.attempt.ident, model=model, worst=worst, at=at)
            )
        except OSError as error:
            log.error("journal: %s", error)
            self.settle()
            await asgi.send_error(self._send, 500, "api_error", f"ai-producer:journal: {error}")
            return False
        return True

    async def _pump(self) -> None:
        """Send it and pass the response back, piece by piece."""
        path = self.scope["path"] + (
            "?" + self.scope["query_string"].decode("latin-1") if self.scope["query_string"] else ""
        )
        self.left = Left.SENT
        try:
            body = self.plan.lowered(self.max_tokens)
            response = await self.gateway.upstream.send("POST", path, self.scope["headers"], body)
        except aiohttp.ClientError as error:
            self.left = Left.NEVER if isinstance(error, NEVER_LEFT) else Left.SENT
            self.status = 502
            self.settle()
            return await asgi.send_error(self._send, 502, "api_error", f"upstream: {type(error).__name__}: {error}")
        try:
            self.status = response.status
            await self._pass_back(response)
        except aiohttp.ClientError as error:
            log.warning("%s: the response broke off: %s", self.request, error)
            self.settle()
            if not self.started:
                await asgi.send_error(self._send, 502, "api_error", f"upstream: {type(error).__name__}: {error}")
        finally:
            response.release()
        return None

    async def _pass_back(self, response: aiohttp.ClientResponse) -> None:
        streams = response.headers.get("content-type", "").startswith("text/event-stream")
        if response.status == 200 and streams:
            await self._start(response)
            async for chunk in response.content.iter_any():
                self.meter.feed(chunk)
                self._keep(chunk)
                if self.meter.stopped:
                    self.settle()
                await asgi.piece(self._send, chunk)
            self.settle()
            return await asgi.piece(self._send, b"", last=True)
        body = await response.read()
        self._keep(body)
        if response.status >= 300:
            self.left = Left.FAILED
            if response.status in limits.LIMITED:
                ends = limits.ends_at(response.headers, self.gateway.clock())
                body = body if ends is None else limits.marked(body, ends)
        else:
            self.meter.whole(body)
        self.settle()
        await self._start(response)
        return await asgi.piece(self._send, body, last=True)

    async def _start(self, response: aiohttp.ClientResponse) -> None:
        self.started = True
        await asgi.start(self._send, response.status, passed_back(response))

    def _keep(self, chunk: bytes) -> None:
        if self.gateway.recorder is not None:
            self.kept.append(chunk)

    def settle(self) -> None:
        """Book it, once: in the journal, then with the supervisor."""
        if self.settled or not self.asked:
            return
        self.settled = True
        charge = settle(self.left, self.plan, self.max_tokens, self.meter)
        record = Metered(
            request=self.request, attempt=self.attempt.ident, model=self.plan.body["model"], usage=charge.usage,
            cost=charge.cost, exact=charge.exact, status=self.status, at=self.gateway.clock(),
        )  # fmt: skip
        if charge.cost > max(self.granted, ZERO):
            log.error(
                "%s cost %d micro-dollars, of %d granted: booked in full", self.request, charge.cost, self.granted
            )
        try:
            self.gateway.journal.metered(record)
        except OSError as error:
            log.error("journal: %s", error)
        self.record = record
        asyncio.get_running_loop().call_soon(self._report)  # also where the client does not take the last piece

    def _report(self) -> None:
        """Tell the supervisor, and whoever else wants to know, once."""
        record, self.record = self.record, None
        if record is None:
            return
        self.gateway.supervisor.report(record)
        if self.meter.started and (usage := self.meter.usage()) is not None:
            cached = usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
            self.attempt.history.learn(self.plan, usage.input_tokens + cached)
        if self.gateway.recorder is not None:
            self.gateway.recorder.keep(record, self.plan.raw, b"".join(self.kept))

    def _check_switch(self) -> None:
        if killswitch.read(self.gateway.kill_switch).armed:
            raise Stopped(SWITCHED)

    async def _say_stopped(self, why: str) -> None:
        """Tell the client, where it is there and nothing was sent yet; else the broken stream tells it."""
        if self.started or why == GONE:
            return
        if why == SWITCHED:
            await refuse_switch(self._send, self.gateway)
        else:
            await refuse_closed(self._send)


async def refuse_switch(send: Send, gateway: Gateway) -> None:
    """The answer while the kill switch is armed."""
    reason = killswitch.read(gateway.kill_switch).reason
    text = "ai-producer:kill-switch: armed" + (f": {reason}" if reason else "")
    await asgi.send_error(send, 402, "kill_switch_error", text)


async def refuse_closed(send: Send) -> None:
    """The answer to a token whose attempt is over, or was never opened."""
    await asgi.send_error(send, 403, "permission_error", "ai-producer:closed: no open attempt has this token")


async def refuse_for_now(send: Send, problem: str, again: float) -> None:
    """The answer while no task can help it: later. ``again`` is in epoch seconds; an hour makes the CLI give up."""
    text = f"{problem} ({limits.MARKER}{again:.0f})"
    await asgi.send_error(send, 429, "rate_limit_error", text, {"retry-after": "3600"})
