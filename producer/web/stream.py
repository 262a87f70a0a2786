"""GET /api/events: server-sent events, from the hub. Behind the same gates as everything else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from producer.web.answers import problem
from producer.web.bodies import one
from producer.web.hub import MOST_STREAMS, Hub, Stream

HEARTBEAT = 15
SEND_SECONDS = 10.0
SHOWN = ("kind", "at", "role", "task", "attempt", "words", "text")


async def events(request: Request) -> Response:
    """A stream of what happens; ``task``: what agents say and do only of this one."""
    hub: Hub = request.app.state.hub
    last = request.headers.get("last-event-id") or one(request, "after")
    stream = hub.open(one(request, "task"), last)
    if stream is None:
        return problem(429, f"{MOST_STREAMS} pages are open already: close one")
    return EventSourceResponse(
        _told(hub, stream, None if last else hub.now()),
        ping=HEARTBEAT,
        send_timeout=SEND_SECONDS,
        headers={"cache-control": "no-store"},
    )


async def _told(hub: Hub, stream: Stream, begin: str | None) -> AsyncIterator[ServerSentEvent]:
    try:
        yield ServerSentEvent(event="hello", data="{}", id=begin)
        while True:
            entry = await stream.queue.get()
            data = json.dumps({name: entry[name] for name in SHOWN}, ensure_ascii=False)
            yield ServerSentEvent(event="happened", data=data, id=entry["id"])
    finally:
        hub.shut(stream)
