"""Reads what a response costs while it passes by.

1. A stream: `message_start` brings the prompt's usage, each `message_delta` overwrites what it names (its counts are
   cumulative), `message_stop` ends it. The usage is final once a stop reason came with it.
2. A whole response carries its usage in the body.
3. Counts that are no whole numbers, or more than a response can have, are as good as none: it then counts as cut (see
   settle.py). Nothing that the other end says, of whatever shape, may end in an error here: it must be booked.
"""

from __future__ import annotations

import json
from typing import Any

from producer.wire.messages import Usage

_TELLING = b'"message_'
_MOST = 10**9


class Meter:
    """Feed it the response's bytes, in order. ``cache_1h``: count cache writes of unsaid length as one-hour ones."""

    def __init__(self, cache_1h: bool = False) -> None:
        self.started = False
        self.final = False
        self.stopped = False
        self._raw: dict[str, Any] = {}
        self._rest = b""
        self._cache_1h = cache_1h

    @property
    def speed(self) -> str | None:
        """The speed that the API says it served at."""
        return _word(self._raw.get("speed"))

    @property
    def geo(self) -> str | None:
        """The region that the API says it served from."""
        return _word(self._raw.get("inference_geo"))

    def feed(self, chunk: bytes) -> None:
        """A piece of an event stream."""
        text = self._rest + chunk
        if _TELLING not in text:  # most pieces tell nothing of the cost
            self._rest = text[text.rfind(b"\n") + 1 :]
            return
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and _TELLING in line:
                self._event(line[5:])

    def whole(self, body: bytes) -> None:
        """A complete response that was not streamed."""
        message = _object(body)
        if message.get("type") == "message" and isinstance(message.get("usage"), dict):
            self._raw = message["usage"]
            self.started = self.final = self.stopped = True

    def usage(self) -> Usage | None:
        """The counts known so far; None where there are none, or they make no sense."""
        raw = self._raw
        if not self.started or not raw.keys() & {"input_tokens", "output_tokens"}:
            return None
        split = _dict(raw.get("cache_creation"))
        counts = {
            "input_tokens": raw.get("input_tokens", 0),
            "output_tokens": raw.get("output_tokens", 0),
            "cache_read_tokens": raw.get("cache_read_input_tokens") or 0,
            "cache_write_5m_tokens": split.get("ephemeral_5m_input_tokens") or 0,
            "cache_write_1h_tokens": split.get("ephemeral_1h_input_tokens") or 0,
            "web_searches": _dict(raw.get("server_tool_use")).get("web_search_requests") or 0,
        }
        written = raw.get("cache_creation_input_tokens") or 0
        if not all(type(count) is int and 0 <= count <= _MOST for count in (*counts.values(), written)):
            return None
        unsaid = written - counts["cache_write_5m_tokens"] - counts["cache_write_1h_tokens"]
        counts["cache_write_1h_tokens" if self._cache_1h else "cache_write_5m_tokens"] += max(0, unsaid)
        return Usage(**counts)

    def _event(self, data: bytes) -> None:
        event = _object(data)
        kind = event.get("type")
        if kind == "message_start":
            self._take(_dict(event.get("message")).get("usage"))
            self.started = True
        elif kind == "message_delta":
            self._take(event.get("usage"))
            self.final = self.final or bool(_dict(event.get("delta")).get("stop_reason"))
        elif kind == "message_stop":
            self.stopped = True

    def _take(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._raw = {**self._raw, **{key: value for key, value in usage.items() if value is not None}}


def _object(data: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except (ValueError, RecursionError):
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) else None if value is None else "unheard-of"
