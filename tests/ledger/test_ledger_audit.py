"""The audit chain: what was written cannot be changed by accident, and cannot be changed on purpose unnoticed."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_rig import Desk

from producer.errors import LedgerError
from producer.ledger.audit import GENESIS, link
from producer.ledger.verify import verify
from producer.ledger.views import Reader

ROWS = 20
Rows = list[tuple[int, bytes, bytes]]


@pytest.fixture
def logged(desk: Desk) -> Desk:
    """A ledger with a log of ROWS rows."""
    with desk.transaction():
        while desk.audit.head().seq < ROWS:
            desk.audit.append("something", "me", task=f"t{desk.audit.head().seq}", number=desk.audit.head().seq)
    return desk


# ---- eleven ways to change the past


def rechain(rows: Rows, start: int = 0) -> Rows:
    """Number the rows anew and compute their chain, as a forger who knows the format would."""
    result, previous = rows[:start], rows[start - 1][2] if start else GENESIS
    for seq, (_, body, _) in enumerate(rows[start:], start + 1):
        previous = link(previous, seq, body)
        result.append((seq, body, previous))
    return result


def forged(body: bytes) -> bytes:
    return body.replace(b'"me"', b'"you"')


def edit_a_body(rows: Rows) -> Rows:
    return [(seq, forged(body) if seq == 9 else body, chain) for seq, body, chain in rows]


def edit_a_chain_value(rows: Rows) -> Rows:
    return [(seq, body, bytes(32) if seq == 9 else chain) for seq, body, chain in rows]


def delete_a_row(rows: Rows) -> Rows:
    return [row for row in rows if row[0] != 9]


def swap_two_rows(rows: Rows) -> Rows:
    bodies = {9: rows[9][1], 10: rows[8][1]}
    return [(seq, bodies.get(seq, body), chain) for seq, body, chain in rows]


def insert_a_row(rows: Rows) -> Rows:
    return [*rows[:8], (9, rows[4][1], rows[4][2]), *((seq + 1, body, chain) for seq, body, chain in rows[8:])]


def edit_and_rechain(rows: Rows) -> Rows:
    return rechain(edit_a_body(rows), 8)


def delete_and_rechain(rows: Rows) -> Rows:
    return rechain(delete_a_row(rows), 8)


def cut_the_end_off(rows: Rows) -> Rows:
    return rows[:-3]


def put_an_old_copy_back(rows: Rows) -> Rows:
    return rows[:2]


def replace_the_end(rows: Rows) -> Rows:
    return rechain([*rows[:-3], *((seq, forged(body), chain) for seq, body, chain in rows[-3:]), rows[5]], ROWS - 3)


def forge_it_all(rows: Rows) -> Rows:
    return rechain([(seq, forged(body), chain) for seq, body, chain in rows])


SEEN_BY_THE_CHAIN = (edit_a_body, edit_a_chain_value, delete_a_row, swap_two_rows, insert_a_row)
SEEN_BY_THE_HEAD = (
    edit_and_rechain, delete_and_rechain, cut_the_end_off, put_an_old_copy_back, replace_the_end, forge_it_all,
)  # fmt: skip


def tamper(path: Path, change: Callable[[Rows], Rows]) -> None:
    """Rewrite the log behind the ledger's back, without its triggers."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        rows = connection.execute("SELECT seq, body, chain FROM audit ORDER BY seq").fetchall()
        connection.execute("DELETE FROM audit")
        connection.executemany("INSERT INTO audit (seq, body, chain) VALUES (?, ?, ?)", change(rows))


@pytest.mark.parametrize("change", SEEN_BY_THE_CHAIN + SEEN_BY_THE_HEAD, ids=lambda change: change.__name__)
def test_tampering_is_noticed(logged: Desk, change: Callable[[Rows], Rows]) -> None:
    head = logged.audit.kept()
    assert head is not None and head == logged.audit.head() and verify(logged.db, [head]).ok
    tamper(logged.db.path, change)
    with Reader(logged.db.path) as reader:
        alone, outside = verify(reader.db), verify(reader.db, [head])
    assert alone.ok is (change in SEEN_BY_THE_HEAD)
    assert not outside.ok and outside.problem and outside.first_bad_seq
    if change in SEEN_BY_THE_CHAIN:
        assert alone.first_bad_seq == 9 and alone.rows == 8


def test_eleven_kinds_are_tried() -> None:
    assert len({*SEEN_BY_THE_CHAIN, *SEEN_BY_THE_HEAD}) == 11


