"""Reading the ledger: tasks, their history, the queue, the budget. Free for everyone, at any time, on a read-only
connection; nothing here writes.
"""

from __future__ import annotations

import builtins
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from producer.core.money import format_usd
from producer.errors import LedgerUnusable, UnknownTask
from producer.ids import utc_today
from producer.ledger.checks import lenient_json
from producer.ledger.database import Database, Row

JSON_COLUMNS = ("dependencies", "payload", "output_refs")
HIDDEN = ("seq", "cost_micros", "actual_micros", "cost_usd", "actual_cost_usd")
_BLOCKERS = (
    "SELECT needed.id, needed.status, needed.agent_owner, needed.title FROM dependency"
    " JOIN tasks AS needed ON needed.id = depends_on WHERE task = ? AND needed.status != 'done'"
)


class Reader:
    """A read-only view of a ledger file. Raises LedgerUnusable where there is none."""

    def __init__(self, path: Path | str) -> None:
        if not Path(path).exists():
            raise LedgerUnusable(f"{path} does not exist: `producerctl init` or `producerctl run` creates it")
        self.db = Database(path, writable=False, clock=time.time)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.db.close()

    # ---- tasks

    def task(self, ident: str) -> dict[str, Any]:
        """The columns of a task, with JSON columns parsed and money as decimal strings. Raises UnknownTask."""
        row = self.db.dict("SELECT * FROM tasks WHERE id = ?", ident)
        if row is None:
            raise UnknownTask(ident)
        return _present(row)

    def resolve(self, text: str) -> str:
        """The id of the one task that ``text`` is, or begins, the id of. Raises UnknownTask."""
        last = text + chr(0x10FFFF)
        rows = self.db.rows("SELECT id FROM tasks WHERE id >= ? AND id < ? ORDER BY id LIMIT 2", text, last)
        found = [str(row[0]) for row in rows]
        if text and found and (found[0] == text or len(found) == 1):
            return found[0]
        raise UnknownTask(f"{text} (several begin so)" if found else text)

    def show(self, ident: str) -> dict[str, Any]:
        """A task with its attempts, what blocks it, its children and its decisions. Raises UnknownTask."""
        task = self.task(ident)
        task["attempts"] = [
            {**row, "cost_usd": format_usd(row["cost_usd"]), "resumed": bool(row["resumed"])}
            for row in self.db.dicts(
                "SELECT id, number, worker, role, model, state, outcome, session_id, resumed, claimed_at, started_at,"
                " finished_at, turns, tool_calls, cost_micros AS cost_usd, error FROM attempts WHERE task_id = ?"
                " ORDER BY number",
                ident,
            )
        ]
        task["blocked_by"] = self.blocked_by(ident)
        task["children"] = self.db.dicts(
            "SELECT id, status, agent_owner, title FROM tasks WHERE parent_task_id = ? ORDER BY seq", ident
        )
        task["decisions"] = self.db.dicts("SELECT * FROM decisions WHERE task_id = ? ORDER BY id", ident)
        return task

    def blocked_by(self, ident: str) -> list[dict[str, Any]]:
        """The dependencies of a task that are not done, with the reason that each is waited for."""
        found = self.db.dicts(_BLOCKERS, ident)
        return [{**row, "reason": _why(row["status"])} for row in found]

    def list(
        self,
        *,
        status: str | None = None,
        role: str | None = None,
        sprint: str | None = None,
        text: str | None = None,
        limit: int = 1000,
    ) -> list[dict[str, Any]]:
        """Tasks by priority and age, filtered. ``status`` may be `blocked`."""
        where, values = ["1"], list[object]()
        if status == "blocked":
            where.append("status = 'pending' AND open_dependencies > 0")
        elif status:
            where.append("status = ?")
            values.append(status)
        for column, value in (("agent_owner", role), ("sprint_id", sprint)):
            if value:
                where.append(f"{column} = ?")
                values.append(value)
        if text:
            where.append("instr(lower(title || char(10) || description), lower(?)) > 0")
            values.append(text)
        rows = self.db.dicts(
            f"SELECT * FROM tasks WHERE {' AND '.join(where)} ORDER BY priority, seq LIMIT ?", *values, limit
        )
        return [_present(row) for row in rows]

    def tree(self, ident: str) -> builtins.list[dict[str, Any]]:
        """A task's whole lineage, oldest first: id, parent_task_id, depth, status, agent_owner, title, cost_usd."""
        root = self.task(ident)["root_task_id"]
        rows = self.db.dicts(
            "SELECT id, parent_task_id, depth, status, agent_owner, title, cost_micros AS cost_usd FROM tasks"
            " WHERE root_task_id = ? ORDER BY seq",
            root,
        )
        return [{**row, "cost_usd": format_usd(row["cost_usd"])} for row in rows]

    def counts(self) -> dict[str, int]:
        """The queue by state; `blocked` is the part of pending that waits for a dependency."""
        counts = dict.fromkeys(("pending", "blocked", "in_progress", "done", "failed", "escalated", "killed"), 0)
        for status, number in self.db.rows("SELECT status, count(*) FROM tasks GROUP BY status"):
            counts[status] = number
        counts["blocked"] = self.db.value(
            "SELECT count(*) FROM tasks WHERE status = 'pending' AND open_dependencies > 0"
        )
        counts["pending"] -= counts["blocked"]
        return counts

    # ---- money

    def budget(self, date: str | None = None) -> dict[str, dict[str, int]]:
        """Spent and held of every role on a UTC day, in micro-dollars."""
        rows = self.db.rows(
            "SELECT agent_owner, spent_micros, held_micros, hard_cap_micros FROM budget WHERE date = ?"
            " AND agent_owner != '*'",
            date or utc_today(),
        )
        return {role: {"spent": spent, "held": held, "cap": cap} for role, spent, held, cap in rows}

    def spending_days(self, limit: int = 14) -> builtins.list[dict[str, Any]]:
        """What was spent on the last days: date, role, spent_usd."""
        rows = self.db.rows(
            "SELECT date, agent_owner, spent_micros FROM budget WHERE spent_micros > 0 AND date IN"
            " (SELECT DISTINCT date FROM budget ORDER BY date DESC LIMIT ?) ORDER BY date DESC, agent_owner",
            limit,
        )
        return [{"date": date, "role": role, "spent_usd": format_usd(spent)} for date, role, spent in rows]

    # ---- audit

    def audit_tail(self, limit: int = 20, task: str | None = None, after: int = 0) -> builtins.list[dict[str, Any]]:
        """The newest audit rows, oldest of them first."""
        clause, values = ("WHERE task_id = ? AND seq > ?", (task, after)) if task else ("WHERE seq > ?", (after,))
        rows = self.db.rows(f"SELECT seq, body FROM audit {clause} ORDER BY seq DESC LIMIT ?", *values, limit)
        return [{"seq": seq, **json.loads(body)} for seq, body in reversed(rows)]

    def rows(self, sql: str, *values: object) -> builtins.list[Row]:
        """Rows of a query of the report's own."""
        return self.db.rows(sql, *values)


def _present(row: dict[str, Any]) -> dict[str, Any]:
    task = {name: value for name, value in row.items() if name not in HIDDEN}
    for name in JSON_COLUMNS:
        task[name] = lenient_json(task[name])
    task["requires_approval"] = bool(task["requires_approval"])
    task["cost_usd"] = format_usd(row["cost_micros"])
    task["actual_cost_usd"] = None if row["actual_micros"] is None else format_usd(row["actual_micros"])
    return task


def _why(status: str) -> str:
    return {
        "killed": "was killed and will not be done",
        "escalated": "is escalated and waits for a human",
        "failed": "failed",
    }.get(status, "is not done yet")
