"""From a 0.3 ledger into a new one, row by row. What becomes of a row is decided in takeover.py.

1. The old audit rows go in first, byte for byte; the first row of the new chain then closes them (audit_old.py).
2. Everything is one transaction of the new file.
3. Whatever a person should know of has an audit row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw

from producer.ledger import audit_old
from producer.ledger.audit import Audit
from producer.ledger.database import Database, placeholders
from producer.ledger.records import Outbox
from producer.ledger.takeover import Tasks, money, rename, take_tasks
from producer.ledger.takeover_notes import New, Notes, Old


@dataclass(frozen=True)
class Table:
    """A table of both generations: the columns that are copied, and REAL dollars with what they become."""

    name: str
    columns: tuple[str, ...]
    money: Mapping[str, str] = field(default_factory=dict)


TASKS = Table(
    "tasks",
    (
        "id", "agent_owner", "status", "title", "description", "parent_task_id", "dependencies", "payload",
        "output_refs", "priority", "sprint_id", "created_at", "started_at", "finished_at", "retry_count",
        "escalation_reason", "config_isolation",
    ),
    {"cost_usd": "cost_micros", "actual_cost_usd": "actual_micros"},
)  # fmt: skip
OTHERS = (
    Table(
        "decisions", ("id", "task_id", "agent_owner", "kind", "decision_text", "rationale", "artifact", "made_at")
    ),
    Table(
        "asset_registry",
        (
            "id", "asset_type", "path", "prompt", "seed", "api", "model", "model_version", "retry_count",
            "critic_verdicts", "wall_clock_seconds", "agent_id", "task_id", "sha256", "timestamp", "disposition",
        ),
        {"cost_usd": "cost_micros"},
    ),
    Table(
        "budget", ("id", "agent_owner", "date"),
        {"spent_usd": "spent_micros", "hard_cap_usd": "hard_cap_micros", "soft_cap_usd": "soft_cap_micros"},
    ),
    Table("prompts", ("hash", "system_prompt", "user_prompt", "tools_json", "first_seen")),
)  # fmt: skip
LOG = "audit_log"


class Source:
    """A 0.3 ledger that nobody writes. Columns and tables that it does not have read as NULL and as empty."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, table: Table, order: str = "rowid", more: Sequence[str] = ()) -> Iterator[Old]:
        """Every row by column name, with its rowid."""
        there = {name for _, name, *_ in self._connection.execute(f"PRAGMA table_info({table.name})")}
        if not there:
            return
        names = [*table.columns, *table.money, *more]
        wanted = ", ".join(name if name in there else "NULL" for name in names)
        for rowid, *values in self._connection.execute(f"SELECT rowid, {wanted} FROM {table.name} ORDER BY {order}"):
            yield {"rowid": rowid, **dict(zip(names, values, strict=True))}

    def log(self) -> Iterator[tuple[Any, ...]]:
        """Every audit row, all columns."""
        return iter(self._connection.execute(f"SELECT {', '.join(audit_old.COLUMNS)} FROM {LOG} ORDER BY id"))

    def causes(self) -> Mapping[str, str]:
        """Which task caused which."""
        return audit_old.causes(
            self._connection.execute(f"SELECT task_id, detail FROM {LOG} WHERE action = 'task_inserted' ORDER BY id")
        )


@dataclass
class Transfer:
    """What was written: the old log, the notes, and the new key of every old row by table and rowid."""

    segment: audit_old.Segment
    notes: Notes = field(default_factory=Notes)
    keys: dict[str, dict[int, Any]] = field(default_factory=dict)


def transfer(
    source: Source, db: Database, audit: Audit, actor: str, segment: audit_old.Segment, origin: Mapping[str, Any]
) -> Transfer:
    """Fill a new, empty ledger, inside its transaction. ``origin``: what the first audit row says besides."""
    done = Transfer(segment)
    insert = f"INSERT INTO audit_0_3 VALUES ({placeholders(audit_old.COLUMNS)})"
    for row in source.log():
        db.run(insert, *row)
    audit.append(audit_old.TAKEN_OVER, actor, log=done.segment.detail(), **origin)
    rows = source.rows(TASKS, "created_at, rowid", ["caused_by_task_id"])
    tasks = take_tasks(rows, source.causes(), db.new_id, done.notes)
    _write_tasks(db, tasks)
    done.keys[TASKS.name] = {rowid: task["id"] for rowid, task in tasks.rows.items()}
    for table in OTHERS:
        done.keys[table.name] = dict(_carry(source, db, table, tasks.ids, done.notes))
    _tell(db, audit, actor, done.notes)
    return done


def _write_tasks(db: Database, tasks: Tasks) -> None:
    for task in tasks.rows.values():
        _insert(db, TASKS.name, task)
    for task_id, needed in tasks.edges:
        db.run("INSERT INTO dependency (task, depends_on) VALUES (?, ?)", task_id, needed)
    db.run(
        "UPDATE tasks SET open_dependencies = (SELECT count(*) FROM dependency JOIN tasks AS needed"
        " ON needed.id = depends_on WHERE task = tasks.id AND needed.status != 'done')"
        " WHERE id IN (SELECT task FROM dependency)"
    )


def _carry(
    source: Source, db: Database, table: Table, ids: Mapping[str, str], notes: Notes
) -> Iterator[tuple[int, Any]]:
    """Copy a table that is not the tasks; the new key of each row by its old rowid."""
    for row in source.rows(table):
        key = table.columns[0]
        new: New = {name: row[name] for name in table.columns}
        if row[key] is None:  # legal in a TEXT primary key of SQLite
            new[key] = db.new_id()
            notes.touch(table.name, row, key, new[key], "had no id: this one now")
        if "task_id" in new:
            new["task_id"] = rename(row, table.name, "task_id", ids, notes)
        if "critic_verdicts" in new and row["critic_verdicts"] is None:
            new["critic_verdicts"] = "[]"
            notes.touch(table.name, row, "critic_verdicts")
        for old, column in table.money.items():
            new[column] = money(table.name, row, old, new[key], notes)
        _insert(db, table.name, new)
        yield row["rowid"], new[key]


def _insert(db: Database, table: str, row: Mapping[str, Any]) -> None:
    db.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({placeholders(list(row))})", *row.values())


def _tell(db: Database, audit: Audit, actor: str, notes: Notes) -> None:
    """An audit row for every change that somebody should know of, and the escalation file of each escalated task."""
    for was, now in notes.renamed:
        audit.append("task_renamed", actor, task=now, before=was, after=now)
    for task in notes.restarted:
        audit.append("task_interrupted", actor, task=task, outcome="lost", error="was in progress under 0.3")
    for note in notes.changed:
        audit.append(
            "value_changed", actor, task=note.id if note.table == TASKS.name else None, table=note.table, row=note.id,
            column=note.column, problem=note.problem,
        )  # fmt: skip
    outbox = Outbox(db)
    for task, reason in notes.escalated.items():
        db.run("UPDATE tasks SET finished_at = ? WHERE id = ?", db.stamp, task)
        audit.append("escalation", actor, task=task, reason=reason)
        outbox.put("escalation", {"task": task})
