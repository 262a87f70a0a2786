"""What a request's prompt is made of, and an upper bound of its tokens.

1. A token is at least one byte, so text has no more tokens than bytes; JSON's own signs pay for what the API adds
   around each message.
2. An image costs at most IMAGE_TOKENS whatever its bytes, for the API scales it: its bytes are left out, that is added.
3. A PDF, a file or URL that the API fetches has no bound in its bytes: it is marked UNBOUNDED.
4. Parts (a system block, a tool, a message, any other field) are compared with those of earlier requests. Cache marks
   move from request to request and are left out; so are the fields that are no prompt.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from producer.wire.codec import nesting

DEEPEST = 250  # of JSON; orjson itself takes a few more
IMAGE_TOKENS = 6_000
NOT_PROMPT = ("max_tokens", "metadata", "stream")
LISTS = ("messages", "tools", "system")
MARK_SIZE = 9  # a cache mark is tiny; anything larger under its name is text
IMAGE, UNBOUNDED = "image", "unbounded"


class Part(NamedTuple):
    """One part of a prompt: what identifies it, and its upper bound of tokens. It does not keep the text."""

    digest: bytes
    tokens: int
    unbounded: bool


def parts_of(body: dict[str, Any]) -> Counter[Part]:
    """The parts of a request's prompt, and how often each is there."""
    return Counter(_parts(body))


def tokens_of(parts: Counter[Part]) -> int:
    """An upper bound of the tokens in these parts."""
    return sum(part.tokens * times for part, times in parts.items())


def tokens_beyond(parts: Counter[Part], known: Counter[Part]) -> int | None:
    """An upper bound of the tokens in what is not known; None where there is none."""
    tokens = 0
    for part, times in parts.items():
        if (more := times - known.get(part, 0)) > 0:
            if part.unbounded:
                return None
            tokens += part.tokens * more
    return tokens


def _parts(body: dict[str, Any]) -> Iterator[Part]:
    for key, value in body.items():
        if key in NOT_PROMPT:
            continue
        for part in value if key in LISTS and isinstance(value, list) else [value]:
            media: list[str] = []
            text = as_json([key, _message(part, media) if key == "messages" else _unmarked(part)])
            tokens = len(text) + IMAGE_TOKENS * media.count(IMAGE)
            yield Part(sha256(text).digest(), tokens, UNBOUNDED in media)


def as_json(value: Any) -> bytes:
    """JSON without spaces, in UTF-8, or in ASCII where orjson has no form for it: lone surrogates, huge numbers.

    Raises ValueError.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        if nesting(value, DEEPEST) > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels") from None
        return json.dumps(value, separators=(",", ":")).encode()


def _message(message: Any, media: list[str]) -> Any:
    if isinstance(message, dict) and isinstance(message.get("content"), list):
        return {**message, "content": [_block(block, media) for block in message["content"]]}
    return message


def _block(block: Any, media: list[str]) -> Any:
    """Only real content blocks are lightened: the same shape inside a tool's input is text that the model reads."""
    if not isinstance(block, dict):
        return block
    bare = _unmarked(block)
    source = block.get("source")
    if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
        return {**bare, "content": [_block(inner, media) for inner in block["content"]]}
    if not isinstance(source, dict) or block.get("type") not in ("image", "document"):
        return bare
    if block["type"] == "document" and source.get("type") in ("text", "content"):
        return bare if source["type"] == "text" else {**bare, "source": _message(source, media)}
    media.append(IMAGE if block["type"] == "image" else UNBOUNDED)
    return {**bare, "source": sha256(as_json(source)).hexdigest()}


def _unmarked(part: Any) -> Any:
    mark = part.get("cache_control") if isinstance(part, dict) else None
    if isinstance(mark, dict) and len(mark) <= MARK_SIZE and all(len(str(v)) <= MARK_SIZE for v in mark.values()):
        return {key: value for key, value in part.items() if key != "cache_control"}
    return part
