"""Text from outside, made harmless for the place where it is shown.

1. A terminal obeys C0 and C1 control characters, and bidirectional controls reorder what a person reads: both are
   shown as escapes, never sent. Line ends and tabs stay where lines are wanted.
2. A lone surrogate cannot be encoded at all: it is shown as an escape too.
3. In Markdown a title is one line in which no character starts markup.
"""

from __future__ import annotations

import re

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{_BIDI}\ud800-\udfff]")
_MARKUP = re.compile(r"([\\`*_\[\]<>#|~!&])")


def visible(text: object) -> str:
    """The text with every character that steers a terminal shown as an escape; line ends and tabs stay."""
    return _UNSAFE.sub(_escape, str(text).replace("\r\n", "\n"))


def one_line(text: object, longest: int | None = None) -> str:
    """``visible`` text on one line; cut to ``longest`` characters, the last of them an ellipsis."""
    line = " ".join(visible(text).split())
    return line if longest is None or len(line) <= longest else line[: max(0, longest - 1)] + "…"


def markdown(text: object, longest: int | None = None) -> str:
    """``one_line``, with the characters that Markdown gives a meaning taken literally."""
    return _MARKUP.sub(r"\\\1", one_line(text, longest))


def many(number: int, word: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
