"""The gateway's journal: what model requests began, and how each ended. Format and reader.

1. One append-only file an attempt, `<attempt>.jsonl` under Places.journal, one JSON object a line: `Opened` before a
   request goes upstream, `Metered` before the last byte of its response is passed on.
2. A request that began and has no Metered (the gateway died) counts as the most that it can have cost.
3. It is an outbox: a file stays until the supervisor booked every line and closed the attempt. Booking is by request
   id, so reading a file twice changes nothing.
4. A torn line, left by a crash in the middle of a write, is skipped: what it would have said is then case 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from producer.ids import is_id
from producer.wire.messages import Message, Metered, Micros, Seconds, Ulid

SUFFIX = ".jsonl"
ENDED_UNKNOWN = 0  # the status of a request whose end nobody saw


class Opened(Message, frozen=True):
    """A model request is about to leave; ``worst`` is the most that it can cost, in micro-dollars."""

    request: Ulid
    attempt: Ulid
    model: str
    worst: Micros
    at: Seconds = 0.0


@dataclass
class Journal:
    """What one file says: requests by id, and how many lines could not be read."""

    opened: dict[str, Opened] = field(default_factory=dict)
    metered: dict[str, Metered] = field(default_factory=dict)
    damaged: int = 0

    def records(self) -> list[Metered]:
        """A bill for every request, in the order they began: the metered one, else the worst case."""
        requests = dict.fromkeys((*self.opened, *self.metered))
        return [self.metered.get(request) or worst_of(self.opened[request]) for request in requests]


def worst_of(opened: Opened) -> Metered:
    """The bill of a request whose end nobody saw."""
    return Metered(
        request=opened.request,
        attempt=opened.attempt,
        model=opened.model,
        cost=opened.worst,
        exact=False,
        status=ENDED_UNKNOWN,
        at=opened.at,
    )


def line(record: Opened | Metered) -> bytes:
    """One line of the file, newline included."""
    return b'{"%s":%s}\n' % (type(record).__name__.encode(), msgspec.json.encode(record))


def path_of(directory: Path, attempt: str) -> Path:
    """Where the journal of an attempt lies. Raises ValueError for what is no ULID."""
    if not is_id(attempt):
        raise ValueError(f"not an attempt id: {attempt!r}")
    return directory / f"{attempt}{SUFFIX}"


def attempts(directory: Path) -> list[str]:
    """The attempts that have a journal, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path.stem for path in directory.glob(f"*{SUFFIX}") if is_id(path.stem))


def read(path: Path) -> Journal:
    """What the file says; an absent file says nothing. Raises OSError where it exists and cannot be read."""
    journal = Journal()
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return journal
    for text in filter(None, lines):
        try:
            ((kind, body),) = msgspec.json.decode(text).items()
            if kind == "Opened":
                opened = msgspec.convert(body, Opened)
                journal.opened[opened.request] = opened
            elif kind == "Metered":
                metered = msgspec.convert(body, Metered)
                journal.metered[metered.request] = metered
        except (ValueError, AttributeError, msgspec.MsgspecError):
            journal.damaged += 1
    return journal
