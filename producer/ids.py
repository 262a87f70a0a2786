"""ULIDs and ISO timestamps: the identifiers and times that the ledger stores."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from ulid import ULID

ULID_PATTERN = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def new_id() -> str:
    """A fresh ULID: 26 characters, sortable by the millisecond of its making."""
    return str(ULID())


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
