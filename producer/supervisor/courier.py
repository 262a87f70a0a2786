"""The courier: tells the world outside the ledger, in a thread of its own, so that a slow server delays nothing.

It reads the outbox on a read-only connection and hands what became of each entry back to the loop, which is the one
writer. An entry may be told twice (after a crash between telling and recording), never not at all.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.config import ProducerConfig
from producer.ids import utc_iso_now
from producer.ledger.records import Outbox, Pending
from producer.ledger.views import Reader
from producer.supervisor.escalation import write_escalation

IDLE_SECONDS = 1.0
LONGEST_BACKOFF = 600.0


@dataclass(frozen=True)
class Told:
    """What became of an entry; ``error`` None: told."""

    id: str
    error: str | None = None
    not_before: float = 0.0


class Courier:
    """Start it with ``start``; ``wake`` it after a commit; collect ``told`` in the loop; ``stop`` it at the end."""

    def __init__(self, config: Callable[[], ProducerConfig], ledger: Path) -> None:
        self._config, self._ledger = config, ledger
        self.told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._under_way: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    def stop(self, seconds: float = 2.0) -> None:
        """End; what is not told yet stays in the outbox."""
        self._stop.set()
        self._wake.set()
        self._thread.join(seconds)

    def collected(self, told: Told) -> None:
        """The loop has recorded what became of an entry."""
        self._under_way.discard(told.id)

    def _run(self) -> None:
        with Reader(self._ledger) as reader:
            outbox = Outbox(reader.db)
            while not self._stop.is_set():
                for entry in outbox.due(time.time()):
                    if entry.id not in self._under_way and not self._stop.is_set():
                        self._under_way.add(entry.id)
                        self.told.put(self._tell(entry, reader))
                self._wake.wait(IDLE_SECONDS)
                self._wake.clear()

    def _tell(self, entry: Pending, reader: Reader) -> Told:
        try:
            self._deliver(entry.kind, entry.body, reader)
        except Exception as error:
            delay = min(LONGEST_BACKOFF, 2.0 ** min(entry.tries, 10))
            return Told(entry.id, f"{type(error).__name__}: {error}", time.time() + delay)
        return Told(entry.id)

    def _deliver(self, kind: str, body: dict[str, Any], reader: Reader) -> None:
        config = self._config()
        if kind == "escalation":
            write_escalation(config.escalations_dir, reader.show(body["task"]), reader.audit_tail(50, body["task"]))
        elif kind == "notice":
            _append_notice(config.reports_dir / "needs-attention.md", body)


def _append_notice(path: Path, body: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    title, text = (" ".join(str(body[name]).split()) for name in ("title", "body"))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"- {utc_iso_now()} **{title}**: {text}\n")
