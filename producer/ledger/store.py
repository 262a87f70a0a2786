"""The one writer of a ledger: its parts, put together over one connection.

Whoever opens a Store holds the ledger's lock (see producer/ledger/lock.py) for as long as it is open.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from producer.ids import new_id
from producer.ledger import waits
from producer.ledger.accounts import Accounts
from producer.ledger.attempts import Attempts
from producer.ledger.audit import Audit
from producer.ledger.checkpoints import Checkpoints
from producer.ledger.database import Database
from producer.ledger.queue import Queue
from producer.ledger.records import Outbox, Records
from producer.ledger.roles import Roles

_QUIET = 60.0  # seconds between words about another program that goes on writing
_LOST = "the audit head kept outside the ledger names a row that it lacks: `producerctl audit verify` says more"


class Store:
    """Everything that changes a ledger. All of it happens inside ``transaction()``."""

    def __init__(
        self,
        path: Path | str,
        *,
        head_file: Path | None,
        clock: Callable[[], float] = time.time,
        ids: Callable[[], str] = new_id,
    ) -> None:
        self.db = Database(path, writable=True, clock=clock, ids=ids)
        try:
            self._assemble(head_file)
        except BaseException:
            self.db.close()
            raise

    def _assemble(self, head_file: Path | None) -> None:
        self.inbox = head_file.parent / "inbox" if head_file else None
        self.audit = Audit(self.db, head_file)
        self.checkpoints = Checkpoints(self.db, self.audit, head_file.parent if head_file else None)
        self.roles = Roles(self.db, self.audit)
        self.queue = Queue(self.db, self.audit, self.roles)
        self.accounts = Accounts(self.db)
        self.attempts = Attempts(self.db, self.audit, self.queue, self.accounts)
        self.records = Records(self.db, self.audit)
        self.outbox = Outbox(self.db)
        self._next_word = 0.0
        self.db.on_foreign.append(self._tell_foreign)
        self._open_log()
        waits.look(self)

    def _open_log(self) -> None:
        """The first row of a new ledger; and a row where the head kept outside names one that this ledger lacks."""
        head, missing = self.audit.head(), self.audit.missing()
        if head.seq and not missing:
            return
        with self.transaction():
            if not head.seq:
                self.audit.append("schema_init", "producer", ledger=self.db.path.name)
            if missing:
                self.audit.append("audit_head_mismatch", "producer", kept=missing.text(), found=head.text())
                self.outbox.put("notice", {"event": "audit", "title": "the ledger lost rows", "body": _LOST})

    def _tell_foreign(self) -> None:
        """Another program wrote the ledger: a row says so, one a minute at most."""
        if self.db.now >= self._next_word:
            self._next_word = self.db.now + _QUIET
            self.audit.append("foreign_write", "producer")

    def transaction(self) -> AbstractContextManager[None]:
        """One commit: everything in the block, or nothing. Raises LedgerError where SQLite fails."""
        return self.db.transaction()

    def meta(self, key: str) -> str | None:
        """A remembered fact."""
        value: str | None = self.db.value("SELECT value FROM meta WHERE key = ?", key)
        return value

    def set_meta(self, key: str, value: str) -> None:
        """Remember a fact."""
        self.db.run("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)

    def close(self) -> None:
        """Close the ledger; the WAL is folded into the file."""
        self.audit.close()
        self.db.close()
