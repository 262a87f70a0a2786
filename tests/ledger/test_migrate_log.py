"""The audit log of 0.3 after the takeover: the same bytes, before the new chain, and nobody changes it unseen."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from old_ledger import beside, full, hash_of, rows, take, untouched, verdict

from producer.errors import LedgerUnusable
from producer.ledger import LedgerClient, Reader, checkpoints
from producer.ledger.audit import Head
from producer.ledger.migrate import Options, migrate
from producer.ledger.verify import tail
from producer.places import Places


def test_the_old_log_is_kept_byte_for_byte_before_the_new_one_and_both_verify(path: Path) -> None:
    old = full(path)
    before = old.db.execute("SELECT * FROM audit_log ORDER BY id").fetchall()
    report = take(old)
    assert rows(path, "SELECT * FROM audit_0_3 ORDER BY id") == before
    shown = rows(path, "SELECT * FROM audit_log ORDER BY id")
    assert shown[: len(before)] == before and [row[0] for row in shown] == list(range(1, len(shown) + 1))
    first = json.loads(shown[len(before)][4])
    assert shown[len(before)][3] == "ledger_migrated" and first["log"]["head"] == before[-1][-1]
    assert report.backup and first["backup"] == report.backup.name
    found = verdict(path)
    assert (found.ok, found.rows, found.rows_0_3, found.note) == (True, len(shown) - len(before), len(before), None)


def test_scripts_that_count_and_look_up_events_see_both(path: Path) -> None:
    take(full(path))
    with LedgerClient(path) as client:
        assert client.count_audit_events(action="task_inserted") == 4
        assert client.count_audit_events(action="task_inserted", since_id=2) == 3
        newest = client.last_audit_event(action="cost")
        assert newest and newest.cost_usd == 0.1234567 and newest.id == 6
        client.insert_task(agent_owner="code", title="new", description="d")
        newest = client.last_audit_event(action="task_inserted")
        assert newest and newest.id > 7 and json.loads(newest.detail)["title"] == "new"


@pytest.mark.parametrize(
    "verb",
    [
        "INSERT INTO audit_0_3 (detail) VALUES ('x')", "INSERT OR REPLACE INTO audit_0_3 (id) VALUES (1)",
        "UPDATE audit_0_3 SET detail = 'x'", "DELETE FROM audit_0_3",
    ],
)  # fmt: skip
@pytest.mark.parametrize("migrated", [True, False])
def test_the_old_log_takes_no_change(path: Path, verb: str, migrated: bool) -> None:
    take(full(path)) if migrated else LedgerClient(path).close()
    connection = sqlite3.connect(path)
    if not migrated and not verb.startswith("INSERT"):
        assert connection.execute(verb).rowcount == 0, "there is nothing to change"
    else:
        with pytest.raises(sqlite3.IntegrityError, match="audit_0_3"):
            connection.execute(verb)
    connection.close()


def forge(connection: sqlite3.Connection) -> None:
    """Change a row and recompute 0.3's chain after it, as anybody can."""
    connection.execute("UPDATE audit_0_3 SET detail = '{}' WHERE id = 3")
    previous = "0" * 64
    for ident, agent, task, action, detail, cost, at in connection.execute(
        "SELECT id, agent_owner, task_id, action, detail, cost_usd, timestamp FROM audit_0_3 ORDER BY id"
    ).fetchall():
        own = hash_of(previous, agent, task, action, detail, cost, at)
        connection.execute("UPDATE audit_0_3 SET prev_hash = ?, row_hash = ? WHERE id = ?", (previous, own, ident))
        previous = own


