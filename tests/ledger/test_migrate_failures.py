"""A takeover that fails on its way: the ledger is as it was, or is the new one; never something between."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ledger_rig import NOON
from old_ledger import beside, content, full, rows, status, untouched, verdict

import producer
from producer.errors import LedgerError
from producer.ledger import LedgerClient, transfer
from producer.ledger.migrate import migrate
from producer.ledger.original import Original

MIGRATING = Path(__file__).with_name("migrate_process.py")
SOURCE = str(Path(producer.__file__).resolve().parents[1])


def migrating(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A migration in a process of its own, with which migrate_process.py does what the words say."""
    command = [sys.executable, str(MIGRATING), str(path), *words]
    env = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("broken", ["ledger.db.migrating", "ledger.db.migrating-0.3"])
def test_where_a_rename_is_impossible_everything_is_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    full(path).close()
    before, real = content(path), Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name == broken:
            raise PermissionError(13, "Permission denied", str(target))
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(LedgerError, match="as it was"):
            migrate(path)
    assert content(path) == before and beside(path) == ["ledger.db"]
    assert migrate(path).state == "migrated"


COLUMNS = [(table, column) for table in (transfer.TASKS, *transfer.OTHERS)
           for column in (*table.columns, *table.money.values())]  # fmt: skip


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=lambda value: getattr(value, "name", value))
def test_a_value_that_arrives_wrong_stops_everything(
    path: Path, monkeypatch: pytest.MonkeyPatch, table: transfer.Table, column: str
) -> None:
    full(path).close()
    spoilt, real = [], transfer._insert

    def insert(db: Any, name: str, row: dict[str, Any]) -> None:
        if name == table.name and row[column] is not None:
            row = {**row, column: wrong(column, row[column])}
            spoilt.append(column)
        real(db, name, row)

    monkeypatch.setattr(transfer, "_insert", insert)
    with untouched(path), pytest.raises(LedgerError):
        migrate(path)
    assert spoilt


def wrong(column: str, value: Any) -> Any:
    """Another value that the column takes."""
    others = {"status": "killed", "asset_type": "audio", "disposition": "escalated", "priority": 5}
    if column in others:
        return others[column]
    if isinstance(value, str):
        return json.dumps(["gone"]) if column == "dependencies" else f"{value} "
    return value + 1


def test_an_edge_or_a_count_that_is_wrong_stops_everything(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(path).close()
    real = transfer._write_tasks
    for spoil in (
        "UPDATE tasks SET open_dependencies = 1 WHERE id = 'child'",
        "INSERT INTO dependency VALUES ('child', 'leaf')",
        "DELETE FROM tasks WHERE id = 'killed'",
    ):

        def write(db: Any, tasks: Any, spoil: str = spoil) -> None:
            real(db, tasks)
            db.run(spoil)

        with monkeypatch.context() as patch:
            patch.setattr(transfer, "_write_tasks", write)
            with untouched(path), pytest.raises(LedgerError, match="not equal"):
                migrate(path)


@pytest.mark.parametrize(
    "step", ["Original.copy", "transfer", "compare", "Original.fold", "_put_in_place", "Original.condemn", "_keep"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_moment_leaves_a_whole_ledger_and_the_next_run_finishes(path: Path, step: str, when: str) -> None:
    full(path).close()
    before = content(path)
    assert migrating(path, step, when).returncode == -9
    replaced = step in ("Original.condemn", "_keep") or (step, when) == ("_put_in_place", "after")
    if not replaced:
        assert content(path) == before
    assert migrate(path).state == ("already" if replaced else "migrated")
    assert len(status(path)) == 7
    with LedgerClient(path) as client:
        client.insert_task(agent_owner="code", title="t", description="d")
    assert verdict(path).ok
    left = [name for name in beside(path) if "migrating" in name]
    assert not left


def test_a_kill_between_the_renames_leaves_the_old_ledger_and_a_backup(path: Path) -> None:
    full(path).close()
    before = content(path)
    assert migrating(path, "rename", "2").returncode == -9
    assert content(path) == before
    assert migrate(path).state == "migrated"


@pytest.mark.parametrize("room", [4_096, 60_000, 150_000])
def test_a_disk_that_fills_up_leaves_everything_as_it_was(path: Path, room: int) -> None:
    full(path).close()
    with untouched(path):
        done = migrating(path, "room", str(room))
    assert done.returncode == 1 and done.stdout.startswith("Ledger"), done


# ---- somebody waits for the file that is replaced


WAITER = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)\n"
    "c.execute('PRAGMA journal_mode = WAL').fetchone()\n"
    "c.execute(\"INSERT INTO prompts VALUES ('lost', '', '', '', '')\")"
)


def _waiting(path: Path) -> subprocess.Popen[str]:
    """A 0.3 writer that has opened the ledger and waits for its lock."""
    child = subprocess.Popen([sys.executable, "-c", WAITER, str(path)], stderr=subprocess.PIPE, text=True)
    while str(path) not in _open_files(child):
        assert child.poll() is None, "it did not wait"
    return child


def _open_files(child: subprocess.Popen[str]) -> set[str]:
    """What a process has open now. It opens and closes while we look."""
    found = set()
    with suppress(FileNotFoundError):
        for entry in Path(f"/proc/{child.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                found.add(str(entry.readlink()))
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_who_waits_for_the_old_file_fails_and_does_not_write_into_nowhere(path: Path) -> None:
    full(path).close()
    waiting: list[subprocess.Popen[str]] = []

    def clock() -> float:
        if path.with_name("ledger.db.migrating").exists() and not waiting:
            waiting.append(_waiting(path))
        return NOON

    assert migrate(path, clock=clock).state == "migrated"
    _, said = waiting[0].communicate(timeout=60)
    assert waiting[0].returncode != 0 and "not a database" in said
    assert rows(path, "SELECT hash FROM prompts") == [("h1",)]


def test_a_second_name_of_the_old_file_is_not_spoilt(path: Path, tmp_path: Path) -> None:
    full(path).close()
    before = content(path)
    os.link(path, tmp_path / "second.db")
    migrate(path)
    assert content(tmp_path / "second.db") == before


def test_the_log_of_somebody_who_opens_the_new_ledger_at_once_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(path).close()
    opened: list[sqlite3.Connection] = []
    real = Original.condemn

    def condemn(self: Original) -> None:
        opened.append(sqlite3.connect(path))
        opened[0].execute("SELECT count(*) FROM tasks").fetchall()
        real(self)

    monkeypatch.setattr(Original, "condemn", condemn)
    migrate(path)
    assert path.with_name("ledger.db-wal").exists(), "the reader's log"
    with LedgerClient(path) as client:
        client.insert_task(agent_owner="code", title="new", description="d")
    assert opened[0].execute("SELECT count(*) FROM tasks").fetchone() == (8,)
    opened[0].close()
