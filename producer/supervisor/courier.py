"""The courier: tells the world outside the ledger, in threads of its own, so that a slow server delays nothing.

1. Four lanes, a thread each: files (escalations, needs-attention.md, reports), pushes, heads of the audit log for the
   operator's anchor command, and what becomes of the git worktrees of finished tasks. None waits for another.
2. A lane reads the outbox on a read-only connection and hands what became of each entry to the loop, the one writer.
3. An entry may be told twice (after a crash between telling and recording), never not at all.
4. What fails is tried again later and later. A lane that cannot read the ledger opens it anew.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from producer.config import ProducerConfig
from producer.errors import LedgerError, UnknownTask
from producer.ledger.records import Outbox, Pending
from producer.ledger.views import Reader
from producer.places import Places
from producer.supervisor import anchor
from producer.supervisor.attention import write_notice
from producer.supervisor.escalation import write_escalation
from producer.supervisor.kernel import Kernel
from producer.supervisor.notify import Pusher
from producer.supervisor.reports import write_report
from producer.supervisor.told import Told

IDLE_SECONDS = 1.0
REOPEN_SECONDS = 5.0
LONGEST_BACKOFF = 600.0
Deliver: TypeAlias = Callable[[Sequence[Pending], Reader], Iterator[Told]]


class Courier:
    """Start it with ``start``; ``wake`` it after a commit; ``collect`` in the loop; ``stop`` it at the end."""

    def __init__(
        self,
        config: Callable[[], ProducerConfig],
        places: Places,
        env: Mapping[str, str],
        workspaces: Deliver | None = None,
    ) -> None:
        self._told: queue.SimpleQueue[tuple[Lane, Told]] = queue.SimpleQueue()
        files, pusher = partial(_deliver_files, config, places), Pusher(config, env)
        self._lanes = (
            Lane("files", places.ledger, files, self._told),
            Lane("push", places.ledger, pusher.deliver, self._told),
            Lane("anchor", places.ledger, partial(anchor.deliver, config), self._told),
            *([Lane("workspace", places.ledger, workspaces, self._told)] if workspaces else []),
        )

    def start(self) -> None:
        """Begin."""
        for lane in self._lanes:
            lane.start()

    def wake(self, outbox: Outbox) -> None:
        """The batch is committed: where it put something into the outbox, tell it now."""
        if outbox.news:
            outbox.news = False
            for lane in self._lanes:
                lane.wake()

    def collect(self, kernel: Kernel) -> None:
        """Record what was told since the last time, inside the loop's transaction."""
        outbox = kernel.store.outbox
        while not self._told.empty():
            lane, told = self._told.get()
            match told.what:
                case "done":
                    outbox.done(told.id)
                case "later":
                    outbox.hold(told.id, told.not_before)
                case "again":
                    outbox.failed(told.id, told.error, told.not_before)
            if told.then:
                told.then(kernel)
            kernel.after.append(partial(lane.recorded, told.id))

    def stop(self, seconds: float = 2.0) -> None:
        """End; what is not told yet stays in the outbox."""
        deadline = time.monotonic() + seconds
        for lane in self._lanes:
            lane.leave()
        for lane in self._lanes:
            lane.join(max(0.0, deadline - time.monotonic()))


class Lane:
    """One thread that tells one part of the outbox, in order."""

    def __init__(self, name: str, ledger: Path, deliver: Deliver, told: queue.SimpleQueue[tuple[Lane, Told]]) -> None:
        self._name, self._ledger, self._deliver, self._told = name, ledger, deliver, told
        self._news, self._stop = threading.Event(), threading.Event()
        self._under_way: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=f"courier-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something new."""
        self._news.set()

    def leave(self) -> None:
        """End after what is being told now."""
        self._stop.set()
        self._news.set()

    def join(self, seconds: float) -> None:
        """Wait for the end; a thread that hangs in the network is left to the end of the process."""
        self._thread.join(seconds)

    def recorded(self, ident: str) -> None:
        """The loop has committed what became of an entry."""
        self._under_way.discard(ident)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with Reader(self._ledger) as reader:
                    self._serve(reader)
            except LedgerError:
                self._stop.wait(REOPEN_SECONDS)

    def _serve(self, reader: Reader) -> None:
        outbox = Outbox(reader.db)
        while not self._stop.is_set():
            self._news.clear()
            # Copied before the ledger is read: an entry that is recorded in between would else be told once more.
            under_way = frozenset(self._under_way)
            due = [item for item in outbox.due(time.time(), lane=self._name) if item.id not in under_way]
            for told in self._deliver(due, reader):
                self._under_way.add(told.id)
                self._told.put((self, told))
                if self._stop.is_set():
                    return
            self._news.wait(IDLE_SECONDS)


def _deliver_files(
    config: Callable[[], ProducerConfig], places: Places, due: Sequence[Pending], reader: Reader
) -> Iterator[Told]:
    for entry in due:
        try:
            yield _write(config(), places, entry, reader)
        except Exception as error:  # whatever it is, the entry stays and the others go on
            delay = min(LONGEST_BACKOFF, 2.0 ** min(entry.tries, 10))
            yield Told(entry.id, "again", time.time() + delay, f"{type(error).__name__}: {error}")


def _write(config: ProducerConfig, places: Places, entry: Pending, reader: Reader) -> Told:
    body = entry.body
    match entry.kind:
        case "escalation":
            try:
                task = reader.show(body["task"])
            except UnknownTask:
                return Told(entry.id)
            write_escalation(config.escalations_dir, task, reader.audit_tail(50, body["task"]))
        case "notice":
            write_notice(config.reports_dir, str(body["title"]), str(body["body"]))
        case "report":
            return write_report(config, places, entry, reader)
        case _:  # of a newer version, which may yet come back: what nobody tells is not told
            raise LedgerError(f"nobody here tells entries of the kind {entry.kind!r}")
    return Told(entry.id)
