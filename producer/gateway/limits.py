"""When a usage limit ends, by the API's own word, and how that word reaches the worker through the CLI.

1. The API names the end of a limit in headers: `retry-after` (seconds, or a date), the windows of a subscription
   (`anthropic-ratelimit-unified-reset`, seconds since the epoch), and a reset time for every limit that is used up.
2. The CLI shows its caller an error's text and not its headers: so the end is written into the text, behind a marker.
3. An answer that names no end is left as it is; the supervisor then waits for its own while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime

MARKER = "ai-producer:retry-at:"
LIMITED = frozenset({429, 529})
UNIFIED = "anthropic-ratelimit-unified-reset"
PREFIX, REMAINING, RESET = "anthropic-ratelimit-", "-remaining", "-reset"
LONGEST = 8 * 86_400.0  # the longest window of a subscription is a week; what lies beyond is a wrong clock


def ends_at(headers: Mapping[str, str], now: float) -> float | None:
    """When the limit is over, in seconds since the epoch; None where the headers (lower case) do not say."""
    named = [_after(headers.get("retry-after"), now), _epoch(headers.get(UNIFIED))]
    for name, value in headers.items():
        if name.startswith(PREFIX) and name.endswith(REMAINING) and value.strip() == "0":
            named.append(_date(headers.get(name.removesuffix(REMAINING) + RESET)))
    known = [at for at in named if at is not None and now <= at <= now + LONGEST]
    return max(known, default=None)


def marked(body: bytes, at: float) -> bytes:
    """An error's body with the end of the limit in its text; the same bytes where it is not of the API's shape."""
    try:
        content = json.loads(body)
        content["error"]["message"] = f"{content['error']['message']} ({MARKER}{at:.0f})"
    except (ValueError, TypeError, KeyError, RecursionError):
        return body
    return json.dumps(content).encode()


def _after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    with suppress(ValueError):
        return now + float(value)
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(value).timestamp()
    return None


def _epoch(value: str | None) -> float | None:
    with suppress(ValueError, TypeError):
        return float(value or "none")
    return None


def _date(value: str | None) -> float | None:
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(value or "none").timestamp()
    return None
