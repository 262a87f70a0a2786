"""How a change reaches the ledger: through the supervisor where one runs, else by our own hand.

1. The lock decides. Who gets it writes, in one transaction, and gives it back. A supervisor keeps it; then we ask it.
2. Long requests go by way of a file in the private inbox: a message has at most 1 MiB.
3. A supervisor that goes away before it answers may have committed or not: Unanswered, and the caller has to look.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from producer.errors import InvalidTask, LedgerBusy, NoSupervisor, WireError
from producer.ids import new_id
from producer.ledger.lock import Holder, Lock
from producer.ledger.operations import FILE, Context, error_class, perform
from producer.ledger.store import Store
from producer.ledger.whose import is_empty
from producer.places import Places
from producer.version import __version__
from producer.wire.client import Control

_PATIENCE = 15.0
_LONG = 1 << 18  # characters of JSON; more goes by way of a file
T = TypeVar("T")


class Unanswered(LedgerBusy):
    """The supervisor went away between the question and its answer."""


class Submitter:
    """The way into one ledger."""

    def __init__(self, path: Path, context: Context) -> None:
        self.path, self.places, self._context = path, Places.of(path), context
        self._lock = Lock(self.places.lock)
        self._kept: tuple[Holder, int, Control] | None = None

    def perform(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        """One operation of producer/ledger/operations.py, committed when this returns. Raises ProducerError."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            holder = self._lock.holder()
            if holder is None and self._lock.acquire(self._me()):
                return self._write(lambda store: perform(store, operation, arguments, self._context))
            if holder and holder.kind == "supervisor" and (control := self._control(holder)):
                return self._ask(control, holder, operation, arguments)
            if time.monotonic() > deadline:
                raise LedgerBusy(f"{self.path} is busy: {holder or 'another writer'} holds it")
            time.sleep(0.005)

    def close(self) -> None:
        """Give up the connection to the supervisor, if there is one."""
        if self._kept and self._kept[1] == os.getpid():
            self._kept[2].close()
        self._kept = None

    def _control(self, holder: Holder) -> Control | None:
        """The connection to this supervisor: kept, for its handshake costs more than a question."""
        if self._kept and self._kept[:2] == (holder, os.getpid()):
            return self._kept[2]
        self.close()
        try:
            self._kept = (holder, os.getpid(), Control(self.places))
        except WireError:
            return None  # the first supervisor of this ledger is just making the keys
        return self._kept[2]

    def _ask(self, control: Control, holder: Holder, operation: str, arguments: Mapping[str, Any]) -> Any:
        packed, file = self._packed(arguments)
        packed["actor"] = self._context.actor
        try:
            reply = control.ask(operation, packed, _PATIENCE, lambda: self._lock.holder() == holder)
        except WireError as error:
            raise InvalidTask(f"{operation}: {error}") from None
        except NoSupervisor:
            self.close()
            if self._lock.holder() == holder:
                raise LedgerBusy(f"{self.path}: {holder} holds the ledger and does not answer") from None
            raise Unanswered(f"{self.path}: {holder} went away: look whether {operation} was done") from None
        finally:
            if file:
                file.unlink(missing_ok=True)
        if not reply.ok:
            raise rebuild(reply.result, reply.error)
        return reply.result

    def _packed(self, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
        """Arguments as they go into a message: as they are, or by way of a file where they are long."""
        try:
            data = json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidTask(f"not JSON: {error}") from None
        if len(data) < _LONG:
            return dict(arguments), None
        self.places.make()
        path = self.places.inbox / new_id()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(data)
        return {FILE: path.name}, path

    def create(self) -> None:
        """Make the ledger where there is none; where somebody else is just doing that, wait for it."""
        deadline = time.monotonic() + _PATIENCE
        while is_empty(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._lock.acquire(self._me()):
                self._write(lambda store: None)
            elif time.monotonic() > deadline:
                raise LedgerBusy(f"{self.path} is held by {self._lock.holder()}")
            else:
                time.sleep(0.01)

    @staticmethod
    def _me() -> Holder:
        return Holder("client", os.getpid(), time.time(), __version__)

    def _write(self, work: Callable[[Store], T]) -> T:
        """One transaction of our own, while we hold the lock; the lock is given back."""
        try:
            self.places.make()
            store = Store(self.path, head_file=self.places.state / "audit.head")
            try:
                with store.transaction():
                    return work(store)
            finally:
                store.close()
        finally:
            self._lock.release()


def rebuild(name: object, text: str | None) -> Exception:
    """The error that the supervisor met, from its class's name and its text."""
    cls = error_class(str(name))
    error = cls.__new__(cls)
    Exception.__init__(error, text or "")
    return error