@pytest.mark.parametrize("seq", [-5, 0])
def test_a_row_before_the_first_is_noticed(logged: Desk, seq: int) -> None:
    tamper(logged.db.path, lambda rows: [(seq, b"{}", bytes(32)), *rows])
    with Reader(logged.db.path) as reader:
        assert verify(reader.db).first_bad_seq == seq


def test_a_body_of_another_type_is_noticed_and_no_traceback(logged: Desk) -> None:
    """A table rebuilt without STRICT holds text where bytes were."""
    with closing(sqlite3.connect(logged.db.path)) as connection, connection:
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE type IN ('view', 'trigger')"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        connection.execute("CREATE TABLE copy AS SELECT seq, CAST(body AS TEXT) AS body, chain FROM audit")
        connection.execute("DROP TABLE audit")
        connection.execute("ALTER TABLE copy RENAME TO audit")
    with Reader(logged.db.path) as reader:
        assert verify(reader.db).first_bad_seq == 1


def test_a_log_that_grew_since_the_head_was_noted_is_in_order(logged: Desk) -> None:
    head = logged.audit.kept()
    logged.add("more")
    verdict = verify(logged.db, [head])
    assert verdict.ok and verdict.rows == ROWS + 1 and verdict.head == logged.audit.head().chain.hex()


