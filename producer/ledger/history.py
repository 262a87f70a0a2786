"""Reading one task's history in bounded lists: attempts, model requests, lineage, decisions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from producer.core.money import format_usd
from producer.ids import from_iso
from producer.ledger.views import Reader

LINEAGE = 300


def attempts(reader: Reader, task: str, limit: int = 50) -> list[dict[str, Any]]:
    """The newest attempts of a task, oldest of them first."""
    rows = reader.db.dicts(
        "SELECT id, number, worker, role, model, state, outcome, session_id, resumed, claimed_at, started_at,"
        " finished_at, turns, tool_calls, cost_micros, error FROM attempts WHERE task_id = ?"
        " ORDER BY number DESC LIMIT ?",
        task, limit,
    )  # fmt: skip
    return [
        {**row, "cost_usd": format_usd(row["cost_micros"]), "seconds": lasted(row["claimed_at"], row["finished_at"])}
        for row in reversed(rows)
    ]


def lasted(begin: str | None, end: str | None) -> float | None:
    """Seconds between two moments; None where one is missing."""
    return None if begin is None or end is None else max(0.0, from_iso(end) - from_iso(begin))


def turns(reader: Reader, attempt: str, limit: int = 200) -> list[dict[str, Any]]:
    """The model requests of an attempt, in order: at, model, tokens, cost_usd, exact, source."""
    rows = reader.db.dicts(
        "SELECT request, at, model, source, exact, input_tokens, output_tokens, cache_read_tokens,"
        " cache_write_5m_tokens + cache_write_1h_tokens AS cache_write_tokens, cost_micros FROM meter"
        " WHERE attempt = ? ORDER BY request LIMIT ?",
        attempt, limit,
    )  # fmt: skip
    return [{**row, "cost_usd": format_usd(row["cost_micros"]), "exact": bool(row["exact"])} for row in rows]


def lineage(reader: Reader, root: str) -> list[dict[str, Any]]:
    """The family of a task in the order of a tree, each row with its ``level``; at most LINEAGE rows."""
    rows = reader.db.dicts(
        "SELECT id, parent_task_id, depth, status, agent_owner, title, cost_micros FROM tasks"
        " WHERE root_task_id = ? ORDER BY seq LIMIT ?",
        root, LINEAGE,
    )  # fmt: skip
    known = {row["id"] for row in rows}
    children: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        parent = row["parent_task_id"] if row["depth"] and row["parent_task_id"] in known else None
        children.setdefault(parent, []).append(row)
    return [{**row, "level": level, "cost_usd": format_usd(row["cost_micros"])} for row, level in _walk(children)]


def _walk(children: dict[str | None, list[dict[str, Any]]]) -> Iterator[tuple[dict[str, Any], int]]:
    todo = [(row, 0) for row in reversed(children.get(None, []))]
    while todo:
        row, level = todo.pop()
        yield row, level
        todo.extend((child, level + 1) for child in reversed(children.get(row["id"], [])))


def decisions(reader: Reader, task: str, limit: int = 100) -> list[dict[str, Any]]:
    """What its agents decided, oldest first."""
    return reader.db.dicts("SELECT * FROM decisions WHERE task_id = ? ORDER BY id LIMIT ?", task, limit)
