"""Signed checkpoints of the audit log, in the ledger and beside it.

1. A checkpoint covers rows of its own transaction at most; it leaves this machine after the commit.
2. Rows that are written are remembered by their leaf hashes, and join the frontier that was stored with the last
   checkpoint when the next one is due: about 1 us a row, measured. What is not remembered is read from the ledger.
3. The newest one is also kept in audit.checkpoint in the private state directory, so that a ledger which loses its end
   loses the proof of it only if that file is lost, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from producer.core.checkpoint import Signed
from producer.core.merkle import Frontier, leaf
from producer.ledger.audit import Audit
from producer.ledger.database import Database
from producer.ledger.signing import Signer, load

FILE = "audit.checkpoint"
_RECORD = 1024  # bytes of that file: one write, within one page
_PAGE = 5_000
_REMEMBERED = 20_000  # leaf hashes in memory at most


@dataclass(frozen=True)
class Stored:
    """A row of the table. Nothing of it has been checked. Its time is that of its last row, which it signs."""

    size: int
    note: str
    frontier: bytes


def newest(db: Database, below: int = 1 << 62) -> Stored | None:
    """The newest checkpoint of the ledger, or the newest of fewer than ``below`` rows; None where there is none."""
    if not _exists(db):
        return None
    row = db.one("SELECT size, note, frontier FROM checkpoints WHERE size < ? ORDER BY size DESC LIMIT 1", below)
    return Stored(*row) if row else None


def every(db: Database) -> Iterator[Stored]:
    """All checkpoints, the oldest first."""
    after = -(1 << 62)
    sql = "SELECT size, note, frontier FROM checkpoints WHERE size > ? ORDER BY size LIMIT ?"
    while _exists(db) and (page := db.rows(sql, after, _PAGE)):
        yield from (Stored(*row) for row in page)
        after = page[-1][0]


def _exists(db: Database) -> bool:
    """A reader may meet a ledger of the schema before this one; the next writer brings it up to date."""
    return bool(db.one("SELECT 1 FROM sqlite_schema WHERE name = 'checkpoints'"))


def bodies(db: Database, after: int) -> Iterator[bytes]:
    """The bodies of the rows behind a number. One that was made text by somebody is taken as it is."""
    while page := db.rows("SELECT seq, body FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, _PAGE):
        yield from (row[1] if isinstance(row[1], bytes) else str(row[1]).encode() for row in page)
        after = page[-1][0]


def kept(state: Path) -> Signed | None:
    """The checkpoint that is kept beside the ledger; None where there is none."""
    try:
        return Signed.parse((state / FILE).read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return None


class Checkpoints:
    """Makes them, inside the ledger's transactions. ``state``: the private directory of the key; None makes none."""

    def __init__(
        self, db: Database, audit: Audit, state: Path | None, env: Callable[[], Mapping[str, str]] = lambda: os.environ
    ) -> None:
        self._db, self._audit, self._state, self._env = db, audit, state, env
        self._frontier: Frontier | None = None  # at the newest checkpoint; None: to be read again
        self._leaves: list[bytes] | None = None  # of all rows behind it; None: to be read again
        self._fresh: Signed | None = None
        audit.on_written = self._remember
        db.on_commit.append(self._keep)
        db.on_rollback.append(self._reload)

    @cached_property
    def signer(self) -> Signer | None:
        """Who signs; made at the first question. Raises AuditKeyUnusable."""
        return load(self._state, self._env()) if self._state else None

    def unsigned(self) -> int:
        """How many rows no checkpoint covers yet, those of the running transaction included."""
        return self._audit.size - self._at().size

    def sign(self) -> Signed | None:
        """Sign all rows so far; None where that is done already, or there is no key. Raises AuditKeyUnusable."""
        frontier = self._at()
        if self.signer is None or self._audit.size <= frontier.size:
            return None
        rows = self._db.value("SELECT max(seq) FROM audit")  # with it, what waits to be written is
        if self._leaves is not None and frontier.size + len(self._leaves) == rows:
            frontier.extend(self._leaves)
        else:
            frontier.extend(map(leaf, bodies(self._db, frontier.size)))
        self._leaves = []
        self._fresh = signed = self.signer.sign(frontier.size, frontier.root())
        self._db.run(
            "INSERT INTO checkpoints (size, note, frontier) VALUES (?, ?, ?)",
            signed.size, signed.note(), frontier.pack(),
        )  # fmt: skip
        return signed

    def _remember(self, leaves: list[bytes]) -> None:
        if self._leaves is not None:
            self._leaves += leaves
            if len(self._leaves) > _REMEMBERED:
                self._leaves = None

    def _at(self) -> Frontier:
        """The frontier of the newest checkpoint. One that does not fit (`audit verify` tells) is computed anew."""
        if self._frontier is None:
            last = newest(self._db)
            try:
                self._frontier = Frontier.unpack(last.size, last.frontier) if last else Frontier()
            except (ValueError, TypeError):
                self._frontier = Frontier()
                self._frontier.extend(map(leaf, bodies(self._db, 0)))
            if last and last.size > self._frontier.size:  # of rows that are not there: nothing is signed before them
                self._frontier = Frontier(last.size)
        return self._frontier

    def _reload(self) -> None:
        self._frontier = self._leaves = self._fresh = None

    def _keep(self) -> None:
        fresh, self._fresh = self._fresh, None
        if fresh is None or self._state is None:
            return
        with suppress(OSError):  # the commit stands; the one that is there is still one of this log
            file = os.open(self._state / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, fresh.note().encode().ljust(_RECORD, b"\n"), 0)
            finally:
                os.close(file)
