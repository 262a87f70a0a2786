"""Pushes to ntfy, in the courier's own thread.

1. The server is configured; the token comes from the environment and goes to no other host: redirects are refused.
2. JSON publishing (POST to the server's root): the topic, which is a secret, stands in no URL and so in no access log,
   and a title is UTF-8 as it is.
3. During the quiet hours everything but priority max and the audit log's heads, which make no sound, is held, and
   follows at their end.
4. A server that fails or limits us is left alone until it may be asked again; meanwhile nothing else is tried there.
5. A push that is refused for good, or could not be sent for days, is given up, and an audit row says so.
6. A push has SECONDS in all, however slowly a server talks.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal
from zoneinfo import ZoneInfo

from producer.config import ProducerConfig
from producer.core.clock import quiet_until
from producer.core.notice import GIVE_UP_AFTER, Push, answered, manner, message, retry_after, try_again
from producer.core.text import one_line
from producer.ledger.records import Pending
from producer.ledger.views import Reader
from producer.supervisor.kernel import Kernel
from producer.supervisor.notices import wanted
from producer.supervisor.told import Told
from producer.version import __version__

SECONDS = 15.0
ANSWER_BYTES = 2048
STATUS = "ntfy"  # the remembered fact that says how the last push went: {at, ok, error}


@dataclass(frozen=True)
class Answer:
    """What came of one request. ``wish``: seconds that the server wants to be left alone."""

    what: Literal["sent", "again", "never"]
    error: str = ""
    wish: float | None = None


class Pusher:
    """Sends what waits. ``post`` takes (server, message, token) and gives an Answer."""

    def __init__(
        self,
        config: Callable[[], ProducerConfig],
        env: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        post: Callable[[str, dict[str, Any], str | None], Answer] | None = None,
    ) -> None:
        self._config, self._env, self._clock, self._jitter = config, env, clock, jitter
        self._post = post or Post()
        self._leave_alone_until = 0.0

    def deliver(self, due: Sequence[Pending], reader: Reader | None = None) -> Iterator[Told]:
        """Send what is due, event by event; what became of each entry."""
        by_event: defaultdict[str, list[Pending]] = defaultdict(list)
        for entry in due:
            by_event[str(entry.body["event"])].append(entry)
        for event, entries in by_event.items():
            yield from self._event(event, entries)

    def _event(self, event: str, entries: Sequence[Pending]) -> Iterator[Told]:
        config, now = self._config(), self._clock()
        if not wanted(config.notifications, event):  # turned off while it waited
            yield from (Told(entry.id) for entry in entries)
        elif (held := self._held(config, event, now)) is not None:
            yield from (Told(entry.id, "later", held) for entry in entries)
        else:
            yield from self._send(config, event, entries)

    def _held(self, config: ProducerConfig, event: str, now: float) -> float | None:
        zone = ZoneInfo(config.report.timezone) if config.report.timezone else None
        settings = config.notifications
        quiet = quiet_until(now, settings.quiet_hours, zone)
        how = manner(event)
        if quiet is not None and not how.always and (how.priority or settings.priority) != "max":
            return quiet
        return self._leave_alone_until if now < self._leave_alone_until else None

    def _send(self, config: ProducerConfig, event: str, entries: Sequence[Pending]) -> Iterator[Told]:
        settings = config.notifications
        pushes = [Push(event, str(e.body["title"]), str(e.body["text"]), float(e.body["at"])) for e in entries]
        found = message(
            pushes, topic=settings.ntfy_topic, prefix=settings.subject_prefix, priority=settings.priority,
            click=settings.dashboard_url,
        )  # fmt: skip
        answer, now = self._ask(settings.ntfy_server, settings.ntfy_token_env, found), self._clock()
        again = 0.0
        if answer.what == "again":
            again = try_again(now, max(entry.tries for entry in entries), self._jitter(), answer.wish)
        self._leave_alone_until = again
        lost = {
            entry.id
            for entry, push in zip(entries, pushes, strict=True)
            if answer.what == "never" or (answer.what == "again" and now - push.at > GIVE_UP_AFTER)
        }
        then: Callable[[Kernel], None] | None = partial(_remember, answer, now, event, len(lost))
        for entry in entries:
            if answer.what == "sent" or entry.id in lost:
                yield Told(entry.id, then=then)
            else:
                yield Told(entry.id, "again", again, answer.error, then)
            then = None  # once for all of them

    def _ask(self, server: str, variable: str | None, found: dict[str, Any]) -> Answer:
        token = self._env.get(variable, "").strip() if variable else None
        if variable and not token:
            return Answer("never", f"notifications.ntfy_token_env: {variable} is not set")
        try:
            return self._post(server, found, token)
        except Exception as error:  # the network has many ways to fail, and all of them may pass
            return Answer("again", f"{type(error).__name__}: {error}".strip(": "))


def _remember(answer: Answer, now: float, event: str, lost: int, kernel: Kernel) -> None:
    error = one_line(answer.error, 300)
    kernel.store.set_meta(STATUS, json.dumps({"at": now, "ok": answer.what == "sent", "error": error}))
    if lost:
        kernel.audit("push_given_up", event=event, count=lost, error=error)


@dataclass
class Post:
    """The request itself. Its certificates are read once."""

    seconds: float = SECONDS
    _context: ssl.SSLContext | None = field(default=None, repr=False)

    def __call__(self, server: str, found: dict[str, Any], token: str | None) -> Answer:
        """Publish one message. Raises what the network does."""
        return asyncio.run(self._publish(f"{server.rstrip('/')}/", found, token))

    async def _publish(self, url: str, found: dict[str, Any], token: str | None) -> Answer:
        import httpx  # a tenth of a second that a project without pushes need not spend

        if self._context is None:
            self._context = httpx.create_ssl_context()
        headers = {"User-Agent": f"ai-producer/{__version__}"}
        auth = None
        if token and ":" in token:
            auth = httpx.BasicAuth(*token.split(":", 1))
        elif token:
            headers["Authorization"] = f"Bearer {token}"
        async with (
            asyncio.timeout(self.seconds),
            httpx.AsyncClient(verify=self._context, timeout=self.seconds, headers=headers, auth=auth) as client,
            client.stream("POST", url, json=found) as response,
        ):
            what = answered(response.status_code)
            if what == "sent":
                return Answer("sent")
            text = b""
            async for chunk in response.aiter_bytes():
                text += chunk
                if len(text) >= ANSWER_BYTES:
                    break
            error = f"HTTP {response.status_code}: {text[:300].decode(errors='replace')}"
            return Answer(what, error, retry_after(response.headers.get("retry-after"), time.time()))
