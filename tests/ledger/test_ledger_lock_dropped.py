"""Regression: reading the ledger's header beside SQLite dropped the writer's locks, and its log was deleted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from producer.ledger.store import Store
from producer.ledger.views import Reader


def test_another_programs_close_does_not_delete_the_log_under_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = Store(path, head_file=tmp_path / "head")
    try:
        Reader(path).close()
        log = path.with_name("ledger.db-wal")
        before = log.stat().st_ino
        look = f"import sqlite3; d = sqlite3.connect({str(path)!r}); d.execute('SELECT count(*) FROM tasks').fetchall(); d.close()"
        subprocess.run([sys.executable, "-c", look], check=True, timeout=30)
        assert log.exists() and log.stat().st_ino == before
    finally:
        store.close()


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="no /proc/locks here")
def test_a_writer_keeps_its_lock_while_readers_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = Store(path, head_file=tmp_path / "head")
    try:
        for _ in range(3):
            Reader(path).close()
        held = [line for line in Path("/proc/locks").read_text().splitlines() if f":{path.stat().st_ino} " in line]
        assert held, "the writer's lock is gone"
    finally:
        store.close()
