"""needs-attention.md: one line for everything that a person should know, appended as it happens.

Agents may write in the directory where it lies: a link in its place is not followed, and what they say is one line in
which nothing is a link, a picture or HTML.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from producer.core.text import one_line
from producer.ids import utc_iso_now

NAME = "needs-attention.md"
LONGEST = 4000
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MARKUP = re.compile(r"([\\<\[\]])")


def write_notice(directory: Path, title: str, text: str) -> Path:
    """Append a notice to the file in ``directory``; its path. Raises OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    line = f"- {utc_iso_now()} **{_plain(title)}**: {_plain(text)}\n"
    with os.fdopen(os.open(directory / NAME, _FLAGS, 0o666), "a", encoding="utf-8") as file:
        file.write(line)
    return directory / NAME


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", one_line(text, LONGEST))
