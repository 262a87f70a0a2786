"""Statements that wait to be executed together: nobody may ever see that they waited."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from ledger_rig import Desk

from producer.errors import LedgerError, LedgerRefused
from producer.ledger.database import Database

TITLE, TEXT = (f"UPDATE tasks SET {column} = ? WHERE id = ?" for column in ("title", "description"))


def read_one(db: Database, task: str) -> str:
    return str(db.value("SELECT title FROM tasks WHERE id = ?", task))


def read_rows(db: Database, task: str) -> str:
    return str(db.rows("SELECT title FROM tasks WHERE id = ?", task)[0][0])


def read_dicts(db: Database, task: str) -> str:
    return str(db.dicts("SELECT title FROM tasks WHERE id = ?", task)[0]["title"])


def change_one(db: Database, task: str) -> str:
    assert db.run("UPDATE tasks SET description = 'seen' WHERE title = 'new'") == 1
    return read_one(db, task)


def change_many(db: Database, task: str) -> str:
    db.run_many("UPDATE tasks SET title = title || ? WHERE id = ?", [("er", task)])
    return read_one(db, task).removesuffix("er")


@pytest.mark.parametrize("look", [read_one, read_rows, read_dicts, change_one, change_many])
def test_whoever_looks_sees_it(desk: Desk, look: Callable[[Database, str], str]) -> None:
    task = desk.add()
    with desk.transaction():
        desk.db.defer("tasks", task, TITLE, "new", task)
        assert look(desk.db, task) == "new"


def test_it_is_committed(desk: Desk) -> None:
    task = desk.add()
    with desk.transaction():
        desk.db.defer("tasks", task, TITLE, "new", task)
    assert desk.column(task, "title") == "new"


def test_what_is_undone_was_never_there(desk: Desk) -> None:
    task = desk.add("old")
    with pytest.raises(ZeroDivisionError), desk.transaction():
        desk.db.defer("tasks", task, TITLE, "new", task)
        raise ZeroDivisionError
    with desk.transaction():
        desk.db.defer("tasks", task, TITLE, "newer", task)
        with pytest.raises(ZeroDivisionError), desk.db.savepoint():
            desk.db.defer("tasks", task, TEXT, "undone", task)
            raise ZeroDivisionError
    assert (desk.column(task, "title"), desk.column(task, "description")) == ("newer", "do old")


def test_a_row_that_is_not_there_fails_the_transaction(desk: Desk) -> None:
    task = desk.add("old")
    with pytest.raises(LedgerError, match="not as it was"), desk.transaction():
        desk.db.defer("tasks", task, TITLE, "new", task)
        desk.db.defer("tasks", "none", TITLE, "new", "none")
    assert desk.column(task, "title") == "old"


def test_a_value_that_sqlite_refuses_fails_the_transaction(desk: Desk) -> None:
    task = desk.add("old")
    with pytest.raises(LedgerRefused), desk.transaction():
        desk.db.defer("tasks", task, "UPDATE tasks SET status = ? WHERE id = ?", "nonsense", task)


def test_whoever_takes_the_failure_for_its_own_does_not_have_the_rest_committed(desk: Desk) -> None:
    task = desk.add("old")
    with pytest.raises(LedgerError, match="a part of the transaction is missing"), desk.transaction():
        desk.db.defer("tasks", "none", TITLE, "new", "none")
        with pytest.raises(LedgerError, match="not as it was"), desk.db.savepoint():
            pass
        with pytest.raises(ZeroDivisionError), desk.db.savepoint():
            raise ZeroDivisionError
        desk.db.run(TITLE, "new", task)
    assert desk.column(task, "title") == "old"
    with desk.transaction():
        desk.db.run(TITLE, "new", task)
        with pytest.raises(LedgerError, match="not as it was"), desk.db.savepoint():
            desk.db.defer("tasks", "none", TITLE, "new", "none")
    assert desk.column(task, "title") == "new", "what failed was undone with its part"


def test_outside_of_a_transaction_nothing_waits(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="no transaction"):
        desk.db.defer("tasks", desk.add(), TITLE, "new", "a")


def test_the_same_rows_end_as_if_nothing_had_waited(desk: Desk) -> None:
    """Any order of statements over a few rows, some of which depend on what was before, against the plain way."""
    tasks = [desk.add(str(number)) for number in range(4)]
    sql = (
        "UPDATE tasks SET title = title || ? WHERE id = ?",
        "UPDATE tasks SET description = title || ? WHERE id = ?",
        "UPDATE tasks SET title = substr(title, -9) || length(description) || ? WHERE id = ?",
    )
    rows, made = "SELECT title, description FROM tasks ORDER BY seq", random.Random(7)
    for _ in range(200):
        plan = [(made.choice(tasks), made.choice(sql), made.choice("abc")) for _ in range(made.randrange(1, 12))]
        found = []
        for deferred in (True, False):
            with pytest.raises(ZeroDivisionError), desk.transaction():
                for task, statement, word in plan:
                    if deferred:
                        desk.db.defer("tasks", task, statement, word, task)
                    else:
                        desk.db.run(statement, word, task)
                found.append(desk.db.rows(rows))
                raise ZeroDivisionError
        assert found[0] == found[1]
        with desk.transaction():
            for task, statement, word in plan:
                desk.db.defer("tasks", task, statement, word, task)
        assert desk.db.rows(rows) == found[1]
