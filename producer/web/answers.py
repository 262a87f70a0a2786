"""Answers in JSON, and errors: always `{"error": text}`, with the field that is meant where there is one.

What is wrong with a request is never a 500: every error of ours has its status by its class.
"""

from __future__ import annotations

import json
import re
from typing import Any

from starlette.responses import Response

from producer.core.text import one_line
from producer.errors import (
    IllegalTransition,
    InvalidTask,
    KillSwitchArmed,
    LedgerBusy,
    LedgerUnusable,
    LimitReached,
    NoSupervisor,
    ProducerError,
    TaskClaimRace,
    UnknownTask,
    UsageError,
    WireError,
)

LONGEST = 2_000
_STATUS: tuple[tuple[type[ProducerError], int], ...] = (
    (UnknownTask, 404),
    (IllegalTransition, 409), (NoSupervisor, 409), (LedgerBusy, 409), (LedgerUnusable, 409), (TaskClaimRace, 409),
    (KillSwitchArmed, 409), (LimitReached, 409),
    (InvalidTask, 400), (UsageError, 400), (WireError, 400),
)  # fmt: skip
_FIELD = re.compile(r"(?:task \d+: )?([a-z_]{1,40}): .*|the (title|payload) has .*", re.DOTALL)


class BadRequest(Exception):
    """A request that cannot be meant. ``field``: the key of the body, or the parameter, that is wrong."""

    def __init__(self, error: str, field: str | None = None, status: int = 400) -> None:
        self.error, self.field, self.status = error, field, status
        super().__init__(error)


def answer(value: Any, status: int = 200) -> Response:
    """JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "backslashreplace"), status, media_type="application/json")


def problem(status: int, error: str, field: str | None = None) -> Response:
    """A JSON error."""
    found = {"error": one_line(error, LONGEST)}
    return answer(found | ({"field": field} if field else {}), status)


def of_error(error: ProducerError) -> tuple[int, str, str | None]:
    """Status, text and field of an error of ours."""
    status = next((number for cls, number in _STATUS if isinstance(error, cls)), 409)
    text = str(error)
    named = _FIELD.fullmatch(text) if isinstance(error, (InvalidTask, LimitReached)) else None
    return (400, text, named[1] or named[2]) if named else (status, text, None)
