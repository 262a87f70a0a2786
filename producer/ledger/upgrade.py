"""Bringing a ledger of an older schema up to date, in one transaction, after a copy of it was put beside it.

The steps are upgrades/N.sql, from schema N-1 to N; schema.sql is what they lead to, for new ledgers.
"""

from __future__ import annotations

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw


def upgrade(connection: apsw.Connection, path: Path, version: int, wanted: int, now: float) -> None:
    """Take the ledger open in ``connection`` from one schema to another. Raises apsw.Error, OSError; then it is as it
    was.
    """
    _copy(connection, _backup_name(path, version, now))
    with connection:
        for step in range(version + 1, wanted + 1):
            connection.execute((Path(__file__).with_name("upgrades") / f"{step}.sql").read_text())
        connection.execute(f"PRAGMA user_version = {wanted}")


def _copy(connection: apsw.Connection, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(apsw.Connection(str(target))) as other, other.backup("main", connection, "main") as copy:
            copy.step()
    except BaseException:
        target.unlink()
        raise


def _backup_name(path: Path, version: int, now: float) -> Path:
    while True:
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        backup = path.with_name(f"{path.name}.schema-{version}-{stamp}.bak")
        if not backup.exists():
            return backup
        now += 1
