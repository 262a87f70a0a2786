"""A gateway, a scripted model behind it and a supervisor in memory; all real but the last, on loopback."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from producer import ids, pricing
from producer.core.budget import Cap, Granted, Share, Wait, grant
from producer.core.money import MicroUSD
from producer.gateway import bill, script, serve
from producer.gateway.app import Gateway
from producer.gateway.bill import Bill
from producer.gateway.grants import Attempts, Refused
from producer.gateway.journal import Journal
from producer.gateway.rehearsal import Model
from producer.gateway.upstream import Key, Upstream
from producer.wire import journal as lines
from producer.wire import tokens
from producer.wire.messages import Metered, Open, Reserve

SECRET = bytes(range(32))
HELLO = """
roles:
  code:
    - turns:
        - {text: hello, output_tokens: 50}
"""


def live(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test, with an end in any case."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 90))

    return run


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for a condition, at most so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition did not come about"
        await asyncio.sleep(0.01)


@dataclass
class MemorySupervisor:
    """Grants from one cap by the rules of core.budget, and books each request once."""

    limit: int | None = None
    away: bool = False
    spent: int = 0
    open: dict[str, tuple[str, int]] = field(default_factory=dict)
    waiting: dict[str, tuple[Reserve, asyncio.Future[MicroUSD]]] = field(default_factory=dict)
    booked: dict[str, Metered] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    asked: list[Reserve] = field(default_factory=list)

    async def reserve(self, request: Reserve) -> MicroUSD:
        self.asked.append(request)
        future: asyncio.Future[MicroUSD] = asyncio.get_running_loop().create_future()
        self.waiting[request.request] = (request, future)
        self.review()
        try:
            return await future
        finally:
            self.waiting.pop(request.request, None)

    @property
    def present(self) -> bool:
        return not self.away

    def report(self, record: Metered) -> None:
        assert record.request not in self.booked, "booked twice"
        self.booked[record.request] = record
        self.open.pop(record.request, None)
        self.spent += record.cost
        self.review()

    def closed(self, attempt: str) -> None:
        self.ended.append(attempt)

    def review(self) -> None:
        ahead = 0
        for request, future in [] if self.away else list(self.waiting.values()):
            if future.done():
                continue
            held = sum(amount for _, amount in self.open.values())
            own = sum(amount for attempt, amount in self.open.values() if attempt == request.attempt)
            attempts = {attempt for attempt, _ in self.open.values()} | {r.attempt for r, _ in self.waiting.values()}
            limit = None if self.limit is None else MicroUSD(self.limit)
            cap = Cap("project", limit, MicroUSD(self.spent), MicroUSD(held))
            share = Share(cap, len(attempts), MicroUSD(own), MicroUSD(own), MicroUSD(ahead))
            verdict = grant(request.need, request.floor, [share], others_open=bool(self.open))
            if isinstance(verdict, Granted):
                self.open[request.request] = (request.attempt, verdict.amount)
                future.set_result(verdict.amount)
            elif isinstance(verdict, Wait):
                ahead += request.floor
            else:
                future.set_exception(Refused(verdict.reason))


@dataclass
class Rig:
    """What a test drives."""

    url: str
    gateway: Gateway
    supervisor: MemorySupervisor
    bill: Path
    client: httpx.AsyncClient

    def attempt(self) -> str:
        """A fresh open attempt."""
        ident = ids.new_id()
        self.gateway.attempts.open(Open(attempt=ident, role="code", task=ids.new_id()))
        return ident

    def headers(self, attempt: str) -> dict[str, str]:
        return {"x-api-key": tokens.mint(SECRET, attempt), "anthropic-version": "2023-06-01"}

    async def ask(self, attempt: str, **changes: Any) -> httpx.Response:
        url = f"{self.url}/v1/messages?beta=true"
        return await self.client.post(url, headers=self.headers(attempt), json=body(**changes))

    async def begin(self, attempt: str) -> httpx.Response:
        """A response whose body is still to be read."""
        url = f"{self.url}/v1/messages"
        request = self.client.build_request("POST", url, headers=self.headers(attempt), json=body())
        return await self.client.send(request, stream=True)

    def records(self) -> list[Metered]:
        return list(self.supervisor.booked.values())

    def billed(self) -> int:
        return bill.total(self.bill)

    def journal(self, attempt: str) -> lines.Journal:
        return lines.read(lines.path_of(self.bill.parent / "journal", attempt))


def body(**changes: Any) -> dict[str, Any]:
    """A request as the CLI makes them, in small."""
    prompt = "Project: p\nRole: code\nTask: 01ARZ3NDEKTSV4RRFFQ69G5FAV\nTitle: a title\nPayload: {}\n"
    return {
        "model": "claude-sonnet-5-5",
        "max_tokens": 4096,
        "stream": True,
        "system": [{"type": "text", "text": "you are code", "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        **changes,
    }


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """The data of a streamed response."""
    return [json.loads(line[5:]) for line in response.text.splitlines() if line.startswith("data:")]


@asynccontextmanager
async def rig(tmp_path: Path, play: str = HELLO, limit: int | None = None, **options: Any) -> AsyncIterator[Rig]:
    """Everything, started; ``options`` go to the gateway, but ``upstream`` (another model's URL) and ``key``."""
    model = Model(script.parse(play), Bill(tmp_path / "bill.jsonl", pricing.bundled()))
    (tmp_path / "journal").mkdir(exist_ok=True)
    supervisor, attempts = MemorySupervisor(limit), Attempts()
    async with (
        serve.serving(model.app(), serve.listen()) as behind,
        httpx.AsyncClient(timeout=60, verify=False) as client,
    ):
        upstream = Upstream(options.pop("upstream", behind), options.pop("key", Key()))
        gateway = Gateway(
            upstream=upstream,
            prices=pricing.load(),
            attempts=attempts,
            journal=Journal(tmp_path / "journal", attempts.is_open),
            supervisor=supervisor,
            kill_switch=tmp_path / "kill_switch",
            secret=SECRET,
            open_seconds=0.2,
            **options,
        )
        watcher = asyncio.create_task(gateway.watch_switch())
        async with serve.serving(gateway.app(), serve.listen()) as url:
            yield Rig(url, gateway, supervisor, tmp_path / "bill.jsonl", client)
        watcher.cancel()
        await upstream.close()
