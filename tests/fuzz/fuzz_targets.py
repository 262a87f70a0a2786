"""What reads text from outside, each as a function of bytes and a number; and how inputs are made of the seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzz_seeds import MESSAGES, REQUESTS, STREAMS, TOKENS, TOOLS

from producer import pricing
from producer.config import load_config
from producer.errors import ProducerError
from producer.gateway import clamp
from producer.gateway.meter import Meter
from producer.ledger.checks import draft_of, payload_json
from producer.wire.codec import apart, decode, strict_json
from producer.wire.messages import TYPES

PRICES = pricing.load()
NAMES = [name.encode() for name in TYPES]


def mutated(seeds: Sequence[bytes], random_: random.Random) -> bytes:
    """One of the seeds with a few bytes, tokens or pieces changed."""
    data = bytearray(random_.choice(seeds))
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


def frames(data: bytes, number: int) -> None:
    """A message of any type: the number says which."""
    for one in apart([b"PRD1", NAMES[number % len(NAMES)], data]):
        decode(one)


def seeds_of(target: Callable[[bytes, int], None], number: int) -> list[bytes]:
    """What a target is begun with, for the number that it is called with."""
    return [MESSAGES[NAMES[number % len(NAMES)].decode()]] if target is frames else SEEDS[target]


def tool(data: bytes, number: int) -> None:
    """Arguments of insert_task."""
    found = draft_of(strict_json(data))
    payload_json(found.payload)


def request(data: bytes, number: int) -> None:
    """A model request."""
    clamp.plan(data, PRICES, clamp.History(), 1024)


def stream(data: bytes, number: int) -> None:
    """A model's answer, in two pieces: the number says where it is cut."""
    meter, cut = Meter(), number % (len(data) + 1)
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


TARGETS: tuple[Callable[[bytes, int], None], ...] = (frames, tool, request, stream)
SEEDS = {tool: TOOLS, request: REQUESTS, stream: STREAMS}
FINE = (ProducerError, clamp.Invalid)  # errors of ours: an answer
