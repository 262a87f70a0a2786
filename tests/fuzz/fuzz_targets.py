"""What reads text from outside, each as a function of bytes; and inputs to begin with, and how to change them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from producer import pricing
from producer.config import load_config
from producer.errors import ProducerError
from producer.gateway import clamp
from producer.gateway.meter import Meter
from producer.ledger.checks import draft_of, payload_json
from producer.wire.codec import apart, decode, strict_json
from producer.wire.messages import TYPES

SEEDS = [
    b'{"attempt": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "task": "t", "outcome": "succeeded", "cost": 1, "until": 1.5}',
    b'{"agent_owner": "code", "title": "t", "description": "d", "priority": 3, "payload": {"a": [1]}}',
    b'{"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}], "tools": []}',
    b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 1, "cache_creation": {}}}}\n\n',
    b"project_name: x\nbudget:\n  project_ceiling_usd: 1\n  agents:\n    code: {daily_cap_usd: 1}\n",
]
TOKENS = [b"NaN", b"1e999", b"-1", b"9" * 40, b"null", b"[", b"]", b"{", b"}", b'"', b"\\ud800", b"\x00", b"\xff", b": ",
          b"&a ", b"*a", b"!!python/object:x ", b"<<: ", b".inf", b"- ", b"\n", b'"usage"', b"true", b"\xe2\x80\xae"]  # fmt: skip
PRICES = pricing.load()
NAMES = [name.encode() for name in TYPES]


def mutated(random_: random.Random) -> bytes:
    """One of the seeds with a few bytes, tokens or pieces changed."""
    data = bytearray(random_.choice(SEEDS))
    for _ in range(random_.randrange(8)):
        at = random_.randrange(len(data) + 1)
        match random_.randrange(4):
            case 0:
                data[at:at] = random_.choice(TOKENS)
            case 1:
                del data[at : at + random_.randrange(12)]
            case 2:
                data[at : at + random_.randrange(6)] = random_.choice(TOKENS)
            case _:
                data[at:at] = random_.randbytes(random_.randrange(6))
    return bytes(data)


def frames(data: bytes, random_: random.Random) -> None:
    """A message of any type."""
    for one in apart([b"PRD1", random_.choice(NAMES), data]):
        decode(one)


def tool(data: bytes, random_: random.Random) -> None:
    """Arguments of insert_task."""
    found = draft_of(strict_json(data))
    payload_json(found.payload)


def request(data: bytes, random_: random.Random) -> None:
    """A model request."""
    clamp.plan(data, PRICES, clamp.History(), 1024)


def stream(data: bytes, random_: random.Random) -> None:
    """A model's answer, in two pieces."""
    meter, cut = Meter(), random_.randrange(len(data) + 1)
    meter.feed(data[:cut])
    meter.feed(data[cut:] + b"\n")
    meter.usage()
    whole = Meter()
    whole.whole(data)
    whole.usage()


def yaml(data: bytes, file: Path) -> None:
    """A producer.yaml."""
    file.write_bytes(data)
    load_config(file)


TARGETS: tuple[Callable[[bytes, random.Random], None], ...] = (frames, tool, request, stream)
FINE = (ProducerError, clamp.Invalid)  # errors of ours: an answer
