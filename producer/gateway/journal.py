"""The gateway's side of its journal: an outbox that outlives it.

1. A request's `Opened` is written before the request leaves, its `Metered` before the last byte of the response is
   passed on: if that write fails, what the supervisor finds is the worst case, never nothing. Neither is waited for
   until it is on the disk: the grant in the ledger is, and stands for what a power cut takes from here.
2. At start, what earlier gateways began and did not finish is closed with its worst case, in the file too.
3. A file goes once every line of it is booked and its attempt is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from producer.wire import journal as lines
from producer.wire.journal import Opened
from producer.wire.messages import Metered


class Journal:
    """The files under ``directory``. ``is_open`` says whether an attempt may still ask for more."""

    def __init__(self, directory: Path, is_open: Callable[[str], bool]) -> None:
        self._directory, self._is_open = directory, is_open
        self._files: dict[str, int] = {}
        self._unbooked: dict[str, set[str]] = {}

    def recover(self) -> list[Metered]:
        """What earlier gateways left unbooked, for the supervisor to book. Raises OSError."""
        records: list[Metered] = []
        for attempt in lines.attempts(self._directory):
            found = lines.read(lines.path_of(self._directory, attempt))
            for record in found.records():
                if record.request not in found.metered:
                    self._append(attempt, lines.line(record))
                self._unbooked.setdefault(attempt, set()).add(record.request)
                records.append(record)
            self.tidy(attempt)
        return records

    def opened(self, record: Opened) -> None:
        """Note a request that is about to leave. Raises OSError: then it must not."""
        self._append(record.attempt, lines.line(record))
        self._unbooked.setdefault(record.attempt, set()).add(record.request)

    def metered(self, record: Metered) -> None:
        """Note how a request ended. Raises OSError; its Opened then stands for it."""
        self._unbooked.setdefault(record.attempt, set()).add(record.request)
        self._append(record.attempt, lines.line(record))

    def booked(self, attempt: str, request: str) -> None:
        """The supervisor committed this request."""
        self._unbooked.get(attempt, set()).discard(request)
        self.tidy(attempt)

    def tidy(self, attempt: str) -> None:
        """Remove the attempt's file where nothing needs it any more."""
        if self._unbooked.get(attempt) or self._is_open(attempt):
            return
        self._unbooked.pop(attempt, None)
        if (descriptor := self._files.pop(attempt, None)) is not None:
            os.close(descriptor)
        lines.path_of(self._directory, attempt).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files; they stay."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _append(self, attempt: str, text: bytes) -> None:
        descriptor = self._files.get(attempt)
        if descriptor is None:
            descriptor = self._files[attempt] = _open(lines.path_of(self._directory, attempt))
        if os.write(descriptor, text) != len(text):  # a full disk: end the torn line, so that the next one can be read
            os.write(descriptor, b"\n")
            raise OSError(f"the journal of {attempt} could not be written in full")


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
    return descriptor
