"""The SQLite file: opening, schema, migrations and transactions. Through apsw, whose wheels carry a current SQLite.

1. WAL with synchronous=FULL: a commit that was reported survives a power loss.
2. A file that is not a database, is damaged or has a newer schema is refused before anything is written to it.
3. An older schema is migrated in one transaction, after a backup beside the ledger.
4. A transaction has one moment, `now`: every row written in it carries the same time.
5. What is kept in memory for a while (a statement by `defer`, a part's own figures by `behind`) is written before
   anything is read, committed or undone in part. Where that fails, whoever asked may be innocent of it and go on; the
   transaction cannot be committed any more.
6. Every change happens in `transaction()`; a part that may fail on its own is wrapped in `savepoint()`. A change
   outside of one is refused: SQLite gives up a transaction by itself (disk full), and the rest must not commit alone.
7. Whatever SQLite raises leaves here as a LedgerError.
8. One process writes. Where another one did all the same (a person with sqlite3), the next transaction begins with
   `on_rollback`, so that what is kept in memory is read again, and with `on_foreign`.
9. The file is never opened and closed beside SQLite while this process has a connection to it (see whose.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import apsw

from producer.errors import LedgerBusy, LedgerError, LedgerRefused, LedgerUnusable
from producer.ids import iso, new_id
from producer.ledger.fold import Folder
from producer.ledger.upgrade import upgrade
from producer.ledger.whose import APPLICATION_ID, SCHEMA_VERSION, inode, opened, refuse_strangers

Row = tuple[Any, ...]
_REFUSALS = (apsw.ConstraintError, apsw.MismatchError, apsw.TooBigError)
_opening = threading.Lock()
P = ParamSpec("P")
T = TypeVar("T")


def _translated(
    method: Callable[Concatenate[Database, P], T],
) -> Callable[Concatenate[Database, P], T]:
    """Let a method raise LedgerError where SQLite raises its own."""

    @wraps(method)
    def call(self: Database, /, *values: P.args, **named: P.kwargs) -> T:
        try:
            return method(self, *values, **named)
        except apsw.Error as error:
            raise self._translate(error) from error

    return call


class Database:
    """One connection to the ledger. The writer's is ``writable``; it exists once, in the process with the lock."""

    def __init__(
        self,
        path: Path | str,
        *,
        writable: bool,
        clock: Callable[[], float],
        ids: Callable[[], str] = new_id,
    ) -> None:
        self.path = Path(path)
        self.clock = clock
        self.new_id = ids
        self.now = clock()
        self.stamp = iso(self.now)
        self.before_commit: list[Callable[[], None]] = []
        self.on_commit: list[Callable[[], None]] = []
        self.on_rollback: list[Callable[[], None]] = []
        self.on_foreign: list[Callable[[], None]] = []
        self._behind = False
        self._deferred: dict[str, list[Row]] = {}
        self._touched: dict[tuple[str, str], str] = {}
        self._broken: Exception | None = None
        self._folder: Folder | None = None
        self._inode: tuple[int, int] | None = None
        with _opening:
            self._connection = self._open(writable)
            self._version = self._connection.pragma("data_version")
            self._inode = inode(self.path)
            opened[self._inode] += 1

    def _open(self, writable: bool) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE if writable else apsw.SQLITE_OPEN_READONLY
        try:
            refuse_strangers(self.path)
            connection = apsw.Connection(str(self.path), flags=flags, statementcachesize=256)
            try:
                self._prepare(connection, writable)
            except BaseException:
                connection.close()
                raise
            return connection
        except (apsw.Error, OSError) as error:
            raise LedgerUnusable(f"{self.path} cannot be opened as a ledger: {error}") from None

    def _prepare(self, connection: apsw.Connection, writable: bool) -> None:
        connection.set_busy_timeout(10_000)
        # Without it SQLite plans a statement anew for every bound value: 20 us a call, measured, for the same plan.
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        if not writable:
            if connection.pragma("user_version") == 0:
                raise LedgerUnusable(f"{self.path} is empty: `producerctl init` or `producerctl run` fills it")
            return
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise LedgerUnusable(f"{self.path} cannot have a write-ahead log here (journal mode {mode})")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone does not reach the disk's platters
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -4096")  # 4 MiB: 16 are no faster, with a million tasks either
        self._migrate(connection)

    def _migrate(self, connection: apsw.Connection) -> None:
        version = connection.pragma("user_version")
        if version == SCHEMA_VERSION:
            return
        if version:
            upgrade(connection, self.path, version, SCHEMA_VERSION, self.clock())
            return
        with connection:
            connection.execute(Path(__file__).with_name("schema.sql").read_text())
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN IMMEDIATE ... COMMIT; rolled back on any exception. Raises LedgerError where SQLite fails."""
        if self._connection.in_transaction:
            raise LedgerError(f"{self.path}: a transaction is running already")
        self.now = self.clock()
        self.stamp = iso(self.now)
        try:
            self._control("BEGIN IMMEDIATE")
            self._heed_others()
            yield
            self.catch_up()
            if self._broken:
                raise LedgerError(f"{self.path}: a part of the transaction is missing") from self._broken
            self._control("COMMIT")
        except BaseException:
            self._rollback()
            raise
        for hook in self.on_commit:
            hook()

    @_translated
    def _heed_others(self) -> None:
        """Where another program has written since the last transaction: nothing in memory need be so any more."""
        version = self._connection.pragma("data_version")
        if version != self._version:
            for hook in (*self.on_rollback, *self.on_foreign):
                hook()
            self._version = version

    def _rollback(self) -> None:
        self._forget()
        if self._connection.in_transaction:
            self._control("ROLLBACK")
        for hook in self.on_rollback:
            hook()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A part of the transaction that is undone alone when it raises."""
        self._inside()
        self.catch_up()
        self._control("SAVEPOINT part")
        broken = self._broken
        try:
            yield
            self.catch_up()
        except BaseException:
            self._forget()
            self._broken = broken
            if self._connection.in_transaction:  # not after an error that made SQLite give up the whole transaction
                self._control("ROLLBACK TO part")
                self._control("RELEASE part")
            for hook in self.on_rollback:
                hook()
            raise
        self._inside()
        self._control("RELEASE part")

    def behind(self) -> None:
        """A part has the first changes in memory: have its ``before_commit`` hook called before anybody misses them."""
        if not self._behind:
            self._inside()
            self._behind = True

    def defer(self, table: str, row: str, sql: str, *values: object) -> None:
        """Execute a statement later, in one go with the same of other rows: half the time of one by one, measured.

        It makes or changes one row, ``row`` of ``table``, and is executed before that row is touched again and before
        anything is read or committed. LedgerError then, where it did not find its row.
        """
        if not self._deferred:
            self.behind()
        if self._touched.setdefault((table, row), sql) != sql:
            self._flush()
            self._touched[table, row] = sql
        self._deferred.setdefault(sql, []).append(values)

    def catch_up(self) -> None:
        """Write what is kept in memory, if anything. Raises LedgerError."""
        while self._behind:
            self._behind = False
            self._flush()
            with self.whole():
                for hook in self.before_commit:
                    hook()

    def _flush(self) -> None:
        """Execute what was deferred."""
        deferred, self._deferred = self._deferred, {}
        self._touched.clear()
        with self.whole():
            for sql, rows in deferred.items():
                before = self._connection.total_changes()
                self.run_many(sql, rows)
                if self._connection.total_changes() - before != len(rows):
                    raise LedgerError(f"{self.path}: a row is not as it was a moment ago: {sql}")

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is written here is written wholly: else the transaction cannot be committed, whoever goes on."""
        try:
            yield
        except Exception as error:
            self._broken = error
            raise

    def _forget(self) -> None:
        self._behind = False
        self._deferred.clear()
        self._touched.clear()
        self._broken = None

    def _inside(self) -> None:
        if not self._connection.in_transaction:
            raise LedgerError(f"{self.path}: no transaction is running")

    @_translated
    def _control(self, sql: str) -> None:
        self._connection.execute(sql)

    def run(self, sql: str, *values: object) -> int:
        """Execute one statement; the number of rows it changed. Raises LedgerError outside a transaction."""
        if not self._connection.in_transaction:
            raise LedgerError(f"{self.path}: no transaction is running")
        if self._deferred:
            self._flush()
        try:
            self._connection.execute(sql, values)
            return self._connection.changes()
        except apsw.Error as error:
            raise self._translate(error) from error

    def run_many(self, sql: str, values: Sequence[Row]) -> None:
        """Execute one statement for each row of values. Raises LedgerError outside a transaction."""
        self._inside()
        if not values:
            return
        if self._deferred:
            self._flush()
        try:
            self._connection.executemany(sql, values)
        except apsw.Error as error:
            raise self._translate(error) from error

    def one(self, sql: str, *values: object) -> Row | None:
        """The first row, None where there is none."""
        self.catch_up()
        return self.peek(sql, *values)

    def peek(self, sql: str, *values: object) -> Row | None:
        """``one`` for columns that nothing defers or keeps in memory: nothing is written before it reads."""
        try:
            return self._connection.execute(sql, values).fetchone()
        except apsw.Error as error:
            raise self._translate(error) from error

    def _translate(self, error: apsw.Error) -> LedgerError:
        if isinstance(error, apsw.BusyError):
            return LedgerBusy(f"{self.path} is locked by another program: {error}")
        if isinstance(error, _REFUSALS):
            return LedgerRefused(f"{self.path}: {error}")
        return LedgerError(f"{self.path}: {error}")

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row, None where there is no row."""
        row = self.one(sql, *values)
        return row[0] if row else None

    @_translated
    def rows(self, sql: str, *values: object) -> list[Row]:
        """All rows."""
        self.catch_up()
        return self._connection.execute(sql, values).fetchall()

    @_translated
    def dicts(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """All rows, each as a dictionary by column name."""
        self.catch_up()
        cursor = self._connection.execute(sql, values)
        first = cursor.fetchone()
        if first is None:
            return []
        names = [column[0] for column in cursor.get_description()]
        return [dict(zip(names, row, strict=True)) for row in (first, *cursor)]

    def dict(self, sql: str, *values: object) -> dict[str, Any] | None:
        """The first row as a dictionary."""
        found = self.dicts(sql, *values)
        return found[0] if found else None

    def backup(self, target: Path) -> None:
        """Copy the whole ledger, consistently, to a file that does not exist yet. Raises LedgerError."""
        try:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise LedgerError(f"{target} cannot be made for a backup: {error.strerror}") from None
        self._copy(target)

    @_translated
    def _copy(self, target: Path) -> None:
        with closing(apsw.Connection(str(target))) as other, other.backup("main", self._connection, "main") as copy:
            copy.step()

    def fold_beside(self) -> None:
        """Have the WAL folded into the file by a thread from now on: for a writer that stays."""
        self._folder = Folder(self.path, self._connection)

    def close(self) -> None:
        """Close the connection; the writer checkpoints the WAL into the file."""
        if self._folder:
            self._folder.close()
        self._connection.close()
        if self._inode is not None:
            opened[self._inode] -= 1
            self._inode = None


def placeholders(values: Sequence[object]) -> str:
    """As many comma-separated question marks as there are values."""
    return ", ".join("?" * len(values))
