"""The gateway's routes.

    POST /v1/messages                 priced, granted, metered (exchange.py)
    POST /v1/messages/count_tokens    free: passed through
    GET  /v1/models[/ID]              free: passed through
    GET, HEAD / and /health           alive
    anything else                     404

Every route but the last two needs the token of an open attempt, and none passes an armed kill switch. While Claude
Code's login is expired they are told to come back later, as by a usage limit: nothing is spent on tries, and what waits
goes on once somebody has renewed it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from producer import killswitch
from producer.core.pricing import PriceTable
from producer.errors import UnknownModel
from producer.gateway import asgi, clamp, exchange
from producer.gateway.exchange import Exchange
from producer.gateway.grants import Attempt, Attempts, Flow, Supervisor
from producer.gateway.journal import Journal
from producer.gateway.recorder import Recorder
from producer.gateway.upstream import Upstream, passed_back
from producer.wire import tokens

SWITCH_SECONDS = 0.1
OPEN_SECONDS = 30.0
GRANT_SECONDS = 240.0  # the CLI gives a request up that is silent for 300, tries again, and fails the task in the end
_MODEL = re.compile("[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")  # no name may lead to another path of the API
LOGIN_SECONDS = 120.0  # until a task is tried again that found the login expired


@dataclass
class Gateway:
    """Everything that an exchange needs. ``least``: output tokens below which a request is of no use."""

    upstream: Upstream
    prices: PriceTable
    attempts: Attempts
    journal: Journal
    supervisor: Supervisor
    kill_switch: Path
    secret: bytes
    least: int = 1024
    recorder: Recorder | None = None
    open_seconds: float = OPEN_SECONDS
    grant_seconds: float = GRANT_SECONDS
    clock: Callable[[], float] = time.time

    def app(self) -> Starlette:
        """The ASGI application."""
        free = asgi.Bare(self.pass_through)
        return Starlette(
            routes=[
                Route("/v1/messages", asgi.Bare(self.messages), methods=["POST"]),
                Route("/v1/messages/count_tokens", free, methods=["POST"]),
                Route("/v1/models", free, methods=["GET"]),
                Route("/v1/models/{model}", free, methods=["GET"]),
                Route("/", asgi.Bare(_alive), methods=["GET", "HEAD"]),
                Route("/health", asgi.Bare(_alive), methods=["GET", "HEAD"]),
            ]
        )

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages."""
        attempt, raw = await self._admitted(scope, receive, send)
        if attempt is None:
            return None
        try:
            plan = clamp.plan(raw, self.prices, attempt.history, self.least)
        except UnknownModel as error:
            return await asgi.send_error(send, 400, "billing_error", f"ai-producer:unknown-model: {error}")
        except clamp.Invalid as error:
            return await asgi.send_error(send, 400, "invalid_request_error", str(error))
        task = asyncio.current_task()
        assert task is not None
        flow = Flow(task)
        attempt.flows.add(flow)
        gone = asyncio.create_task(_cut_when_gone(flow, receive))
        try:
            await Exchange(self, attempt, plan, flow, scope, send).run()
        finally:
            flow.over.set()
            attempt.flows.discard(flow)
            if self.attempts.forget(attempt):
                self.supervisor.closed(attempt.ident)
            gone.cancel()
        return None

    async def pass_through(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request that costs nothing."""
        name = scope["path_params"].get("model")
        if name is not None and not _MODEL.fullmatch(name):
            return await asgi.send_error(send, 404, "not_found_error", "that is no model's name")
        attempt, raw = await self._admitted(scope, receive, send)
        if attempt is None:
            return None
        query = scope["query_string"].decode("latin-1")
        path = scope["path"] + (f"?{query}" if query else "")
        try:
            async with await self.upstream.send(scope["method"], path, scope["headers"], raw) as response:
                body = await response.read()
        except aiohttp.ClientError as error:
            return await asgi.send_error(send, 502, "api_error", f"upstream: {type(error).__name__}: {error}")
        await asgi.start(send, response.status, passed_back(response))
        return await asgi.piece(send, body, last=True)

    async def watch_switch(self) -> None:
        """Cut what an armed switch forbids, for ever: what waits, and with `now` what streams."""
        while True:
            await asyncio.sleep(SWITCH_SECONDS)
            flows = self.attempts.flows
            state = killswitch.read(self.kill_switch) if flows else None
            for flow in flows if state and state.armed else ():
                if flow.waiting or (state and state.now):
                    flow.cut(exchange.SWITCHED)

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> tuple[Attempt | None, bytes]:
        """The attempt whose token came with the request, and the body; (None, ...) once a refusal was sent."""
        try:
            raw = await asgi.read_body(receive)
        except asgi.TooLarge:
            await asgi.send_error(send, 413, "request_too_large", f"over {asgi.MAX_BODY} bytes")
            return None, b""
        except asgi.Gone:
            return None, b""
        if killswitch.read(self.kill_switch).armed:
            await exchange.refuse_switch(send, self)
            return None, b""
        ident = tokens.verify(self.secret, _token(scope))
        attempt = await self._opened(ident, receive) if ident else None
        if attempt is None:
            await exchange.refuse_closed(send)
        elif problem := self.upstream.missing():
            await exchange.refuse_for_now(send, problem, self.clock() + LOGIN_SECONDS)
            attempt = None
        return attempt, raw

    async def _opened(self, ident: str, receive: Receive) -> Attempt | None:
        """The open attempt, waiting for a supervisor to open it: as long as there is none, and a little longer."""
        if self.attempts.is_open(ident):
            return await self.attempts.wait_for(ident, 0)
        gone = asyncio.ensure_future(asgi.wait_gone(receive))
        try:
            while not gone.done():
                wait = asyncio.ensure_future(self.attempts.wait_for(ident, self.open_seconds))
                await asyncio.wait({wait, gone}, return_when=asyncio.FIRST_COMPLETED)
                if wait.done() and (wait.result() or self.attempts.was_closed(ident) or self.supervisor.present):
                    return wait.result()
                await asgi.cancel(wait)
        finally:
            await asgi.cancel(gone)
        return None


def _token(scope: Scope) -> str:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    token = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
    return token.decode("latin-1")


async def _cut_when_gone(flow: Flow, receive: Receive) -> None:
    await asgi.wait_gone(receive)
    flow.cut(exchange.GONE)


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    await asgi.send_json(send, 200, {"gateway": True})
