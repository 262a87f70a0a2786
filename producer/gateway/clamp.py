"""How much a request can cost at most, and how to make it cost less.

1. A prompt has no more tokens than prompt.py counts. What it cannot bound makes the plan ``unbounded``: the caller asks
   the API to count, else a whole context window is assumed.
2. A request that repeats parts (system blocks, tools, messages) of an earlier one of its attempt has at most that one's
   actual tokens plus the bytes of the parts that are new, for the same model. The least of all bounds counts.
3. The API's own tools reread the prompt after every use: each allowed use counts a prompt, and what it may bring in.
   A tool of the API's without a known price is refused, like an unknown model.
4. max_tokens is lowered to what was granted, and a thinking budget with it, to at most half of that. Below the floor
   (``least`` tokens, twice that with a thinking budget, or what the client asked for) a request is of no use.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import orjson

from producer.core.money import MicroUSD
from producer.core.pricing import Price, PriceTable
from producer.errors import UnknownModel
from producer.gateway.prompt import Parts, as_json, parts_of, tokens_beyond, tokens_of

CONTEXT_TOKENS = 1_000_000
OVERHEAD_TOKENS = 1_024  # what the API adds for tool use and the like
TYPED_TOOL_TOKENS = 2_000
USE_TOKENS = 30_000
USES = 8
REMEMBERED = 8
LEAST_THINKING = 1_024
CLIENT_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")
ONE_HOUR = b'"ttl":"1h"'  # a cache mark's, in JSON as we write it
REREADING_TOOLS = ("web_search_", "web_fetch_", "tool_search_tool_")


class Invalid(Exception):
    """The request is not one that the Messages API would take."""


@dataclass(frozen=True)
class Plan:
    """A request, priced. Token counts are upper bounds."""

    body: dict[str, Any]
    raw: bytes
    price: Price
    bound: int
    unbounded: bool
    wanted: int
    floor_tokens: int
    cache_1h: bool
    speed: str | None
    geo: str | None
    searches: int
    uses: int
    parts: Parts = field(default_factory=Parts)

    @cached_property
    def need(self) -> MicroUSD:
        """The most that it can cost as it stands."""
        return self._worst(self.wanted)

    @property
    def floor(self) -> MicroUSD:
        """The least that makes it useful."""
        return self.worst(self.floor_tokens)

    def worst(self, max_tokens: int) -> MicroUSD:
        """The most that it can cost with so many output tokens allowed."""
        return self.need if max_tokens == self.wanted else self._worst(max_tokens)

    def _worst(self, max_tokens: int) -> MicroUSD:
        return self.price.worst_case(
            self.bound, max_tokens, cache_1h=self.cache_1h, speed=self.speed, geo=self.geo, searches=self.searches
        )

    def fitting(self, granted: int) -> int:
        """The output tokens that a grant affords, at most what was asked for."""
        if granted >= self.need:
            return self.wanted
        affords = self.price.affordable_output_tokens(
            granted, self.bound, cache_1h=self.cache_1h, speed=self.speed, geo=self.geo, searches=self.searches
        )
        return min(self.wanted, affords)

    def lowered(self, max_tokens: int) -> bytes:
        """The body with no more than so many output tokens; the client's own bytes where nothing changes."""
        if max_tokens >= self.wanted:
            return self.raw
        body = {**self.body, "max_tokens": max_tokens}
        thinking = body.get("thinking")
        if isinstance(thinking, dict) and isinstance(thinking.get("budget_tokens"), int):
            budget = min(thinking["budget_tokens"], max(LEAST_THINKING, max_tokens // 2))
            body["thinking"] = {**thinking, "budget_tokens": budget}
        return as_json(body)

    def counted(self, tokens: int) -> Plan:
        """The same plan once the API counted the prompt; its count is an estimate, so a margin stays."""
        bound = tokens + tokens // 20 + OVERHEAD_TOKENS
        return replace(self, bound=_reread(bound, self.uses), unbounded=False)


class History:
    """What earlier requests of an attempt were made of, and how many tokens that turned out to be."""

    def __init__(self) -> None:
        self._known: deque[tuple[str, Parts, int]] = deque(maxlen=REMEMBERED)

    def learn(self, plan: Plan, prompt_tokens: int) -> None:
        """A request ended, and its prompt had so many tokens. Prompts reread by the API's tools teach nothing."""
        if prompt_tokens > plan.bound:  # a bound that failed once is not built upon
            self._known.clear()
        elif not plan.uses:
            self._known.append((plan.price.model, plan.parts, prompt_tokens))

    def bound(self, model: str, parts: Parts) -> int | None:
        """The least bound that earlier requests to the same model give, None where there is none."""
        new = [(tokens, tokens_beyond(parts, known)) for name, known, tokens in self._known if name == model]
        bounds = [tokens + OVERHEAD_TOKENS + more for tokens, more in new if more is not None]
        return min(bounds, default=None)


def plan(raw: bytes, prices: PriceTable, history: History, least: int) -> Plan:
    """Price a request body. Raises Invalid, or UnknownModel for what has no price."""
    body, text = _parse(raw)
    price = prices.lookup(body["model"])
    speed = _word(body, "speed")
    parts = parts_of(body)
    uses, searches, raw = _uses(body, raw)
    known = None if uses else history.bound(price.model, parts)
    unbounded = bool(parts.unbounded)
    typed = sum(tool.get("type", "custom") != "custom" for tool in _tools(body))
    bound = tokens_of(parts) + OVERHEAD_TOKENS + TYPED_TOOL_TOKENS * typed
    if unbounded:
        bound = max(bound, CONTEXT_TOKENS)
    bound = min(bound, known) if known is not None else bound
    result = Plan(
        body=body,
        raw=raw,
        price=price,
        bound=_reread(bound, uses),
        unbounded=unbounded and known is None,
        wanted=body["max_tokens"],
        floor_tokens=min(body["max_tokens"], least * (2 if _has_budget(body) else 1)),
        cache_1h=text.rfind(ONE_HOUR) >= 0,  # from the end: Python takes a third of the time that `in` takes
        speed=speed,
        geo=_word(body, "inference_geo"),
        searches=searches,
        uses=uses,
        parts=parts,
    )
    _ = result.need  # a speed without a price is found now, not after the call
    return result


def _parse(raw: bytes) -> tuple[dict[str, Any], bytes]:
    """A request, and the same written by us: where `1h` is not hidden as `\\u0031h`."""
    try:
        body, text = _canonical(raw) or _strict(raw)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is not JSON as we take it: {error}") from None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
        raise Invalid("messages: a list is required")
    if not isinstance(body.get("model"), str):
        raise Invalid("model: a name is required")
    if type(body.get("max_tokens")) is not int or body["max_tokens"] < 1:
        raise Invalid("max_tokens: a whole number of at least 1 is required")
    for key in ("mcp_servers", "container"):
        if body.get(key):
            raise UnknownModel(f"{body['model']} with {key}")
    return body, text


def _canonical(raw: bytes) -> tuple[Any, bytes] | None:
    """The value of JSON that is to the byte what we would write for it, as what the CLI sends is; None for other.

    It cannot hold what ``_strict`` refuses, and costs half of it.
    """
    try:
        value = orjson.loads(raw)
        return (value, raw) if orjson.dumps(value) == raw else None
    except (ValueError, TypeError):
        return None


def _strict(raw: bytes) -> tuple[Any, bytes]:
    value = json.loads(raw, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
    return value, as_json(value)  # what cannot be written, for its depth, is refused now and not after the grant


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two values for one key could be one price for us and another for the API."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in an object")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return value


def _word(body: dict[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise Invalid(f"{key}: must be text")
    return value


def _has_budget(body: dict[str, Any]) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and isinstance(thinking.get("budget_tokens"), int)


def _tools(body: dict[str, Any]) -> list[dict[str, Any]]:
    tools = body.get("tools") or []
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _uses(body: dict[str, Any], raw: bytes) -> tuple[int, int, bytes]:
    """How often the API's own tools may run, how many of these are searches (they cost extra), and that body."""
    uses = searches = 0
    changed = False
    for tool in _tools(body):
        kind = tool.get("type", "custom")
        if not isinstance(kind, str) or not kind.startswith(CLIENT_TOOLS + REREADING_TOOLS):
            raise UnknownModel(f"{body['model']} with tool {kind}")
        if not kind.startswith(REREADING_TOOLS):
            continue
        if "max_uses" not in tool and not kind.startswith("tool_search"):
            tool["max_uses"], changed = USES, True
        most = tool.get("max_uses", USES)
        if type(most) is not int or most < 0:
            raise Invalid("tools.max_uses: must be a whole number")
        uses += most
        searches += most if kind.startswith("web_search_") else 0
    return uses, searches, as_json(body) if changed else raw


def _reread(bound: int, uses: int) -> int:
    return bound * (uses + 1) + USE_TOKENS * uses * (uses + 1) // 2
