"""Where things stand, for those who show it: roles, running attempts, tokens of a day. Reading only."""

from __future__ import annotations

from typing import Any

from producer.ledger.database import Database
from producer.ledger.model import TOKEN_COLUMNS
from producer.ledger.roles import RoleRow
from producer.ledger.views import Reader

_SUMS = ", ".join(f"coalesce(sum({name}), 0)" for name in TOKEN_COLUMNS)


def roles(reader: Reader) -> dict[str, RoleRow]:
    """The roles that the last configuration declared, by name; none before a supervisor ran."""
    rows = reader.rows(
        "SELECT role, desired, state, until, reason, needed FROM roles WHERE declared = 1 AND role != '*'"
    )
    return {row[0]: RoleRow(*row) for row in rows}


def running(reader: Reader) -> list[dict[str, Any]]:
    """Attempts that are not settled: attempt, task, title, role, worker, since (ISO), cost in micro-dollars."""
    names = ("attempt", "task", "title", "role", "worker", "since", "cost")
    rows = reader.rows(
        "SELECT a.id, a.task_id, t.title, a.role, a.worker, a.claimed_at, a.cost_micros FROM attempts AS a"
        " JOIN tasks AS t ON t.id = a.task_id WHERE a.state = 'running' ORDER BY a.claimed_at"
    )
    return [dict(zip(names, row, strict=True)) for row in rows]


def tokens(reader: Reader, date: str | None = None) -> dict[str, dict[str, int]]:
    """Tokens and model requests by role; of one UTC day, or of all."""
    sums, end = f"SELECT role, count(*), {_SUMS} FROM meter", "GROUP BY role ORDER BY role"
    # two statements: an index serves only a condition that always holds
    rows = reader.rows(f"{sums} {end}") if date is None else reader.rows(f"{sums} WHERE date = ? {end}", date)
    return {row[0]: dict(zip(("requests", *TOKEN_COLUMNS), row[1:], strict=True)) for row in rows}


def cost(reader: Reader) -> int:
    """Everything ever booked, in micro-dollars."""
    return int(reader.rows("SELECT coalesce(sum(cost_micros), 0) FROM meter")[0][0])


def waiting(db: Database, most: int = 1000) -> str:
    """How many tasks wait, for a line of text: counted to a bound, because it is asked every second."""
    number = db.value("SELECT count(*) FROM (SELECT 1 FROM tasks WHERE status = 'pending' LIMIT ?)", most + 1)
    return f"{most}+" if number > most else str(number)
