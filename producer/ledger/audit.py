"""The audit log: what was done, by whom, in a chain of hashes.

    leaf  = SHA-256(0x00 || body)          body = JSON with sorted keys, integers for money, no NaN
    chain = SHA-256(0x02 || previous chain || seq, 8 bytes, big-endian || leaf)

1. A row is written in the transaction of the change that it reports, never after it.
2. Triggers refuse every UPDATE and DELETE, and every INSERT but the next row's.
3. What was appended becomes rows when the ledger catches up (see Database), all of it in one go.
4. The newest head is also kept in a file outside the database, rewritten after each commit: a WAL that was lost
   reopens without an error as a shorter, valid chain, and only that file tells. Before the file is overwritten, what
   it told goes into the log itself (see Store).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from producer.core.merkle import leaf
from producer.ledger.database import Database

GENESIS = bytes(32)
_strict = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_RECORD = 96  # bytes of the head file: one write, within one page, never half done


class Head(NamedTuple):
    """The newest row: its number and its chain value."""

    seq: int
    chain: bytes

    def text(self) -> str:
        """``SEQ HEX``, as the head file and `audit head` show it."""
        return f"{self.seq} {self.chain.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The inverse of ``text``. Raises ValueError."""
        seq, chain = text.split()
        head = cls(int(seq), bytes.fromhex(chain))
        if head.seq < 0 or len(head.chain) != len(GENESIS):
            raise ValueError(f"{text!r} is not SEQ HEX")
        return head


def link(previous: bytes, seq: int, body: bytes) -> bytes:
    """The chain value of a row."""
    return _link(previous, seq, leaf(body))


def _link(previous: bytes, seq: int, hashed: bytes) -> bytes:
    return sha256(b"\x02" + previous + seq.to_bytes(8, "big") + hashed).digest()


def _encode(body: dict[str, Any]) -> bytes:
    try:
        data = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # an agent's integer of more than 64 bits
        return _strict(body).encode()
    # orjson writes null for NaN, which is to be refused
    return _strict(body).encode() if b"null" in data and _has_float(body) else data


def _has_float(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_has_float, value.values()))
    return isinstance(value, float) or (isinstance(value, (list, tuple)) and any(map(_has_float, value)))


class Audit:
    """Appends to the chain, inside the ledger's transactions."""

    def __init__(self, db: Database, head_file: Path | None) -> None:
        self._db = db
        self._file = os.open(head_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600) if head_file else None
        self._committed = self._head = self._stored()
        self._bodies: list[bytes] = []
        self.listener: Callable[[dict[str, Any]], None] | None = None
        self.on_written: Callable[[list[bytes]], None] = lambda leaves: None
        db.before_commit.append(self._write)
        db.on_commit.append(self._keep)
        db.on_rollback.append(self._reload)

    def append(
        self,
        action: str,
        actor: str,
        *,
        task: str | None = None,
        attempt: str | None = None,
        cost: int = 0,
        **detail: Any,
    ) -> None:
        """Add one row to the running transaction. ``detail`` must be JSON without floats for money."""
        self.append_free(action, actor, detail=detail, task=task, attempt=attempt, cost=cost)

    def append_free(
        self,
        action: str,
        actor: str,
        *,
        detail: dict[str, Any],
        task: str | None = None,
        attempt: str | None = None,
        cost: int = 0,
    ) -> None:
        """``append`` for details whose keys are not ours to name."""
        body: dict[str, Any] = {"action": action, "actor": actor, "at": self._db.stamp, "detail": detail}
        if task:
            body["task"] = task
        if attempt:
            body["attempt"] = attempt
        if cost:
            body["cost_micros"] = cost
        if not self._bodies:
            self._db.behind()
        self._bodies.append(_encode(body))
        if self.listener:
            self.listener(body)

    @property
    def size(self) -> int:
        """How many rows there are, the running transaction included."""
        return self._head.seq + len(self._bodies)

    def head(self) -> Head:
        """The newest row, the running transaction included."""
        self._db.catch_up()
        return self._head

    def kept(self) -> Head | None:
        """The head that the file outside the database names; None where there is no file or nothing in it."""
        if self._file is None:
            return None
        try:
            return Head.parse(os.pread(self._file, _RECORD, 0).decode("ascii").strip("\x00\n "))
        except ValueError:
            return None

    def missing(self) -> Head | None:
        """The head that the file names, where this ledger does not hold its row: the log's end was lost or replaced."""
        kept = self.kept()
        if kept is None or kept.seq == 0:
            return None
        chain = self._db.value("SELECT chain FROM audit WHERE seq = ?", kept.seq)
        return None if chain == kept.chain else kept

    def close(self) -> None:
        """Give the head file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _stored(self) -> Head:
        row = self._db.one("SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1")
        return Head(row[0], row[1]) if row else Head(0, GENESIS)

    def _write(self) -> None:
        if not self._bodies:
            return
        bodies, self._bodies = self._bodies, []
        (seq, chain), rows, leaves = self._head, [], []
        for body in bodies:
            seq, hashed = seq + 1, leaf(body)
            chain = _link(chain, seq, hashed)
            rows.append((seq, body, chain))
            leaves.append(hashed)
        self._db.run_many("INSERT INTO audit (seq, body, chain) VALUES (?, ?, ?)", rows)
        self._head = Head(seq, chain)
        self.on_written(leaves)

    def _reload(self) -> None:
        self._bodies = []
        self._head = self._stored()

    def _keep(self) -> None:
        if self._file is not None and self._head != self._committed:
            try:
                keep_head(self._file, self._head)
            except OSError:
                return  # the commit stands; an older head is still one of this chain, and the next commit tries again
        self._committed = self._head


def keep_head(file: int, head: Head) -> None:
    """Write the newest head to the open file outside the database. Raises OSError."""
    os.pwrite(file, head.text().ljust(_RECORD - 1).encode() + b"\n", 0)
