"""The lock beside the ledger: whoever holds it is the one writer.

An flock, so the kernel gives it back when its holder dies, whatever way. The file's text says who holds it, for the
message that the next one gets; a stale text without a lock means nothing. Asking who holds it takes the lock for a
moment, shared; whoever wants it meanwhile looks again rather than believe that it is taken.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from producer.errors import LedgerError

_LOOKS = 100
_LOOK_SECONDS = 0.002


@dataclass(frozen=True)
class Holder:
    """Who holds a ledger."""

    kind: Literal["supervisor", "client"]
    pid: int
    since: float
    version: str

    def __str__(self) -> str:
        return f"{self.kind} pid {self.pid}"


class Lock:
    """The lock file of one ledger."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def acquire(self, holder: Holder) -> bool:
        """Take the lock if it is free. Raises LedgerError where its file cannot be written."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        for _ in range(_LOOKS):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self.holder() is not None:
                    os.close(fd)
                    return False
                time.sleep(_LOOK_SECONDS)  # somebody is just asking
        else:
            os.close(fd)
            return False
        try:
            os.truncate(fd, 0)
            os.pwrite(fd, json.dumps(asdict(holder)).encode(), 0)
        except OSError as error:
            os.close(fd)  # a lock that is kept without being reported would never be given back
            raise LedgerError(f"{self.path} cannot be written: {error.strerror}") from None
        self._fd = fd
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._fd is not None:
            with suppress(OSError):  # the kernel's lock counts, not the text
                os.truncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def holder(self) -> Holder | None:
        """Who holds the lock now; None where it is free. A holder that has not yet written its name is unknown."""
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return self._read(fd)
            return None
        finally:
            os.close(fd)

    @staticmethod
    def _read(fd: int) -> Holder:
        try:
            return Holder(**json.loads(os.pread(fd, 4096, 0)))
        except (ValueError, TypeError):
            return Holder("client", 0, 0.0, "")
