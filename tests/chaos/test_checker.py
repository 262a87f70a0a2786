"""The battery's checker finds what it is there to find: each kind of damage, planted in a sound ledger."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import checker
import pytest
from driving import Project

DAMAGE = {
    "lost tasks": [
        "DELETE FROM tasks WHERE title = 'echo one'",
        "UPDATE tasks SET status = 'pending' WHERE title = 'echo one'",
        "UPDATE tasks SET result = 'something else' WHERE title = 'echo one'",
        "UPDATE tasks SET status = 'escalated' WHERE title = 'echo one'",
    ],
    "duplicated completions": [
        "INSERT INTO attempts (id, task_id, role, number, worker, state, claimed_at)"
        " SELECT '01AAAAAAAAAAAAAAAAAAAAAAAA', task_id, role, 2, worker, 'succeeded', claimed_at FROM attempts LIMIT 1",
    ],
    "leaked holds": [
        "UPDATE attempts SET held_base = 1",
        "INSERT INTO reservations VALUES ('r', 'a', 1)",
        "UPDATE budget SET held_micros = 1",
        "UPDATE attempts SET state = 'running'",
    ],
    "dollars adrift": [
        "UPDATE meter SET cost_micros = cost_micros + 1",
        "UPDATE tasks SET cost_micros = cost_micros + 1 WHERE title = 'echo one'",
        "UPDATE budget SET spent_micros = spent_micros - 1 WHERE spent_micros > 0",
    ],
    "audit breaks": [
        "DROP TRIGGER audit_is_never_updated; UPDATE audit SET body = CAST(replace(body, 'detail', 'liated') AS BLOB) WHERE seq = 5",
        "DROP TRIGGER audit_is_never_deleted; DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)",
    ],
}


@pytest.fixture
def sound(project: Project, supervise, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A ledger after two tasks, its head file, and the notes of who filed them."""
    ids = [project.file_task(f"echo {name}", payload={"cost_usd": "0.01"}) for name in ("one", "two")]
    assert supervise("--once").exits() == 0
    with closing(sqlite3.connect(project.state / "ledger.db")) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the tests below copy this one file
    notes = tmp_path / "notes.jsonl"
    notes.write_text("".join(json.dumps(line) + "\n" for line in ({"ask": 1, "op": "insert", "ids": ids}, {"ack": 1})))
    return project.state / "ledger.db", project.places.state / "audit.head", notes


def look(sound: tuple[Path, Path, Path], living: list[str] | None = None) -> checker.Findings:
    ledger, head, notes = sound
    return checker.check(ledger, head=head, notes=[notes], retries=3, bill=None, living=living or [])


def test_every_planted_damage_is_found_under_its_number(sound: tuple[Path, Path, Path], tmp_path: Path) -> None:
    assert look(sound).clean, look(sound).wrong
    ledger, head, notes = sound
    whole = ledger.read_bytes()
    for number, statements in DAMAGE.items():
        for place, statement in enumerate(statements):
            copy = tmp_path / f"{number.split()[0]}{place}.db"
            copy.write_bytes(whole)
            with sqlite3.connect(copy) as db:
                db.executescript(statement)
            db.close()
            assert look((copy, head, notes)).wrong[number], statement
    assert look(sound, living=["4711 claude"]).wrong["survivors"]


def test_a_bill_that_the_ledger_does_not_know_is_found(sound: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ledger, head, notes = sound
    rows = [(t["id"], 10_000) for t in checker.Ledger(ledger).tasks.values()]
    bill = tmp_path / "bill.jsonl"

    def drift(lines: list[tuple[str, int]]) -> list[str]:
        bill.write_text("".join(json.dumps({"task": task, "cost_micros": cost}) + "\n" for task, cost in lines))
        found = checker.check(ledger, head=head, notes=[notes], retries=3, bill=bill, living=[])
        return found.wrong["dollars adrift"]

    assert drift(rows) == []
    assert drift(rows[:1]), "booked and never billed"
    assert drift([*rows, rows[0]]), "billed and never booked"
    assert drift([(rows[0][0], 9_999), rows[1]]), "a micro-dollar apart"
