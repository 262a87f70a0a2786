"""Results on disk until the supervisor has acknowledged them.

1. One append-only file a worker start, outboxes/<worker>/results.log, locked by its owner for as long as it lives.
2. A line is `R <crc32> <Result as JSON>` or `A <attempt>` (acknowledged). A result is written before it is sent.
3. Written means handed to the kernel: it survives any death of the process, SIGKILL included. It is not fsynced: a
   power cut takes the newest results with it, and then the attempt is lost, run again, and its cost is known from
   the gateway's journal. That is the price of thousands of results a second.
4. With nothing pending the file is emptied past 64 KiB; past 8 MiB it is rewritten with what is pending.
5. Reading is strict: a line that is cut, damaged or not a Result is left out and named, never guessed at.
6. Whoever can lock the file of a dead owner of its own role may take its results over (``adopt``).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from producer.errors import WireError
from producer.ids import is_id
from producer.wire.codec import body_of
from producer.wire.codec import read as read_message
from producer.wire.messages import Result

LOG = "results.log"
ROLE = "role"
REWRITE_BYTES = 8 << 20
EMPTY_BYTES = 64 << 10


@dataclass
class Contents:
    """What an outbox file holds: results by attempt, oldest first, and one line about every damage."""

    results: dict[str, Result] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)


def read(path: Path) -> Contents:
    """Read an outbox file. Raises OSError; damage inside the file is reported, not raised."""
    contents = Contents()
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if number == len(lines):
            contents.damage.append(f"{path}:{number}: the last line is cut off")
        elif line.startswith(b"A ") and is_id(line[2:].decode("ascii", "replace")):
            contents.results.pop(line[2:].decode(), None)
        elif (result := _parse(line)) is not None:
            contents.results[result.attempt] = result
        else:
            contents.damage.append(f"{path}:{number}: not a result")
    return contents


class Outbox:
    """The results of this worker start that are not yet acknowledged."""

    def __init__(self, directory: Path, role: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        (directory / ROLE).write_text(role)
        self.role = role
        self.path = directory / LOG
        self._file = _open_locked(self.path)
        self._pending: dict[str, bytes] = {}
        self._size = 0
        self.damage = self._take(read(self.path))
        self._rewrite()

    def __len__(self) -> int:
        return len(self._pending)

    def __contains__(self, attempt: object) -> bool:
        return attempt in self._pending

    def attempts(self) -> list[str]:
        """The attempts whose results are pending, oldest first."""
        return list(self._pending)

    def results(self) -> list[Result]:
        """The pending results, oldest first."""
        return [read_message(Result, body) for body in self._pending.values()]

    def put(self, result: Result) -> None:
        """Keep a result. Raises OSError where the disk refuses; then nothing of it is left on the disk; WireError."""
        body = body_of(result)
        self._append(_record(body))
        self._pending[result.attempt] = body

    def remove(self, *attempts: str) -> int:
        """Forget acknowledged results; how many of them there were. A full disk does not hinder it."""
        known = [attempt for attempt in attempts if self._pending.pop(attempt, None) is not None]
        if not known:
            return 0
        try:
            if not self._pending and self._size > EMPTY_BYTES:
                self._empty()
            elif self._size > REWRITE_BYTES:
                self._rewrite()
            else:
                self._append("".join(f"A {attempt}\n" for attempt in known).encode())
        except OSError:
            pass  # the lines stay: the results are sent once more one day, and fenced by their attempts
        return len(known)

    def adopt(self, outboxes: Path) -> int:
        """Take over the results of dead owners of the same role, from the directories in ``outboxes``; their number."""
        taken = 0
        for path in sorted(outboxes.glob(f"*/{LOG}")):
            if path == self.path or _role_of(path.parent) != self.role:
                continue
            with _abandoned(path) as free:
                if not free:
                    continue
                found = list(read(path).results.values())
                for result in found:
                    self.put(result)
                taken += len(found)
                shutil.rmtree(path.parent, ignore_errors=True)
        return taken

    def close(self) -> None:
        """Let go of the file; an empty outbox is removed with its directory."""
        if not self._pending:
            shutil.rmtree(self.path.parent, ignore_errors=True)
        os.close(self._file)

    def _take(self, contents: Contents) -> list[str]:
        for result in contents.results.values():
            self._pending[result.attempt] = body_of(result)
        return contents.damage

    def _append(self, record: bytes) -> None:
        written = 0
        try:
            while written < len(record):
                written += os.write(self._file, record[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(record)

    def _empty(self) -> None:
        os.ftruncate(self._file, 0)
        self._size = 0

    def _rewrite(self) -> None:
        """Write what is pending to a fresh file and put it in the place of this one."""
        if not self._pending:
            return self._empty()
        fresh = self.path.with_name(f"{LOG}.new")
        fresh.unlink(missing_ok=True)
        handle = _open_locked(fresh)
        records = b"".join(_record(body) for body in self._pending.values())
        with open(handle, "ab", closefd=False) as stream:
            stream.write(records)
        fresh.replace(self.path)
        os.close(self._file)
        self._file, self._size = handle, len(records)
        return None


def _role_of(directory: Path) -> str | None:
    try:
        return (directory / ROLE).read_text()
    except OSError:
        return None


def _record(body: bytes) -> bytes:
    return b"R %08x %b\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> Result | None:
    if len(line) < 12 or line[:2] != b"R " or line[10:11] != b" ":
        return None
    if b"%08x" % zlib.crc32(line[11:]) != line[2:10]:
        return None
    try:
        return read_message(Result, line[11:])
    except WireError:
        return None


def _open_locked(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


@contextmanager
def _abandoned(path: Path) -> Iterator[bool]:
    """Whether the file's owner is dead; its lock is held meanwhile."""
    try:
        handle = _open_locked(path)
    except OSError:
        yield False
        return
    try:
        yield path.exists()
    finally:
        os.close(handle)
