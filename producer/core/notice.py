"""What a person is told: how loudly each event is pushed, what leaves the machine, when a push is tried again.

1. A push carries ids and counts. Words of agents stay in needs-attention.md: a topic has readers one cannot see.
2. Several waiting pushes of one event leave as one, so that a storm or the end of the quiet hours is one message.
3. A title is one line; a message fits into BYTES, for ntfy makes an attachment of a longer one.
4. What the server cannot take now (408, 425, 429, 5xx) is tried again: when it says, else after a growing time with
   jitter. What it will never take (every other answer but 2xx) is not.
5. The same notice is told REPEATS times within WINDOW seconds; the next one says how many were left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from producer.core.restart import recent
from producer.core.text import one_line

BYTES = 4000
TITLE = 200
REPEATS = 3
WINDOW = 3600.0
FIRST_WAIT = 2.0
LONGEST_WAIT = 900.0
LONGEST_WISH = 6 * 3600.0  # a server that asks for more patience is asked earlier all the same
GIVE_UP_AFTER = 2 * 86_400.0
PRIORITIES = {"min": 1, "low": 2, "default": 3, "high": 4, "max": 5}


@dataclass(frozen=True)
class Manner:
    """How an event is pushed. ``priority`` None: the configured one; ``switch``: its name in notifications.events;
    ``always``: also in the quiet hours.
    """

    tag: str
    priority: str | None = None
    switch: str | None = None
    always: bool = False


MANNERS: Mapping[str, Manner] = {
    "escalation": Manner("sos", "high", "escalation"),
    "cap": Manner("moneybag", "high", "cap"),
    "soft_cap": Manner("moneybag", None, "soft_cap"),
    "kill_switch": Manner("octagonal_sign", "max", "kill_switch"),
    "role_parked": Manner("construction", "high", "role_parked"),
    "idle": Manner("hourglass", None, "idle"),
    "wakeup": Manner("bulb", None, "idle"),
    "workspace": Manner("twisted_rightwards_arrows", "high", "workspace"),
    "schedule": Manner("alarm_clock", "high"),
    "back_online": Manner("white_check_mark", "min", "back_online"),
    "pricing": Manner("label", "low", "pricing"),
    "audit": Manner("warning", "max"),
    "audit_head": Manner("anchor", "min", "audit_head", always=True),
    "auth": Manner("key", "low"),
}
ANY = Manner("robot")


def manner(event: str) -> Manner:
    """How an event is pushed."""
    return MANNERS.get(event, ANY)


@dataclass(frozen=True)
class Push:
    """One push that waits. ``text``: ids and counts; ``at``: seconds since the epoch."""

    event: str
    title: str
    text: str
    at: float


def message(
    pushes: Sequence[Push], *, topic: str, prefix: str = "", priority: str = "default", click: str | None = None
) -> dict[str, Any]:
    """What ntfy is sent for pushes of one event, as its JSON publishing takes it."""
    how = manner(pushes[0].event)
    title = pushes[-1].title + (f" (and {len(pushes) - 1} more)" if len(pushes) > 1 else "")
    found: dict[str, Any] = {
        "topic": topic,
        "title": one_line(f"{prefix}: {title}" if prefix.strip() else title, TITLE),
        "message": _fitting(_lines(pushes)),
        "priority": PRIORITIES[how.priority or priority],
        "tags": [how.tag],
    }
    if click:
        found["click"] = click
    return found


def _lines(pushes: Sequence[Push]) -> list[str]:
    if len(pushes) == 1:
        return [one_line(pushes[0].text) or "see needs-attention.md"]
    return [one_line(f"{push.title}: {push.text}" if push.text else push.title) for push in pushes]


def _fitting(lines: Sequence[str]) -> str:
    """As many of the lines as fit, and how many did not; a line that alone does not fit is cut."""
    for kept in range(len(lines), 0, -1):
        left = len(lines) - kept
        text = "\n".join([*lines[:kept], *([f"and {left} more"] if left else [])])
        if len(text.encode()) <= BYTES:
            return text
    return lines[0].encode()[:BYTES].decode(errors="ignore") + "…"


def answered(status: int) -> Literal["sent", "again", "never"]:
    """What an HTTP status means for a push."""
    if 200 <= status < 300:
        return "sent"
    return "again" if status in (408, 425, 429) or status >= 500 else "never"


def retry_after(header: str | None, now: float) -> float | None:
    """How many seconds a Retry-After header asks for, as a number or a date; None where it says nothing useful."""
    try:
        if header is None or header.strip().isdecimal():
            return None if header is None else float(int(header))
        moment = parsedate_to_datetime(header)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def try_again(now: float, tries: int, jitter: float, wish: float | None = None) -> float:
    """When to try again after ``tries`` earlier failures. ``jitter``: 0 to 1; ``wish``: what the server asked for."""
    if wish is not None:
        return now + min(wish, LONGEST_WISH) + jitter
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries, 30))
    return now + wait * (1 + jitter) / 2


@dataclass(frozen=True)
class Told:
    """When the same notice was told, oldest first, and how often it was left out since."""

    at: tuple[float, ...] = ()
    left_out: int = 0


def repeat(before: Told, now: float) -> tuple[Told, bool]:
    """Whether a notice may be told once more, and what is to be remembered of it."""
    at = recent(before.at, now, WINDOW)
    if len(at) >= REPEATS:
        return Told(at, before.left_out + 1), False
    return Told((*at, now)), True
