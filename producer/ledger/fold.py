"""Folding the write-ahead log into the ledger's file, beside the loop.

1. A checkpoint writes what many commits changed and syncs it: tens of milliseconds, which no task should wait for. So a
   thread with a connection of its own does it, each time ``EVERY`` more pages lie in the log.
2. Such a checkpoint lets writing go on, so under steady load it never empties the log. Past ``LIMIT`` pages the writer
   finishes it itself, which is short, for little is left; then the log begins anew.
3. What a checkpoint cannot do (a full disk, another one at work) it leaves as it was, and the next one tries again. A
   failure that matters shows in the next commit.
"""

from __future__ import annotations

import threading
from contextlib import closing, suppress
from pathlib import Path

import apsw

EVERY = 1_000  # pages of 4 KiB
LIMIT = 8_000


class Folder:
    """Takes over the checkpoints of a writing connection, from now until ``close``."""

    def __init__(self, path: Path, writer: apsw.Connection) -> None:
        self._path, self._writer = path, writer
        self._wanted, self._over = threading.Event(), False
        self._asked = 0
        writer.set_wal_hook(self._committed)
        self._thread = threading.Thread(target=self._serve, name="fold", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for the checkpoint at hand, if there is one, and end."""
        self._over = True
        self._wanted.set()
        self._thread.join()

    def _committed(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        """A commit left ``pages`` in the log."""
        if pages < self._asked:
            self._asked = 0
        if pages - self._asked >= EVERY:
            self._asked = pages
            self._wanted.set()
        if pages >= LIMIT:
            _checkpoint(self._writer)
        return apsw.SQLITE_OK

    def _serve(self) -> None:
        with suppress(apsw.Error), closing(apsw.Connection(str(self._path))) as connection:
            connection.execute("PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON")
            while self._wanted.wait() and not self._over:
                self._wanted.clear()
                _checkpoint(connection)


def _checkpoint(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
