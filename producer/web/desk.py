"""The project as the dashboard sees it: configuration, ledger, supervisor. Used from worker threads.

1. The ledger is opened for each request, read-only: a ledger that is taken over or made anew is seen as it is now.
2. What a supervisor has in mind (workers and what they do) is asked of it once for all who want to know at the same
   moment; ``stale`` says that something happened since.
3. A supervisor that does not answer costs a second, and then nobody asks again for PAUSE seconds.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from producer import killswitch
from producer.cli.app import App
from producer.cli.snapshot import from_ledger
from producer.config import ProducerConfig, load_config
from producer.errors import ConfigError, LedgerBusy, NoSupervisor, WireError
from producer.ledger import Reader
from producer.ledger.lock import Holder
from producer.ledger.submit import rebuild
from producer.wire.client import Control

ANSWER_SECONDS = 1.0
WRITE_SECONDS = 15.0
FRESH_SECONDS = 0.25
PAUSE = 3.0


class Desk:
    """One project."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._lock = threading.Lock()
        self._control: tuple[Holder, Control] | None = None
        self._known: tuple[int, float, dict[str, Any]] | None = None
        self._silent_until = 0.0
        self._happened = 0
        self.doing: dict[str, str] = {}  # by attempt: what it was last heard to do, in words

    @property
    def config(self) -> ProducerConfig:
        """The configuration in force."""
        return self.app.config

    def reload(self) -> None:
        """The supervisor took a new configuration: read it. A file that is broken by now leaves the old one."""
        if self.config.source is None:
            return
        try:
            self.app.__dict__["config"] = load_config(self.config.source)
        except ConfigError:
            return

    def near(self, text: str) -> str:
        """Text with the paths in it that lie in the project written from its root."""
        return text.replace(f"{self.config.project_root}/", "")

    def reader(self) -> Reader:
        """The ledger for reading. Raises LedgerUnusable."""
        return self.app.reader()

    def stale(self) -> None:
        """Something happened: what the supervisor said last is not the state any more."""
        self._happened += 1

    # ---- the supervisor

    def status(self) -> dict[str, Any]:
        """The object of `status --json` without queue and events, from the supervisor or else from the ledger."""
        holder = self.app.supervisor()
        if holder is not None:
            found = self._asked(holder)
            if found is not None:
                return found
        with self.reader() as reader:
            return from_ledger(self.app, reader, holder, brief=True)

    def _asked(self, holder: Holder) -> dict[str, Any] | None:
        with self._lock:
            happened, now = self._happened, time.monotonic()
            known = self._known
            if known and known[0] == happened and now - known[1] < FRESH_SECONDS and known[2]["holder"] == holder:
                found: dict[str, Any] = known[2]["status"]
                return found
            if now < self._silent_until:
                return None
            try:
                reply = self._socket(holder).ask(
                    "status", {"brief": True}, ANSWER_SECONDS, lambda: self.app.supervisor() == holder
                )
            except (NoSupervisor, WireError):
                self._hang_up()
                self._silent_until = now + PAUSE if self.app.supervisor() == holder else 0.0
                return None
            status: dict[str, Any] = {**reply.result}
            self._known = (happened, time.monotonic(), {"holder": holder, "status": status})
            return status

    def _socket(self, holder: Holder) -> Control:
        if self._control is None or self._control[0] != holder:
            self._hang_up()
            self._control = (holder, Control(self.app.places))
        return self._control[1]

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control[1].close()
        self._control = None

    def ask(self, operation: str, **arguments: Any) -> Any:
        """Have the supervisor do something. Raises NoSupervisor, LedgerBusy, or the error that it answers."""
        holder = self.app.supervisor()
        if holder is None:
            raise NoSupervisor(self.config.ledger_db)
        try:
            control = Control(self.app.places)
            try:
                reply = control.ask(
                    operation, {**arguments, "actor": f"{self.app.actor} (dashboard)"}, WRITE_SECONDS,
                    lambda: self.app.supervisor() == holder,
                )  # fmt: skip
            finally:
                control.close()
        except NoSupervisor:
            raise LedgerBusy(f"{holder} did not answer: look whether {operation} was done") from None
        self.stale()
        if not reply.ok:
            raise rebuild(reply.result, reply.error)
        return reply.result

    def close(self) -> None:
        """Let the supervisor go."""
        with self._lock:
            self._hang_up()

    # ---- what can change without an event

    def outside(self) -> tuple[object, ...]:
        """What nobody tells of: who holds the ledger, whether its file changed without a supervisor, and the switch."""
        holder, switch = self.app.supervisor(), killswitch.read(self.config.kill_switch)
        return (holder, None if holder else self._ledger_stamp(), switch.armed, switch.reason)

    def _ledger_stamp(self) -> tuple[tuple[int, int], ...]:
        found = []
        for end in ("", "-wal"):
            try:
                status = Path(f"{self.config.ledger_db}{end}").stat()
                found.append((status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0))
        return tuple(found)
