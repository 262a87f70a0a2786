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
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from producer.wire.codec import nesting

DEEPEST = 250  # of JSON; orjson itself takes a few more
IMAGE_TOKENS = 6_000
NOT_PROMPT = ("max_tokens", "metadata", "stream")
LISTS = ("messages", "tools", "system")
MARK_SIZE = 9  # a cache mark is tiny; anything larger under its name is text
IMAGE, UNBOUNDED = "image", "unbounded"


@dataclass(frozen=True)
class Parts:
    """The parts of a prompt: by what identifies one, its upper bound of tokens; and which have none.

    It does not keep the text. What is there a second time is a part of its own, new where it was there but once.
    """

    tokens: dict[bytes, int] = field(default_factory=dict)
    unbounded: set[bytes] = field(default_factory=set)


def parts_of(body: dict[str, Any]) -> Parts:
    """The parts of a request's prompt."""
    parts, again = Parts(), Counter[bytes]()
    for text, media in _texts(body):
        ident = sha256(text + " ".join(media).encode() if media else text).digest()
        if ident in parts.tokens:
            again[ident] += 1
            ident += b"%d" % again[ident]
        parts.tokens[ident] = len(text) + IMAGE_TOKENS * media.count(IMAGE)
        if UNBOUNDED in media:
            parts.unbounded.add(ident)
    return parts


def tokens_of(parts: Parts) -> int:
    """An upper bound of the tokens in these parts."""
    return sum(parts.tokens.values())


def tokens_beyond(parts: Parts, known: Parts) -> int | None:
    """An upper bound of the tokens in what is not known; None where there is none."""
    new = set(parts.tokens).difference(known.tokens)
    return None if new & parts.unbounded else sum(map(parts.tokens.__getitem__, new))


def _texts(body: dict[str, Any]) -> Iterator[tuple[bytes, list[str]]]:
    """The text of each part, and the media that were left out of it."""
    for key, value in body.items():
        if key in NOT_PROMPT:
            continue
        for part in value if key in LISTS and isinstance(value, list) else [value]:
            media: list[str] = []
            yield as_json([key, _message(part, media) if key == "messages" else _unmarked(part)]), media


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
    bare, kind = _unmarked(block) if "cache_control" in block else block, block.get("type")
    if kind == "tool_result" and isinstance(block.get("content"), list):
        return {**bare, "content": [_block(inner, media) for inner in block["content"]]}
    if kind not in ("image", "document") or not isinstance(source := block.get("source"), dict):
        return bare
    if kind == "document" and source.get("type") in ("text", "content"):
        return bare if source["type"] == "text" else {**bare, "source": _message(source, media)}
    media.append(IMAGE if kind == "image" else UNBOUNDED)
    return {**bare, "source": sha256(as_json(source)).hexdigest()}


def _unmarked(part: Any) -> Any:
    mark = part.get("cache_control") if isinstance(part, dict) else None
    if isinstance(mark, dict) and len(mark) <= MARK_SIZE and all(len(str(v)) <= MARK_SIZE for v in mark.values()):
        return {key: value for key, value in part.items() if key != "cache_control"}
    return part
