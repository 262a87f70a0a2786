from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import unicodedata

import pytest
from cli_rig import Project
from hypothesis import given
from hypothesis import strategies as st

from producer.core.text import markdown, one_line, visible

NASTY = "a\x1b]0;owned\x07\x1b[2J\x9b31mb\u202ec\u2066d\x00e\rf\u200fg"


def on_a_terminal(project: Project, *words: str) -> str:
    """What a command writes to a terminal."""
    controller, terminal = pty.openpty()
    env = project.env | {"TERM": "xterm-256color", "COLUMNS": "200"}
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "producer", *words], cwd=project.path, env=env,
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    written = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                piece = os.read(controller, 65536)
            except OSError:  # how Linux says that nobody holds the terminal any more
                break
            if not piece:
                break
            written += piece
    child.kill()
    child.wait()
    os.close(controller)
    return written.decode()


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    shown = visible(text)
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    shown.encode("utf-8")
    assert "\n" not in one_line(text) and len(one_line(text, 10)) <= 10


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_harmless_text_is_left_alone(text: str) -> None:
    assert visible(text) == text


def test_markdown_takes_markup_literally() -> None:
    assert markdown("# a *b* [c](http://d) <e> `f` | g\nh") == r"\# a \*b\* \[c\](http://d) \<e\> \`f\` \| g h"


@pytest.mark.parametrize("words", [("task", "list"), ("task", "list", "--json"), ("status",), ("logs",), ("report",)])
def test_a_title_cannot_steer_the_terminal(project: Project, words: tuple[str, ...]) -> None:
    ident = project.add(NASTY)
    with project.client() as ledger:
        ledger.escalate_task(ident, NASTY)
        project.add(NASTY, role="qa")
    for written in (project.out(*words), project.run("task", "show", ident).stdout):
        assert not set(written) & set("\x00\x07\x1b\x9b\r\u202e\u2066\u200f")
    if "--json" in words:
        assert json.loads(project.out(*words))[0]["title"] == NASTY, "JSON keeps the text"
    if words == ("report",):
        written = next((project.path / "agent-state").glob("morning-report-*.md")).read_text()
        assert not set(written) & set("\x00\x07\x1b\x9b\r\u202e\u2066\u200f")


@pytest.mark.parametrize("words", [("task", "list"), ("status",), ("report",), ("task", "show")])
def test_on_a_terminal_only_our_own_escapes_are_sent(project: Project, words: tuple[str, ...]) -> None:
    ident = project.add(NASTY)
    if words == ("report",):
        with project.client() as ledger:
            ledger.escalate_task(ident, NASTY)
    written = on_a_terminal(project, *words, *([ident] if words[-1] == "show" else []))
    assert "owned" in written, "the title is shown"
    for sequence in ("\x1b]0;owned", "\x1b[2J", "\x9b", "\x07", "\u202e", "\x00"):
        assert sequence not in written


def test_rich_markup_in_a_title_is_text(project: Project) -> None:
    project.add("[bold red]x[/bold red] [link=http://evil]y[/link] :skull:")
    written = on_a_terminal(project, "status")
    assert "[bold red]x[/bold red] [link=http://evil]y[/link] :skull:" in written


def test_a_locale_without_unicode_loses_no_line(project: Project) -> None:
    ident = project.add("naïve ☃ title")
    written = project.out("task", "list", PYTHONIOENCODING="ascii")
    assert ident in written and r"\u2603" in written
