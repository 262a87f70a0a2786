"""The one place that prints.

1. Text passes `visible` first: whatever an agent, a file or a network peer wrote cannot steer the terminal.
2. On a terminal tables and colours come from rich, which never reads markup out of our text; into a pipe go plain
   lines. rich is not even imported for a pipe.
3. stdout takes results, stderr takes notes, progress and errors.
"""

from __future__ import annotations

import io
import json
import os
import sys
import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.core.text import one_line, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

STYLES = {
    "done": "green", "ok": "green", "running": "green", "succeeded": "green", "disarmed": "green", "idle": "dim",
    "in_progress": "cyan", "busy": "cyan", "starting": "cyan", "draining": "yellow", "throttled": "yellow",
    "capped": "yellow", "warn": "yellow", "blocked": "yellow", "suspect": "yellow", "cancelled": "yellow",
    "escalated": "bold red", "failed": "bold red", "fail": "bold red", "lost": "bold red", "ARMED": "bold red",
    "killed": "dim", "not running": "yellow",
}  # fmt: skip


def prepare() -> None:
    """Have both streams take any text, whatever the locale says."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def unseen() -> bool:
    """Whether what goes to stderr is thrown away."""
    try:
        return os.path.samestat(os.fstat(2), Path(os.devnull).stat())
    except OSError:
        return True


def terminal(stderr: bool = False) -> bool:
    """Whether a person sits at the other end of the stream."""
    return (sys.stderr if stderr else sys.stdout).isatty()


@cache
def console(stderr: bool = False) -> Console:
    """The rich console of a stream, for what only a terminal can show."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def say(text: object = "", style: str = "") -> None:
    """Print a result."""
    _print(visible(text), style, stderr=False)


def hang(text: object, indent: int, style: str = "", *, stderr: bool = False) -> None:
    """Print a result of one line; on a terminal it goes on below itself where it is too long. Nothing in it is cut."""
    content = visible(text)
    if terminal(stderr):
        lines = textwrap.wrap(content, max(40, console(stderr).width), subsequent_indent=" " * indent,
                              break_long_words=False, break_on_hyphens=False)  # fmt: skip
        content = "\n".join(lines)
    _print(content, style, stderr)


def note(text: object, style: str = "dim") -> None:
    """Print progress."""
    _print(visible(text), style, stderr=True)


def warn(text: object) -> None:
    """Print a warning, on one line."""
    _print(f"warning: {one_line(text)}", "yellow", stderr=True)


def error(text: object) -> None:
    """Print an error, on one line."""
    _print(f"error: {one_line(text)}", "bold red", stderr=True)


def show_json(value: Any) -> None:
    """Print a value as JSON. Non-ASCII and control characters are escaped by JSON itself."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def show_json_line(value: Any) -> None:
    """Print a value as JSON on one line, at once."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = (), whole: Sequence[str] = ()
) -> None:
    """Print rows under columns; those named in ``right`` are flush right, those in ``whole`` are never folded."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if terminal():
        _rich_table(columns, cells, right, whole)
        return
    widths = [max(len(text) for text in column) for column in zip(columns, *cells, strict=True)]
    for row in (list(columns), *cells):
        padded = [
            text.rjust(width) if name in right else text.ljust(width)
            for text, width, name in zip(row, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def text(content: object, style: str = "") -> Text:
    """A piece of text for rich, on one line and harmless; known states have their colour."""
    from rich.text import Text

    line = one_line(content)
    return Text(line, style or STYLES.get(line, ""))


def show_markdown(content: str) -> None:
    """Print Markdown, rendered on a terminal."""
    if not terminal():
        say(content.rstrip("\n"))
        return
    from rich.markdown import Markdown

    console().print(Markdown(visible(content), hyperlinks=False))


def _rich_table(columns: Sequence[str], cells: list[list[str]], right: Sequence[str], whole: Sequence[str]) -> None:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for name in columns:
        grid.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    for row in cells:
        grid.add_row(*(text(cell) for cell in row))
    console().print(grid)


def _print(content: str, style: str, stderr: bool) -> None:
    if not stderr:
        _write(content, style, stderr=False)
        return
    try:
        _write(content, style, stderr=True)
    except OSError:  # the terminal has gone, as with a broken ssh: what runs here goes on, unseen
        abandon(2)


def abandon(descriptor: int) -> None:
    """Nobody reads any more: what is still to be written there goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _write(content: str, style: str, stderr: bool) -> None:
    stream = sys.stderr if stderr else sys.stdout
    if not terminal(stderr):
        stream.write(content + "\n")
        stream.flush()
        return
    from rich.text import Text

    console(stderr).print(Text(content, style), soft_wrap=True)
