"""Logs of the supervisor: one line each, on stderr, through the screen."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import structlog

from producer.cli import screen
from producer.cli.wording import INDENT


class _Lines:
    """What structlog hands its finished lines to."""

    def msg(self, message: str, style: str = "dim") -> None:
        """One line."""
        first, _, rest = message.partition("\n")
        screen.hang(first, INDENT, style, stderr=True)
        if rest:  # a traceback keeps its lines
            screen.note(rest, "")

    def warning(self, message: str) -> None:
        """One that somebody should look at."""
        self.msg(message, "yellow")

    def error(self, message: str) -> None:
        """One that something is wrong by."""
        self.msg(message, "bold red")

    debug = info = log = msg
    warn = warning
    critical = exception = fatal = failure = error


def _render(logger: object, name: str, event: MutableMapping[str, Any]) -> str:
    """TIME  LEVEL  what happened  key=value ..."""
    words = [str(event.pop(key, "")) for key in ("timestamp", "level", "event")]
    exception = event.pop("exception", None)
    line = "  ".join(
        [words[0], f"{words[1]:<10}", words[2], *(f"{key}={value}" for key, value in sorted(event.items()))]
    )
    return f"{line}\n{exception}" if exception else line


def configure(debug: bool) -> None:
    """Set structlog up for this process."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.INFO),
        logger_factory=lambda *args: _Lines(),
        cache_logger_on_first_use=False,
    )
