"""The live view of `run --once`, `demo` and `status --watch`.

1. It only listens: events come by the publish socket, which drops what a slow listener does not take, and the status is
   asked for once a second. Whatever fails here ends the view, never the supervisor.
2. On a terminal a table is redrawn four times a second; elsewhere every event is one plain line.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from producer.cli import screen
from producer.cli.app import App
from producer.cli.wording import INDENT, is_empty
from producer.errors import LedgerUnusable, NoSupervisor, ProducerError, WireError
from producer.wire.client import Control, Events
from producer.wire.messages import Event

if TYPE_CHECKING:
    from producer.ledger import Reader

FRAME = 0.25
STATUS_SECONDS = 1.0
JOIN_SECONDS = 3.0
LAST_EVENTS = 10_000
MOST_ESCALATED = 3
# Told by the progress of the run, by cost; no task's.
HIDDEN = frozenset({"tool_call", "tool_failed", "progress.usage", "standing"})


def connect(app: App, seconds: float) -> Events:
    """Listen to a supervisor that may be just starting. Raises NoSupervisor when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(WireError):
            if app.supervisor() is not None:
                return Events(app.places)
        if time.monotonic() > deadline:
            raise NoSupervisor(app.project.ledger_db)
        time.sleep(0.05)


class Feed:
    """Events and statuses of a project, for one thread. With no supervisor the status comes from the ledger.

    ``events``: the connection to listen by, where there is one already.
    """

    def __init__(self, app: App, events: Events | None = None) -> None:
        self._app, self._events = app, events
        self._control: Control | None = None
        self._reader: Reader | None = None

    def events(self, seconds: float) -> Iterator[Event]:
        """What happens within so many seconds."""
        deadline = time.monotonic() + seconds
        if self._events is None:
            with suppress(WireError):
                self._events = Events(self._app.places)
        while (left := deadline - time.monotonic()) > 0:
            if self._events is None:
                time.sleep(left)
                return
            try:
                event = self._events.next(left)
            except WireError:
                continue
            if event is not None:
                yield event

    def status(self) -> dict[str, Any]:
        """The state of everything now."""
        from producer.cli.snapshot import complete, from_ledger

        holder = self._app.supervisor()
        if holder is not None:
            try:
                self._control = self._control or Control(self._app.places)
                reply = self._control.ask("status", {"brief": True}, STATUS_SECONDS)
                if reply.ok:
                    return complete(reply.result, self.reader())
            except (NoSupervisor, WireError):
                pass
        return from_ledger(self._app, self.reader(), holder)

    def escalated(self) -> list[tuple[str, str]]:
        """The tasks that wait for a person, oldest first: which, and why."""
        rows = self.reader().list(status="escalated", limit=MOST_ESCALATED + 1)
        found = [
            (f"{r['id']}  [{r['agent_owner']}]  {r['title']}", r["escalation_reason"] or "no reason given")
            for r in rows[:MOST_ESCALATED]
        ]
        more = ("and more: producerctl task list --status escalated", "")
        return [*found, *([more] if len(rows) > MOST_ESCALATED else [])]

    def reader(self) -> Reader:
        """The ledger, opened once."""
        self._reader = self._reader or self._app.reader()
        return self._reader

    def title(self, task: str) -> str:
        """A task's title."""
        try:
            return str(self.reader().task(task)["title"])
        except ProducerError:
            return task

    def close(self) -> None:
        """Let everything go."""
        for part in (self._events, self._control, self._reader):
            if part is not None:
                part.close()


def draw(app: App, stop: threading.Event, *, stderr: bool, events: Events | None = None) -> None:
    """Keep the table on the terminal until told to stop."""
    from rich.live import Live

    from producer.cli.board import Board
    from producer.cli.view import render

    feed = Feed(app, events)
    board = Board(_remembered(feed.title))
    console = screen.console(stderr)
    due = 0.0
    try:
        board.see(feed.status(), time.time())
        with Live(render(board, time.time(), *console.size), console=console, auto_refresh=False) as live:
            while not stop.is_set():
                for event in feed.events(FRAME):
                    board.hear(event)
                if time.monotonic() >= due:
                    board.see(feed.status(), time.time())
                    board.escalated = feed.escalated()
                    due = time.monotonic() + STATUS_SECONDS
                live.update(render(board, time.time(), *console.size), refresh=True)
            board.finish(feed.status(), time.time())
            live.update(render(board, time.time(), *console.size), refresh=True)
    finally:
        feed.close()


def tell(app: App, stop: threading.Event, say: Callable[[str], None], events: Events | None = None) -> None:
    """Say every event on one plain line until told to stop, and then what had come by that time."""
    from producer.cli.wording import line

    feed = Feed(app, events)
    title = _remembered(feed.title)
    try:
        while not stop.is_set():
            for event in feed.events(FRAME):
                if _worth_a_line(event):
                    say(line(event, title))
        for _, event in zip(range(LAST_EVENTS), feed.events(FRAME), strict=False):
            if _worth_a_line(event):
                say(line(event, title))
    finally:
        feed.close()


def _worth_a_line(event: Event) -> bool:
    """Whether a reader of plain lines would miss the event: not what another line tells, nor a tool's plain success."""
    routine = event.kind == "progress.tool_result" and event.data.get("ok")
    return not (event.kind in HIDDEN or routine or is_empty(event))


@contextmanager
def beside(app: App, *, table: bool) -> Iterator[None]:
    """Show what the supervisor does that runs in this very process, from another thread, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=_guarded, args=(app, stop, table), name="live view", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(JOIN_SECONDS)


def _guarded(app: App, stop: threading.Event, table: bool) -> None:
    try:
        while (events := _own_events(app)) is None:
            if stop.wait(0.02):
                return
        draw(app, stop, stderr=True, events=events) if table else tell(app, stop, _below_itself, events)
    except Exception as error:  # the view is a convenience; the run goes on without it
        screen.warn(f"the live view ended: {type(error).__name__}: {error}")


def _below_itself(text: str) -> None:
    screen.hang(text, INDENT, "dim", stderr=True)


def _own_events(app: App) -> Events | None:
    """The events of this process's own supervisor, once it serves the project and its ledger and keys are there.

    It waits for one who listens. So this is the connection that is used: one made to see whether it can be, and closed
    again, would be taken for it.
    """
    holder = app.supervisor()
    if holder is None or holder.pid != os.getpid():
        return None
    try:
        app.reader().close()
        return Events(app.places)
    except (LedgerUnusable, WireError):
        return None


def _remembered(title: Callable[[str], str]) -> Callable[[str], str]:
    known: dict[str, str] = {}

    def look(task: str) -> str:
        if task not in known:
            known[task] = title(task)
        return known[task]

    return look