def test_a_long_log_is_verified_in_pages(logged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.ledger.verify._PAGE", 3)
    assert verify(logged.db, [logged.audit.kept()]).rows == ROWS
    tamper(logged.db.path, delete_a_row)
    assert verify(logged.db).first_bad_seq == 9


def test_the_formula_is_the_documented_one(logged: Desk) -> None:
    """Recomputed here with nothing of ours, as a stranger would from the docs."""
    previous = bytes(32)
    for seq, body, chain in logged.db.rows("SELECT seq, body, chain FROM audit ORDER BY seq"):
        leaf = hashlib.sha256(b"\x00" + body).digest()
        previous = hashlib.sha256(b"\x02" + previous + seq.to_bytes(8, "big") + leaf).digest()
        assert chain == previous
        assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# ---- what the file refuses

REFUSED = [
    "UPDATE audit SET body = CAST('{}' AS BLOB) WHERE seq = 3",
    "UPDATE audit SET seq = 1000 WHERE seq = 3",
    "UPDATE OR REPLACE audit SET seq = 4 WHERE seq = 3",
    "DELETE FROM audit WHERE seq = 3",
    "DELETE FROM audit",
    "INSERT INTO audit (seq, body, chain) VALUES (3, CAST('{}' AS BLOB), x'00')",
    "INSERT INTO audit (seq, body, chain) VALUES (1000, CAST('{}' AS BLOB), x'00')",
    "INSERT INTO audit (seq, body, chain) VALUES (0, CAST('{}' AS BLOB), x'00')",
    "INSERT INTO audit (body, chain) VALUES (CAST('{}' AS BLOB), x'00')",
    "INSERT OR REPLACE INTO audit (seq, body, chain) VALUES (3, CAST('{}' AS BLOB), x'00')",
    "REPLACE INTO audit (seq, body, chain) VALUES (20, CAST('{}' AS BLOB), x'00')",
    "INSERT OR IGNORE INTO audit (seq, body, chain) VALUES (3, CAST('{}' AS BLOB), x'00')",
    "INSERT INTO audit (seq, body, chain) VALUES (3, CAST('{}' AS BLOB), x'00')"
    " ON CONFLICT (seq) DO UPDATE SET body = excluded.body",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_the_log_refuses_every_change_but_the_next_row(logged: Desk, sql: str) -> None:
    with closing(sqlite3.connect(logged.db.path)) as connection, pytest.raises(sqlite3.Error, match="audit:"):
        connection.execute(sql)
    with pytest.raises(LedgerError, match="audit:"), logged.transaction():
        logged.db.run(sql)
    assert verify(logged.db, [logged.audit.kept()]).ok
    logged.add("goes on")
    assert verify(logged.db, [logged.audit.kept()]).ok


# ---- the head in memory and the head outside


def test_the_head_follows_what_is_undone(desk: Desk) -> None:
    start = desk.audit.head()
    with pytest.raises(ZeroDivisionError), desk.transaction():
        desk.audit.append("undone", "me")
        raise ZeroDivisionError
    assert desk.audit.head() == start
    with desk.transaction():
        desk.audit.append("kept", "me")
        kept = desk.audit.head()
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), desk.db.savepoint():
                desk.audit.append("undone", "me")
                with desk.db.savepoint():
                    desk.audit.append("undone too", "me")
                raise ZeroDivisionError
            assert desk.audit.head() == kept
        desk.audit.append("last", "me")
    last = desk.audit.head()
    assert last == desk.audit.kept()
    assert desk.actions() == ["schema_init", "kept", "last"]
    assert verify(desk.db, [last]).ok


@pytest.mark.parametrize("detail", [{"x": math.nan}, {"x": {1}}, {"x": "\ud800"}])
def test_a_row_that_cannot_be_written_leaves_the_head_where_it_was(desk: Desk, detail: dict[str, object]) -> None:
    with desk.transaction():
        before = desk.audit.head()
        with pytest.raises((ValueError, TypeError)):
            desk.audit.append("bad", "me", **detail)
        assert desk.audit.head() == before
        desk.audit.append("good", "me")
    assert verify(desk.db, [desk.audit.kept()]).ok


def test_an_insert_that_fails_leaves_the_head_where_it_was(desk: Desk) -> None:
    desk.db._connection.execute(
        "CREATE TEMP TRIGGER no BEFORE INSERT ON audit WHEN NEW.action = 'bad' BEGIN SELECT raise(ABORT, 'no'); END"
    )
    before = desk.audit.head()
    with pytest.raises(LedgerError), desk.transaction():
        desk.audit.append("lost with it", "me")
        desk.audit.append("bad", "me")
    assert desk.audit.head() == before
    with desk.transaction():
        desk.audit.append("good", "me")
    assert desk.actions() == ["schema_init", "good"]
    assert verify(desk.db, [desk.audit.kept()]).ok


def test_what_is_read_in_a_transaction_holds_its_own_rows(desk: Desk) -> None:
    with desk.transaction():
        desk.audit.append("first", "me")
        assert desk.actions() == ["schema_init", "first"]
        desk.audit.append("second", "me")
        assert desk.db.value("SELECT count(*) FROM audit WHERE action = 'second'") == 1


def test_the_head_outside_never_runs_ahead_of_the_commit(desk: Desk) -> None:
    before = desk.audit.kept()
    with desk.transaction():
        desk.audit.append("not yet", "me")
        assert desk.audit.kept() == before
    assert desk.audit.kept() == desk.audit.head() != before


def test_a_head_file_of_nonsense_counts_as_none(tmp_path: Path) -> None:
    for content in (b"", b"\x00" * 96, b"abc", b"\xff" * 96, b"3 abcdef\n"):
        (tmp_path / "audit.head").write_bytes(content)
        store = Desk(tmp_path)
        assert store.audit.missing() is None and "audit_head_mismatch" not in store.actions()
        store.add()
        assert store.audit.kept() == store.audit.head()
        store.close()


def test_a_head_of_another_ledger_is_written_down_in_the_new_one(tmp_path: Path) -> None:
    """Somebody removed the ledger; a new one began in its place."""
    store = Desk(tmp_path)
    store.add()
    old = store.audit.head()
    store.close()
    (tmp_path / "ledger.db").unlink()
    store = Desk(tmp_path)
    assert store.actions() == ["schema_init", "audit_head_mismatch"]
    assert old.text() in store.db.value("SELECT detail FROM audit_log WHERE action = 'audit_head_mismatch'")
    store.close()


def test_a_ledger_without_a_head_file_works(tmp_path: Path) -> None:
    store = Desk(tmp_path, head=False)
    store.add()
    assert store.audit.kept() is None and store.audit.missing() is None and verify(store.db).ok
    store.close()
    assert not (tmp_path / "audit.head").exists()


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
DETAIL = st.dictionaries(
    TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=3), max_size=4
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(action=TEXT, actor=TEXT, detail=DETAIL, task=st.none() | TEXT)
def test_whatever_is_written_is_read_back(
    desk: Desk, action: str, actor: str, detail: dict[str, object], task: str | None
) -> None:
    with desk.transaction():
        desk.audit.append_free(action, actor, detail=detail, task=task)
    head = desk.audit.head()
    seq, body, chain = desk.db.one("SELECT seq, body, chain FROM audit ORDER BY seq DESC LIMIT 1")
    read = json.loads(body)
    assert (seq, chain) == (head.seq, head.chain)
    assert (read["action"], read["actor"], read["detail"], read.get("task")) == (action, actor, detail, task or None)
    with Reader(desk.db.path) as reader:
        assert reader.audit_tail(1)[0]["detail"] == detail
    assert verify(desk.db, [desk.audit.kept()]).ok
