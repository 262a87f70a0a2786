"""The write-ahead log of a writer that stays: folded beside it, bounded, and gone once it is closed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from producer.ledger import fold
from producer.ledger.store import Store

PAGE = 4096


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "ledger.db", head_file=None)
    made.db.fold_beside()
    return made


def wal(store: Store) -> Path:
    return store.db.path.with_name("ledger.db-wal")


def commit(store: Store, number: int) -> None:
    with store.transaction():
        store.set_meta(f"key {number}", "x" * 20_000)


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_pages_reach_the_file_while_the_writer_is_idle(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "EVERY", 20)
    before = store.db.path.stat().st_size
    for number in range(10):
        commit(store, number)
    assert until(lambda: store.db.path.stat().st_size > before + 100_000)
    store.close()


def test_the_log_does_not_grow_without_end_under_steady_writing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "EVERY", 20)
    monkeypatch.setattr(fold, "LIMIT", 60)
    for number in range(120):  # 840 pages
        commit(store, number)
    assert wal(store).stat().st_size < 300 * PAGE
    store.close()
    assert not wal(store).exists()


def test_another_readers_snapshot_neither_stops_the_writer_nor_loses_a_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "EVERY", 20)
    monkeypatch.setattr(fold, "LIMIT", 60)
    commit(store, 0)

    reader = apsw.Connection(str(store.db.path), flags=apsw.SQLITE_OPEN_READONLY)
    with reader:
        assert reader.execute("SELECT count(*) FROM meta").fetchone() == (1,)
        for number in range(1, 40):
            commit(store, number)
        assert reader.execute("SELECT count(*) FROM meta").fetchone() == (1,)
    reader.close()
    store.close()
    again = Store(store.db.path, head_file=None)
    assert again.db.value("SELECT count(*) FROM meta") == 40
    again.close()