@pytest.mark.parametrize(
    ("tamper", "problem"),
    [
        ("UPDATE audit_0_3 SET detail = '{}' WHERE id = 4", "row 4"),
        ("UPDATE audit_0_3 SET cost_usd = 9 WHERE id = 6", "row 6"),
        ("UPDATE audit_0_3 SET cost_usd = cost_usd + 0.0000001 WHERE id = 6", "not the one"),
        ("UPDATE audit_0_3 SET id = 99 WHERE id = 7", "not the one"),
        ("UPDATE audit_0_3 SET agent_owner = 'code|', task_id = NULL WHERE id = 5", "row 5"),
        ("DELETE FROM audit_0_3 WHERE id = 7", "7 rows were taken over, 6 are there"),
        ("DELETE FROM audit_0_3", "7 rows were taken over, 0 are there"),
        ("INSERT INTO audit_0_3 (id, agent_owner, action, detail, prev_hash, row_hash)"
         " SELECT 8, agent_owner, action, detail, prev_hash, row_hash FROM audit_0_3 WHERE id = 7", "8 are there"),
        (forge, "not the one"),
    ],
)  # fmt: skip
def test_every_change_of_the_old_log_is_found(path: Path, tamper: Any, problem: str) -> None:
    take(full(path))
    connection = sqlite3.connect(path, isolation_level=None)
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    tamper(connection) if callable(tamper) else connection.execute(tamper)
    connection.close()
    found = verdict(path)
    assert not found.ok and problem in found.problem


def test_rows_slipped_into_a_ledger_that_took_nothing_over_are_found(path: Path) -> None:
    LedgerClient(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TRIGGER audit_0_3_is_closed")
    connection.execute("INSERT INTO audit_0_3 (detail) VALUES ('{}')")
    connection.close()
    assert not verdict(path).ok


def test_a_log_that_was_tampered_with_before_is_refused_unless_somebody_insists(path: Path) -> None:
    old = full(path)
    old.db.execute("UPDATE audit_log SET detail = '{}' WHERE id = 3")
    old.close()
    with untouched(path), pytest.raises(LedgerUnusable, match="row 3 of the old audit log"):
        migrate(path)
    report = migrate(path, Options(broken_log=True))
    assert report.done and report.done.segment.broken == 3
    found = verdict(path)
    assert found.ok and "row 3" in found.note
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TRIGGER audit_0_3_is_never_updated")
    connection.execute("UPDATE audit_0_3 SET detail = '{\"a\": 1}' WHERE id = 3")
    connection.close()
    assert not verdict(path).ok, "what was taken over is guarded all the same"


def test_the_checkpoint_of_a_log_that_was_given_up_is_put_aside(path: Path) -> None:
    report = take(full(path))
    state = Places.of(path).state
    with LedgerClient(path) as client:
        for number in range(20):  # more rows than the log will have that comes next
            client.insert_task(agent_owner="code", title=f"t{number}", description="d")
        client.perform("sign_audit")
    given_up = (state / checkpoints.FILE).read_text()
    assert report.backup
    for name in beside(path):
        if name != report.backup.name:
            path.with_name(name).unlink()
    shutil.copy(report.backup, path)
    migrate(path)
    assert (state / f"{checkpoints.FILE}.given-up").read_text() == given_up
    with LedgerClient(path) as client:
        client.insert_task(agent_owner="code", title="t", description="d")
        client.perform("sign_audit")
    with Reader(path) as reader:
        assert tail(reader.db, state).problem is None


def test_the_head_outside_is_the_new_one_and_an_earlier_takeover_is_told(path: Path) -> None:
    report = take(full(path))
    kept = Head.parse((Places.of(path).state / "audit.head").read_text())
    assert rows(path, f"SELECT count(*) FROM audit WHERE seq = {kept.seq}") == [(1,)]
    assert report.backup
    for name in beside(path):
        if name != report.backup.name:
            path.with_name(name).unlink()
    shutil.copy(report.backup, path)
    migrate(path)
    assert verdict(path).ok
    assert json.loads(rows(path, "SELECT detail FROM audit_log WHERE id = 8")[0][0])["earlier_head"] == kept.text()
    with LedgerClient(path) as client:
        client.insert_task(agent_owner="code", title="t", description="d")
        assert client.count_audit_events(action="audit_head_mismatch") == 0
