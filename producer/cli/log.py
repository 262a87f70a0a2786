"""Logs of the supervisor: one line each, on stderr, through the screen.

log.info("audit key", extra={"key": text})      11:02:34  info        audit key  key=...
"""

from __future__ import annotations

import logging
import time

from producer.cli import screen
from producer.cli.wording import INDENT

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _Lines(logging.Handler):
    """Hands lines to the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        """TIME  LEVEL  what happened  key=value ..."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        more = (f"{name}={value}" for name, value in sorted(vars(record).items()) if name not in STANDARD)
        line = "  ".join([at, f"{record.levelname.lower():<10}", record.getMessage(), *more])
        style = (
            "bold red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else "dim"
        )
        screen.hang(line, INDENT, style, stderr=True)
        if record.exc_info:  # a traceback keeps its lines
            screen.note(logging.Formatter().formatException(record.exc_info), "")


def configure(debug: bool) -> None:
    """Set logging up for this process."""
    logger = logging.getLogger("producer")
    logger.handlers, logger.propagate = [_Lines()], False
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
