"""Turns what a claude run says into Progress, and keeps what its Result needs. Knows nothing of the SDK's types.

1. Usage is counted once a message id: the stream's message_start, overwritten by its message_delta (their sum equals
   the CLI's own bill). A response that was not streamed is counted from its message.
2. What crosses the wire is bounded: long texts and inputs are cut, and say so.
3. The prose of an API error is kept apart and never becomes output.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec.structs import asdict

from producer.wire.messages import JsonObject, Progress, Usage
from producer.workers.runner import Emit

LONGEST_TEXT = 8_000
LONGEST_INPUT = 8_000
LONGEST_SUMMARY = 500
Kind = Literal["text", "tool_call", "tool_result", "usage", "retry", "note"]
COUNTERS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
}


@dataclass
class Response:
    """One model response: who gave it and the newest word on its usage."""

    model: str
    usage: dict[str, int] = field(default_factory=dict)
    streamed: bool = False
    told: bool = False


class Listener:
    """Collects one run. ``texts``, ``tool_calls`` and ``usage`` are what the agent produced and used."""

    def __init__(self, attempt: str, emit: Emit, clock: Callable[[], float] = time.time) -> None:
        self._attempt, self._emit, self._clock = attempt, emit, clock
        self._responses: dict[str, Response] = {}
        self._open: str | None = None
        self._calls: dict[str, tuple[str, float]] = {}
        self.texts: list[str] = []
        self.tool_calls = 0
        self.retry_after: float | None = None

    @property
    def productive(self) -> bool:
        """Whether the agent said or did anything."""
        return bool(self.tool_calls or any(text.strip() for text in self.texts))

    @property
    def turns(self) -> int:
        """Model responses so far."""
        return len(self._responses)

    def usage(self) -> dict[str, Usage]:
        """Token counts by model."""
        sums: dict[str, dict[str, int]] = {}
        for response in self._responses.values():
            total = sums.setdefault(response.model, {})
            for name, count in response.usage.items():
                total[name] = total.get(name, 0) + count
        return {model: Usage(**total) for model, total in sums.items()}

    def text(self, text: str) -> None:
        """The agent wrote something."""
        self.texts.append(clean(text))
        self._say("text", text=cut(text, LONGEST_TEXT))

    def tool_call(self, ident: str, name: str, given: JsonObject) -> None:
        """The agent called a tool."""
        self.tool_calls += 1
        self._calls[ident] = (clean(name), self._clock())
        self._say("tool_call", id=ident, name=clean(name), input=bounded(given))

    def tool_result(self, ident: str, ok: bool, content: object) -> None:
        """A tool answered."""
        name, since = self._calls.pop(ident, ("", self._clock()))
        seconds = round(max(0.0, self._clock() - since), 3)
        summary = cut(_flat(content), LONGEST_SUMMARY)
        self._say("tool_result", id=ident, name=name, ok=ok, seconds=seconds, summary=summary)

    def stream(self, event: JsonObject) -> None:
        """A raw event of the model's stream."""
        kind = event.get("type")
        if kind == "message_start":
            message = event.get("message", {})
            self._open = str(message.get("id"))
            response = self._responses.setdefault(self._open, Response(str(message.get("model"))))
            response.streamed = True
            response.usage |= counts(message.get("usage"))
        elif kind == "message_delta" and self._open in self._responses:
            self._responses[self._open].usage |= counts(event.get("usage"))
        elif kind == "message_stop" and self._open in self._responses:
            self._tell(self._responses[self._open])
            self._open = None

    def message(self, ident: str | None, model: str, usage: JsonObject | None) -> None:
        """A whole message of the model: counted only where its stream was not seen."""
        if ident is None or model == "<synthetic>":
            return
        response = self._responses.setdefault(ident, Response(model))
        if not response.streamed:
            response.usage |= counts(usage)

    def retry(self, status: int | None, error: str, delay_seconds: float) -> None:
        """The CLI waits before it asks the model again."""
        if status in (429, 529):
            self.retry_after = delay_seconds
        self._say("retry", status=status, error=clean(error), delay_seconds=round(delay_seconds, 3))

    def note(self, text: str) -> None:
        """Something that a reader of the log should know."""
        self._say("note", text=cut(text, LONGEST_TEXT))

    def finish(self) -> None:
        """Tell the usage of responses that were cut or not streamed."""
        for response in self._responses.values():
            self._tell(response)

    def _tell(self, response: Response) -> None:
        if not response.told and response.usage:
            response.told = True
            usage = Usage(**response.usage)
            self._say("usage", model=response.model, **asdict(usage), cost_micros=None)

    def _say(self, kind: Kind, **data: Any) -> None:
        self._emit(Progress(attempt=self._attempt, kind=kind, data=data, at=self._clock()))


def counts(usage: object) -> dict[str, int]:
    """The API's usage object in our words; what it does not name is left out."""
    if not isinstance(usage, dict):
        return {}
    found = {ours: usage[theirs] for theirs, ours in COUNTERS.items() if isinstance(usage.get(theirs), int)}
    written = usage.get("cache_creation")
    if isinstance(written, dict):
        found["cache_write_5m_tokens"] = int(written.get("ephemeral_5m_input_tokens") or 0)
        found["cache_write_1h_tokens"] = int(written.get("ephemeral_1h_input_tokens") or 0)
    elif isinstance(usage.get("cache_creation_input_tokens"), int):
        found["cache_write_5m_tokens"] = usage["cache_creation_input_tokens"]
    searches = usage.get("server_tool_use")
    if isinstance(searches, dict) and isinstance(searches.get("web_search_requests"), int):
        found["web_searches"] = searches["web_search_requests"]
    return found


def clean(text: str) -> str:
    """Text without lone surrogates, which no message may hold."""
    return text.encode("utf-8", "replace").decode()


def cut(text: str, length: int) -> str:
    """Clean text of at most ``length`` characters and a remark on the rest."""
    text = clean(text)
    return text if len(text) <= length else f"{text[:length]}… ({len(text) - length} more characters)"


def bounded(value: JsonObject) -> JsonObject:
    """A tool's input as it may be sent: as it is, or with long and deep parts cut."""
    small = _shrink(value, 4)
    raw = json.dumps(small)
    return small if len(raw) <= LONGEST_INPUT else {"cut": raw[:LONGEST_INPUT]}


def _shrink(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return cut(value, LONGEST_INPUT // 4)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (dict, list)) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {cut(str(key), 200): _shrink(item, depth - 1) for key, item in list(value.items())[:50]}
    if isinstance(value, list):
        return [_shrink(item, depth - 1) for item in value[:50]]
    return value if isinstance(value, (int, float, bool)) or value is None else cut(str(value), 200)


def _flat(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", part.get("type", ""))) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
