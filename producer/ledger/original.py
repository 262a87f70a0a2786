"""The file of a 0.3 ledger, held so that nobody else can have it open while it is taken over.

1. 0.3 has no lock file, but its producer keeps the ledger open in WAL mode for as long as it lives, and SQLite keeps a
   shared lock on the file for as long as it is open. An exclusive lock is therefore had exactly when nobody is there:
   no producer, no script, no sqlite3 shell.
2. Until ``fold`` not a byte of the file or of its log is changed.
3. Who waits for our lock opened the file that is about to be replaced, and would write into a file without a name.
   ``condemn`` spoils what it opened: it fails, and nothing is lost without a word.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType

import apsw

from producer.errors import LedgerBusy, LedgerUnusable

_WAIT_MS = 1_000
_LOCKS = Path("/proc/locks")


class Original:
    """The old ledger, exclusively. Raises LedgerBusy where another program has it open; apsw.Error, OSError."""

    def __init__(self, path: Path) -> None:
        self.path, self._log = path, path.with_name(path.name + "-wal")
        self._folded = False
        # Before the connection, and closed after it: closing any descriptor of the file drops this process's locks.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
            try:
                self._seize()
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            os.close(self._fd)
            raise

    def _seize(self) -> None:
        connection = self._connection
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(_WAIT_MS)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")  # the lock stays
        except apsw.BusyError:
            raise LedgerBusy(
                f"{self.path} is open in another program{_openers(self.path)}: stop the 0.3 producer (`producer kill`,"
                " then Ctrl-C or SIGTERM) and whatever else uses the file, and try again"
            ) from None

    def __enter__(self) -> Original:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._folded:
            self._drop_empty_log()
        self._connection.close()
        os.close(self._fd)

    def copy(self, target: Path) -> None:
        """A consistent copy, what lies in the log included, as one private file. Raises LedgerUnusable on damage."""
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with closing(apsw.Connection(str(target))) as other:
            with other.backup("main", self._connection, "main") as copy:
                copy.step()
            other.pragma("journal_mode", "delete")  # so that reading it later makes no files beside it
            for (line,) in other.execute("PRAGMA integrity_check"):
                if line != "ok":
                    raise LedgerUnusable(f"{self.path} is damaged: {line}: it was not touched")

    def fold(self) -> None:
        """Move what lies in the log into the file: a log left behind would be taken for the new file's."""
        busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
        self._folded = True
        if busy or not self._drop_empty_log():
            raise LedgerBusy(f"{self.path} is in use: its log could not be folded into it")

    def _drop_empty_log(self) -> bool:
        """Remove the log if nothing is in it. Only while the path is still ours: afterwards a log is the new file's."""
        if self._log.exists() and self._log.stat().st_size:
            return False
        self._log.unlink(missing_ok=True)
        return True

    def condemn(self) -> None:
        """Make the replaced file unreadable, unless it still has a name somewhere."""
        with suppress(OSError):
            if os.fstat(self._fd).st_nlink == 0:
                os.pwrite(self._fd, b"replaced by migrate\0", 0)


def _openers(path: Path) -> str:
    """` (pid N, N)`: who holds locks on the file, where the system tells."""
    try:
        inode = path.stat().st_ino
        lines = [line.split() for line in _LOCKS.read_text().splitlines()]
    except OSError:
        return ""
    found = {words[4] for words in lines if len(words) > 5 and words[5].endswith(f":{inode}") and words[4] != "0"}
    pids = sorted(found - {str(os.getpid())}, key=int)
    return f" (pid {', '.join(pids)})" if pids else ""
