"""A ledger of an older schema is brought up to date, after a copy of it was put beside it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from ledger_rig import Desk

from producer.core.money import MicroUSD
from producer.errors import LedgerError
from producer.ledger import Reader
from producer.ledger.charts import holds
from producer.ledger.checkpoints import every, newest
from producer.ledger.model import Cost
from producer.ledger.verify import verify
from producer.ledger.whose import SCHEMA_VERSION

BACK = {  # what leads from a schema to the one before
    4: "CREATE TABLE holds (attempt TEXT PRIMARY KEY, task_id TEXT NOT NULL, role TEXT NOT NULL, root_id TEXT NOT NULL,"
    " date TEXT NOT NULL, base INTEGER NOT NULL CHECK (base >= 0), amount INTEGER NOT NULL CHECK (amount >= 0))"
    " STRICT, WITHOUT ROWID;"
    " INSERT INTO holds SELECT a.id, task_id, role, root_task_id, substr(claimed_at, 1, 10), held_base, held_micros"
    " FROM attempts AS a JOIN tasks AS t ON t.id = task_id WHERE state = 'running';"
    " ALTER TABLE attempts DROP COLUMN held_micros; ALTER TABLE attempts DROP COLUMN held_base",
    3: "CREATE INDEX holds_task ON holds (task_id); CREATE INDEX holds_root ON holds (root_id);"
    " CREATE INDEX reservations_attempt ON reservations (attempt)",
    2: "DROP TABLE checkpoints",
}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_ledger_of_a_schema_before_is_brought_up_to_date_after_a_copy(tmp_path: Path, version: int) -> None:
    desk = Desk(tmp_path)
    task = desk.add()
    fresh = schema(tmp_path / "ledger.db")
    desk.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        for step in range(SCHEMA_VERSION, version, -1):
            connection.executescript(BACK[step])
        connection.execute(f"PRAGMA user_version = {version}")
    old = schema(tmp_path / "ledger.db")
    with Reader(tmp_path / "ledger.db") as reader:
        assert newest(reader.db) is None and list(every(reader.db)) == [] and verify(reader.db).ok
    desk = Desk(tmp_path)
    (backup,) = tmp_path.glob(f"ledger.db.schema-{version}-*.bak")
    assert schema(tmp_path / "ledger.db") == fresh != old == schema(backup)
    assert backup.stat().st_mode & 0o777 == 0o600
    assert desk.db.value("PRAGMA user_version") == SCHEMA_VERSION and desk.column(task, "status") == "pending"
    with desk.transaction():
        assert desk.checkpoints.sign()
    assert newest(desk.db) is not None and verify(desk.db).ok
    desk.close()
    Desk(tmp_path).close()
    assert list(tmp_path.glob("*.bak")) == [backup], "once"


def test_an_upgrade_that_fails_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Desk(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.execute("PRAGMA user_version = 1")
    before = schema(tmp_path / "ledger.db")
    with pytest.raises(LedgerError, match="checkpoints"):  # the table is there already
        Desk(tmp_path)
    assert schema(tmp_path / "ledger.db") == before
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_what_runs_holds_as_much_as_before_its_ledger_was_brought_up_to_date(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    claims = [desk.claim(desk.add(name), 1000) for name in ("asks", "spends", "waits")]
    with desk.transaction():
        desk.accounts.reserve("r1", claims[0].attempt, MicroUSD(1500))
        desk.attempts.book(Cost("r2", claims[1].attempt, "m", MicroUSD(300), "gateway"))
    before = [desk.accounts.hold(claim.attempt) for claim in claims]
    today = desk.accounts.today()
    assert before == [(today, 1500, 1500), (today, 700, 0), (today, 1000, 0)]
    desk.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection, connection:
        connection.executescript(BACK[4])
        connection.execute("INSERT INTO holds VALUES ('gone', 't', 'code', 't', ?, 50, 50)", (today,))
        connection.execute("INSERT INTO reservations VALUES ('r3', 'gone', 50)")
        connection.execute("UPDATE budget SET held_micros = held_micros + 50")
        connection.execute("PRAGMA user_version = 3")
    with Reader(tmp_path / "ledger.db") as reader:
        assert holds(reader) == []
    desk = Desk(tmp_path)
    assert [desk.accounts.hold(claim.attempt) for claim in claims] == before
    assert desk.accounts.reservations() == [("r1", claims[0].attempt, 1500)]
    assert desk.accounts.project_cap(None).held == desk.db.value("SELECT sum(held_micros) FROM budget") == 3200
    with Reader(tmp_path / "ledger.db") as reader:
        assert sorted(one["amount"] for one in holds(reader)) == [700, 1000, 1500]
    assert [desk.settle(claim.attempt, "succeeded") for claim in claims] == ["done"] * 3
    assert desk.db.rows("SELECT * FROM reservations") == [] and desk.accounts.project_cap(None).held == 0


def schema(path: Path) -> list[tuple[str, str]]:
    """What a ledger consists of; SQLite adds a column without the line breaks of schema.sql."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()
    return [(name, re.sub(r"\s*([(),])\s*", r"\1", " ".join((sql or "").split()))) for name, sql in rows]
