"""`producerctl logs`: what agents say and do, from their transcripts and the audit log, and live."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import asdict

from producer.cli import completing, screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import NoSupervisor

if TYPE_CHECKING:
    from producer.ledger import Reader
    from producer.wire.messages import Event

ALL_ROWS = 100_000
LOOK_SECONDS = 1.0
TWICE = frozenset({"tool_call", "tool_failed", "standing"})  # told by the progress of the run, or of no task


@click.command()
@click.argument("ident", metavar="[TASK]", required=False, shell_complete=completing.tasks)
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens from now on.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="Lines without a TASK.")
@json_option
@pass_app
def logs(app: App, ident: str | None, follow: bool, lines: int, as_json: bool) -> None:
    """Show what agents said and did; -f goes on live.

    For one task its transcripts and audit rows; without a task the last events of all.

    Example: producerctl logs 01K3ABCDEF -f
    """
    task = app.task(ident) if ident else None
    if follow and app.supervisor() is None:
        raise NoSupervisor(app.project.ledger_db)
    if not follow:
        _print_history(app, task, lines, as_json)
        return
    from producer.cli.live import connect

    events = connect(app, seconds=5.0)
    try:
        until = _print_history(app, task, lines, as_json)
        _follow(app, events.next, task, until, as_json)
    finally:
        events.close()


def history(app: App, reader: Reader, task: str) -> list[Event]:
    """Everything that is known of a task, oldest first: its transcripts and its audit rows."""
    from producer.cli.transcript import events, find
    from producer.cli.wording import of_audit

    shown = reader.show(task)
    found: list[Event] = []
    for session in dict.fromkeys(row["session_id"] for row in shown["attempts"]):
        path = find(app.places.config_dir(task), session) if session else None
        if path is not None:
            found.extend(events(path, shown["agent_owner"], task))
    told = bool(found)  # by a transcript, with every tool call in it
    for row in reader.audit_tail(ALL_ROWS, task):
        if not (told and row["action"] == "tool_call"):
            found.append(of_audit(row))
    return sorted(found, key=lambda event: event.at)


def titles(reader: Reader) -> Callable[[str], str]:
    """A task's title by its id, looked up once."""
    from producer.errors import UnknownTask

    known: dict[str, str] = {}

    def title(task: str) -> str:
        if task not in known:
            try:
                known[task] = str(reader.task(task)["title"])
            except UnknownTask:
                return task
        return known[task]

    return title


def show(event: Event, as_json: bool, title: Callable[[str], str] | None = None) -> None:
    """Print one event on one line."""
    from producer.cli.wording import INDENT, line

    screen.show_json_line(asdict(event)) if as_json else screen.hang(line(event, title), INDENT)


def _print_history(app: App, task: str | None, lines: int, as_json: bool) -> float:
    """Print what was; the moment up to which it is told."""
    from producer.cli.wording import is_empty, of_audit

    until = time.time()
    with app.reader() as reader:
        title = None if task else titles(reader)
        rows: Iterator[Any] | list[Any] = (
            history(app, reader, task) if task else [of_audit(row) for row in reader.audit_tail(lines)]
        )
        for event in rows:
            if as_json or not is_empty(event):
                show(event, as_json, title)
    return until


def _follow(
    app: App, following: Callable[[float], Event | None], task: str | None, until: float, as_json: bool
) -> None:
    """Print what happens, until the supervisor is gone."""
    with app.reader() as reader:
        title = None if task else titles(reader)
        while True:
            event = following(LOOK_SECONDS)
            if event is None:
                if app.supervisor() is None:
                    screen.note("the supervisor has left")
                    return
            elif event.at >= until and (task is None or event.task == task) and event.kind not in TWICE:
                show(event, as_json, title)
