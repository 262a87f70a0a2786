"""What happens, handed on to every open page.

1. One listener on the events socket for all streams. Events get numbers; the last KEPT are kept, so that a browser that
   was away for a moment goes on where it stopped (Last-Event-ID).
2. Every stream has a queue of QUEUED entries. One that does not take them in time loses them and is told `reset`: it
   then looks at the page anew. Nobody waits for a slow browser.
3. Without an open page nobody listens, so that a dashboard that is left running costs the supervisor nothing. What is
   missed until the listener of a first page is there, a `changed` makes good.
4. What no event tells (a supervisor that came or went, a changed switch file, workers that became ready) is looked at
   every LOOK seconds here, in this process, and told as `changed`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from contextlib import suppress
from typing import Any

from starlette.concurrency import run_in_threadpool

from producer.cli.wording import words
from producer.errors import ProducerError, WireError
from producer.web.desk import Desk
from producer.wire.listen import AsyncEvents
from producer.wire.messages import Event

KEPT = 500
QUEUED = 200
MOST_STREAMS = 8
LOOK = 0.5
LINGER = 20.0  # seconds for which the listener outlives the last page: one page leads to another
SETTLE = 0.3  # seconds until a new listener hears everything
LONGEST_TEXT = 8_000
LONGEST_WORDS = 300
QUIET = frozenset({"progress.text", "progress.tool_call", "progress.tool_result", "progress.usage", "progress.note"})
DOING = frozenset({"progress.text", "progress.tool_call", "progress.retry"})
Entry = dict[str, Any]


class Stream:
    """One open page."""

    def __init__(self, task: str | None) -> None:
        self.queue: asyncio.Queue[Entry] = asyncio.Queue(QUEUED)
        self._task = task

    def wants(self, entry: Entry) -> bool:
        """Whether an entry is for this page: what an agent says and does only where somebody reads it."""
        return self._task is None or entry["task"] in (None, self._task) or entry["kind"] not in QUIET

    def put(self, entry: Entry) -> None:
        """Queue an entry; a full queue is emptied and the page told to look anew."""
        if self.queue.full():
            while not self.queue.empty():
                self.queue.get_nowait()
            entry = {**entry, "kind": "reset", "words": "", "text": ""}
        self.queue.put_nowait(entry)


class Hub:
    """Start it with ``run``, in a task of the server's loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._kept: deque[Entry] = deque(maxlen=KEPT)
        self._streams: set[Stream] = set()
        self._events: AsyncEvents | None = None
        self._woken = asyncio.Event()
        self._looked_at = 0.0

    # ---- streams

    def open(self, task: str | None, last: str | None) -> Stream | None:
        """A new stream, after the entry ``last``; None where MOST_STREAMS are open already."""
        if len(self._streams) >= MOST_STREAMS:
            return None
        stream = Stream(task)
        missed = self._missed(last) if last else []
        for entry in [self._entry("reset")] if missed is None or len(missed) > QUEUED else missed:
            if stream.wants(entry):
                stream.put(entry)
        self._streams.add(stream)
        self._woken.set()
        return stream

    def now(self) -> str:
        """The id of the last entry."""
        return f"{self._epoch}-{self._number}"

    def shut(self, stream: Stream) -> None:
        """A page was closed."""
        self._streams.discard(stream)

    def _missed(self, last: str) -> list[Entry] | None:
        """What came after an entry; None where that is not known any more."""
        epoch, _, number = last.partition("-")
        oldest = self._kept[0]["number"] if self._kept else self._number + 1
        if epoch != self._epoch or not number.isdecimal() or not oldest - 1 <= int(number[:18]) <= self._number:
            return None
        return [entry for entry in self._kept if entry["number"] > int(number)]

    # ---- what happens

    def hear(self, event: Event) -> None:
        """An event of the supervisor's."""
        if event.kind == "config_reloaded":
            self._desk.reload()
        self._desk.stale()
        said = self._desk.near(words(event, LONGEST_WORDS))
        if event.attempt and event.kind in DOING:
            self._desk.doing.pop(event.attempt, None)
            self._desk.doing[event.attempt] = said
            for oldest in list(self._desk.doing)[:-KEPT]:
                del self._desk.doing[oldest]
        text = str(event.data.get("text") or event.data.get("summary") or "")[:LONGEST_TEXT]
        self._tell(
            self._entry(
                event.kind, at=event.at, role=event.role, task=event.task, attempt=event.attempt,
                words=said, text=text,
            )
        )  # fmt: skip

    def _entry(self, kind: str, **more: Any) -> Entry:
        empty = {"at": None, "role": None, "task": None, "attempt": None, "words": "", "text": ""}
        return {"kind": kind, "number": self._number, "id": f"{self._epoch}-{self._number}", **empty, **more}

    def _tell(self, entry: Entry) -> None:
        self._number += 1
        entry |= {"number": self._number, "id": f"{self._epoch}-{self._number}"}
        self._kept.append(entry)
        for stream in self._streams:
            if stream.wants(entry):
                stream.put(entry)

    # ---- what no event tells

    async def run(self) -> None:
        """Listen and look until cancelled."""
        before: tuple[object, ...] = ()
        try:
            while True:
                now = await run_in_threadpool(self._look)
                if before and now[0] != before[0]:
                    self._hang_up()  # another supervisor may have other keys
                self._attend(bool(now[0]))
                if before and now != before:
                    self._catch_up()
                before = now
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), LOOK)
                self._woken.clear()
        finally:
            self._hang_up()

    def _look(self) -> tuple[object, ...]:
        outside = self._desk.outside()
        workers: object = None
        if self._streams and outside[0]:
            with suppress(ProducerError):
                status = self._desk.status()
                workers = [
                    (worker["id"], worker["state"]) for role in status["roles"].values() for worker in role["workers"]
                ]
        return (*outside, workers)

    def _attend(self, supervised: bool) -> None:
        """Listen while somebody looks and there is somebody to listen to."""
        now = asyncio.get_running_loop().time()
        if self._streams:
            self._looked_at = now
        if now - self._looked_at > LINGER:
            self._hang_up()
        elif self._events is not None:
            self._events.follow()
        elif self._streams and supervised:
            with suppress(WireError):
                self._events = AsyncEvents(self._desk.app.places, self.hear)
                asyncio.get_running_loop().call_later(SETTLE, self._catch_up)

    def _catch_up(self) -> None:
        self._desk.stale()
        self._tell(self._entry("changed"))

    def _hang_up(self) -> None:
        if self._events is not None:
            self._events.close()
        self._events = None
