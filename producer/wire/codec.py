"""Frames to messages and back, strictly.

A message is `PRD1`, its type and a JSON object. Messages for one peer that leave together share one `PRD1`, and then
come type, object, type, object, at most BATCH of them. What comes in is refused, never repaired: another major version,
a body over 1 MiB, JSON with NaN, an infinity (also as 1e999), duplicate keys, lone surrogates or more than 32 levels,
fields of another type. A type that this version does not know decodes to None, for the caller to log and drop. What
would be refused there is not sent: an answer that never comes is worse than an error.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec

from producer.errors import WireError
from producer.wire.messages import TYPES, Message

MAGIC = b"PRD1"
MAX_BODY = 1 << 20
MAX_DEPTH = 32
BATCH = 64  # messages that travel as one
M = TypeVar("M", bound=Message)
_encoder = msgspec.json.Encoder()
_names = {cls: name.encode() for name, cls in TYPES.items()}
_types = {name.encode(): (cls, msgspec.json.Decoder(cls)) for name, cls in TYPES.items()}
_where = re.compile(r" - at `\$\.?(.*)`$|missing required field `(\w+)`")


def encode(message: Message) -> list[bytes]:
    """The three frames of a message. Raises WireError for one that ``decode`` would not take."""
    return [MAGIC, _names[type(message)], body_of(message)]


def body_of(message: Message) -> bytes:
    """A message as JSON. Raises WireError where the other end would refuse it."""
    cls = type(message)
    try:
        body = _encoder.encode(message)
        _types[_names[cls]][1].decode(body)
    except (msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
        raise WireError(f"{cls.__name__} is not as it should be: {error}") from None
    if len(body) > MAX_BODY:
        raise WireError(f"{cls.__name__} is {len(body)} bytes, over the limit of {MAX_BODY}")
    if _maybe_deep(body) and nesting(json.loads(body)) > MAX_DEPTH:
        raise WireError(f"{cls.__name__} is nested deeper than {MAX_DEPTH} levels")
    return body


def apart(frames: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The frames of each of the messages that came as one; what is not of that form comes as it is, to be refused."""
    if len(frames) % 2 == 0 or not 3 < len(frames) <= 1 + 2 * BATCH:
        yield frames
    else:
        for start in range(1, len(frames), 2):
            yield (frames[0], frames[start], frames[start + 1])


def decode(frames: Sequence[bytes]) -> Message | None:
    """The message in three frames, None for an unknown type. Raises WireError saying what is wrong."""
    if len(frames) != 3:
        raise WireError(f"a message has 3 frames, not {len(frames)}")
    magic, name, body = frames
    if magic != MAGIC:
        raise WireError(f"protocol {magic[:8]!r} is not {MAGIC.decode()}")
    known = _types.get(name)
    if known is None:
        return None
    cls, decoder = known
    try:
        return _canonical(decoder, body) or msgspec.convert(strict_json(body), cls)
    except msgspec.ValidationError as error:
        raise WireError(_named(cls, str(error))) from None


def read(cls: type[M], body: bytes) -> M:
    """The message of a known type that ``body_of`` wrote, from a file of ours. Raises WireError."""
    message = decode([MAGIC, _names[cls], body])
    assert isinstance(message, cls)
    return message


def _named(cls: type[Message], problem: str) -> str:
    """What is wrong with a message, beginning with the field it is wrong with."""
    found = _where.search(problem)
    where = next(filter(None, found.groups()), "") if found else ""
    return f"{cls.__name__}.{where}: {problem}" if where else f"{cls.__name__}: {problem}"


def _canonical(decoder: msgspec.json.Decoder[M], body: bytes) -> M | None:
    """The message, where the body is to the byte what we ourselves would write for it; else None, and it is looked at.

    Such a body cannot hold anything that strict_json refuses but depth, and costs a tenth of it.
    """
    if len(body) > MAX_BODY or _maybe_deep(body):
        return None
    try:
        message = decoder.decode(body)
        return message if _encoder.encode(message) == body else None
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def strict_json(body: bytes, limit: int = MAX_BODY) -> Any:
    """Parse JSON of at most ``limit`` bytes. Raises WireError where it is not well-formed, finite, flat and clear."""
    if len(body) > limit:
        raise WireError(f"JSON of {len(body)} bytes is over the limit of {limit}")
    try:
        value = _parse(body.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON as we take it: {error}") from None
    if _maybe_deep(body) and nesting(value) > MAX_DEPTH:
        raise WireError(f"JSON is nested deeper than {MAX_DEPTH} levels")
    if b"\\u" in body:
        _refuse_surrogates(value)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("duplicate key in an object")
    return result


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_parse = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant).decode


def _maybe_deep(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def nesting(value: Any, most: int = MAX_DEPTH) -> int:
    """How many lists and objects lie within each other in a JSON value; counted to one beyond ``most``."""
    level, depth = [value], 0
    while level and depth <= most:
        inside = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in inside for child in (item.values() if isinstance(item, dict) else item)]
        depth += bool(inside)
    return depth


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WireError("JSON text holds a lone surrogate") from None
