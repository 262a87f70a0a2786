"""Whose file it is that lies where a ledger should: ours, one of 0.3.x, another program's, or none yet.

It is looked at before SQLite opens it, from the header alone where that is enough: opening a database already writes
files. And only as long as this process has no connection to it: to close the file would drop the process's POSIX locks,
SQLite's among them, and another process that closes the ledger (an operator's `sqlite3`) would then take itself for the
last one and delete the log under the writer.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import apsw

from producer.errors import LedgerUnusable

APPLICATION_ID = 0x41495052  # "AIPR"
SCHEMA_VERSION = 4
opened: Counter[tuple[int, int]] = Counter()  # device and inode of what this process has connections to


def refuse_strangers(path: Path) -> None:
    """Raise LedgerUnusable for a file that is not ours, or newer than we are; OSError, apsw.Error."""
    application, version = _header(path)
    if application == APPLICATION_ID:
        if version > SCHEMA_VERSION:
            raise LedgerUnusable(
                f"{path} has schema {version}, this version knows {SCHEMA_VERSION}: upgrade ai-producer; "
                "it was not touched"
            )
        return
    kind = generation(path)
    if kind == "0.3":
        raise LedgerUnusable(f"{path} was written by ai-producer 0.3: run `producerctl migrate` first")
    if kind == "foreign":
        raise LedgerUnusable(f"{path} is a database, but not a ledger of ai-producer; it was not touched")


def inode(path: Path) -> tuple[int, int]:
    """Device and inode of a file, which are what POSIX locks are of. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _header(path: Path) -> tuple[int, int]:
    """(application id, schema version) from the first bytes of a SQLite file; zeros where there is none."""
    try:
        if opened[inode(path)] > 0:
            return APPLICATION_ID, SCHEMA_VERSION  # it was looked at when it was opened
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return 0, 0
    if not head.startswith(b"SQLite format 3\0"):
        return 0, 0
    return int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")


def _probe(path: Path) -> tuple[bool, set[str]]:
    """Whether a file whose header does not say so is ours (its log may say so), and its tables."""
    if not path.exists() or path.stat().st_size == 0:
        return False, set()
    logged = path.with_name(path.name + "-wal").exists()
    uri = f"file:{quote(str(path.resolve()))}?{'mode=ro' if logged else 'immutable=1'}"
    with closing(apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)) as probe:
        probe.set_busy_timeout(10_000)
        tables = {str(row[0]) for row in probe.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        return probe.pragma("application_id") == APPLICATION_ID, tables


def generation(path: Path) -> Literal["none", "0.3", "ours", "foreign"]:
    """Who made the ledger at ``path``; "none" where there is no file, or no table in it. Raises apsw.Error, OSError."""
    if _header(path)[0] == APPLICATION_ID:
        return "ours"
    ours, tables = _probe(path)
    if ours or not tables:
        return "ours" if ours else "none"
    return "0.3" if {"tasks", "audit_log", "budget"} <= tables else "foreign"


def is_empty(path: Path) -> bool:
    """Whether there is no ledger yet, and nothing else either: no file, or one that has no tables."""
    try:
        return generation(path) == "none"
    except (apsw.Error, OSError):
        return False
