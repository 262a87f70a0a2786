"""The few lines of ASGI that the gateway and the scripted model share.

Bodies are read whole (they must be priced before they leave), responses are streamed piece by piece, and the client's
leaving is noticed at once, also while nothing is being sent: that is what Starlette's own responses cannot do.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

MAX_BODY = 64 << 20
Headers = Iterable[tuple[bytes, bytes]]


Call = Callable[[Scope, Receive, Send], Awaitable[None]]


class Bare:
    """Wraps a bare ASGI call as a route's endpoint: Starlette leaves instances alone, and functions not."""

    def __init__(self, call: Call) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the call over as it came."""
        await self._call(scope, receive, send)


class TooLarge(Exception):
    """The request's body is over the limit."""


class Gone(Exception):
    """The client left before its body was complete."""


async def read_body(receive: Receive, limit: int = MAX_BODY) -> bytes:
    """The whole request body. Raises TooLarge, or Gone where the client left."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not message.get("more_body"):
            return b"".join(parts)


async def wait_gone(receive: Receive) -> None:
    """Return when the client has left. Use it only after the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def send_json(send: Send, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
    """A complete JSON response."""
    content = json.dumps(body).encode()
    lines = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    lines += [(name.encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()]
    await start(send, status, lines)
    await piece(send, content, last=True)


async def send_error(
    send: Send, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> None:
    """An error in the shape of the Messages API."""
    await send_json(send, status, {"type": "error", "error": {"type": kind, "message": message}}, headers)


async def start(send: Send, status: int, headers: Headers) -> None:
    """Begin a response."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def piece(send: Send, content: bytes, *, last: bool = False) -> None:
    """Pass on a piece of the body."""
    await send({"type": "http.response.body", "body": content, "more_body": not last})


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they are over; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
