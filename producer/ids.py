"""ULIDs (https://github.com/ulid/spec), UUIDs and ISO timestamps: the identifiers and times that the ledger stores.

Every task has several made for it, so they are written out here: a library's take two to four times as long.
"""

from __future__ import annotations

import os
import re
import threading
import time
from datetime import UTC, datetime

ULID_PATTERN = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
_SHIFTS = range(120, -1, -10)


class _Latest:
    """The number of the newest ULID of this process: the next one of the same millisecond is the next number."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Go on from nowhere, as a forked process has to: its parent goes on from here."""
        self._lock, self._value = threading.Lock(), 0

    def next(self) -> int:
        """48 bits of time in milliseconds and 80 that are random, or one more than those before."""
        with self._lock:
            moment = time.time_ns() // 1_000_000
            if moment == self._value >> 80:
                self._value += 1
            else:
                self._value = moment << 80 | int.from_bytes(os.urandom(10), "big")
            return self._value


_latest = _Latest()
os.register_at_fork(after_in_child=_latest.forget)


def new_id() -> str:
    """A fresh ULID: 26 characters, sorted by when it was made, within one process to the last."""
    return _text(_latest.next())


def first_id(at: float) -> str:
    """The smallest ULID of a moment, in seconds since the epoch; of the epoch, where it is before that."""
    return _text(max(0, int(at * 1000)) << 80)


def _text(value: int) -> str:
    """Ten bits are a pair of characters."""
    return "".join([_PAIRS[value >> shift & 1023] for shift in _SHIFTS])


def new_session() -> str:
    """A fresh id for a Claude session: a random UUID (RFC 9562, version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def is_id(text: object) -> bool:
    """Whether ``text`` is a ULID as we make them: safe in a path, a URL and a file name."""
    return isinstance(text, str) and ULID_PATTERN.fullmatch(text) is not None


def iso(at: float) -> str:
    """Seconds since the epoch to ISO 8601 in UTC with milliseconds: 2026-05-06T07:08:09.123Z."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_iso(text: str) -> float:
    """The inverse of ``iso``; also reads the offsets and precisions of other writers. Raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def utc_date(at: float) -> str:
    """The UTC calendar day of a moment: YYYY-MM-DD. Budget days are these."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def utc_iso_now() -> str:
    """The present moment as ``iso`` writes it."""
    return iso(time.time())


def utc_today() -> str:
    """The present UTC day."""
    return utc_date(time.time())
