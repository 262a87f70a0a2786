"""What becomes of the rows of a 0.3 ledger. Pure: rows in, rows out, and notes of every value that is not what it was.

1. What no note names arrives as it was: the same id, the same text, the same figure.
2. Money was REAL dollars and becomes whole micro-dollars, rounded up. What is no amount of money becomes 0.
3. A task in progress becomes pending: in 0.3 nothing ever finished it once its producer had died.
4. Dependencies become edges. One that names no task, or closes a cycle, stays in the text and becomes none; a task
   that would have waited for it for ever is escalated with the reason.
5. An id that is no word of letters, digits, - and _ (so `../../evil`) gives way to a new ULID wherever it stands.
6. JSON that a worker cannot be sent is kept as text inside JSON that it can; a task too long for any message is
   escalated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from producer.core.lifecycle import TaskEvent, TaskState, next_task
from producer.core.money import MILLION, ZERO, MicroUSD, parse_usd
from producer.errors import InvalidTask, MoneyError, WireError
from producer.ledger.checks import TEXT_BYTES, may_be_id, payload_json
from producer.ledger.takeover_links import link, set_lineage
from producer.ledger.takeover_notes import New, Notes, Old
from producer.wire.codec import strict_json

KEPT = "payload_0_3"  # where a payload went that is no JSON object


def money(table: str, row: Old, column: str, ident: object, notes: Notes) -> MicroUSD:
    """A figure of 0.3 in micro-dollars, rounded up."""
    try:
        return parse_usd(row[column])
    except MoneyError:
        notes.touch(table, row, column, ident, f"{row[column]!r} is not an amount of US dollars: 0 now")
        return ZERO


def exact(value: object) -> Decimal:
    """A figure of 0.3 in micro-dollars as its digits say it, unrounded."""
    return Decimal(str(value)) * MILLION


# ---- tasks


@dataclass
class Tasks:
    """All tasks of a ledger on their way: the new rows by old rowid, oldest first; edges as (task, what it needs)."""

    rows: dict[int, New]
    edges: list[tuple[str, str]]
    ids: Mapping[str, str]  # the new id of every task by its old one


def take_tasks(rows: Iterable[Old], causes: Mapping[str, str], new_id: Callable[[], str], notes: Notes) -> Tasks:
    """Every task as it will stand. ``causes``: what the old log says about which task caused which."""
    olds = {row["rowid"]: row for row in rows}
    names = {rowid: _name(row, new_id, notes) for rowid, row in olds.items()}
    ids = {row["id"]: names[rowid] for rowid, row in olds.items() if row["id"] is not None}
    tasks = {rowid: _task(row, names[rowid], ids, causes, notes) for rowid, row in olds.items()}
    set_lineage({task["id"]: task for task in tasks.values()})
    edges = link(olds, tasks, notes)
    for rowid, task in tasks.items():
        _refuse_unsendable(task, olds[rowid], notes)
    return Tasks(tasks, edges, ids)


def _name(row: Old, new_id: Callable[[], str], notes: Notes) -> str:
    if may_be_id(row["id"]):
        return str(row["id"])
    fresh = new_id()
    notes.renamed.append((str(row["id"]), fresh))
    notes.touch("tasks", row, "id")
    return fresh


def _task(row: Old, ident: str, ids: Mapping[str, str], causes: Mapping[str, str], notes: Notes) -> New:
    task: New = {name: row[name] for name in _AS_THEY_ARE}
    task |= {
        "id": ident,
        "parent_task_id": rename(row, "tasks", "parent_task_id", ids, notes),
        "caused_by_task_id": _cause(row, ids, causes),
        "dependencies": _dependencies(row, ident, ids, notes),
        "payload": _payload(row, ident, notes),
        "output_refs": _json_list(row, "output_refs", ident, notes),
        "priority": _priority(row, ident, notes),
        "cost_micros": money("tasks", row, "cost_usd", ident, notes),
        "actual_micros": None
        if row["actual_cost_usd"] is None
        else money("tasks", row, "actual_cost_usd", ident, notes),
    }
    if row["status"] == TaskState.IN_PROGRESS:
        task["status"] = next_task(TaskState.IN_PROGRESS, TaskEvent.INTERRUPTED, ident).value
        notes.restarted.append(ident)
        notes.touch("tasks", row, "status")
    return task


_AS_THEY_ARE = (
    "agent_owner", "status", "title", "description", "sprint_id", "created_at", "started_at", "finished_at",
    "retry_count", "escalation_reason", "config_isolation",
)  # fmt: skip


def rename(row: Old, table: str, column: str, ids: Mapping[str, str], notes: Notes) -> str | None:
    """A column that names a task, with the task's id of now. Ids of tasks that do not exist stay."""
    old: str | None = row[column]
    new = old if old is None else ids.get(old, old)
    if new != old:
        notes.touch(table, row, column)
    return new


def _cause(row: Old, ids: Mapping[str, str], causes: Mapping[str, str]) -> str | None:
    cause = row["caused_by_task_id"] or causes.get(row["id"])
    return None if cause is None else ids.get(cause, cause)


def _priority(row: Old, ident: str, notes: Notes) -> int:
    value = row["priority"]
    whole = int(min(5, max(0, value))) if isinstance(value, (int, float)) else 3
    if whole != value:
        notes.touch("tasks", row, "priority", ident, f"{value!r} is not a whole number from 0 to 5: {whole} now")
    return whole


# ---- JSON columns


def _parsed(text: object) -> Any:
    """What a column of 0.3 holds. Raises WireError."""
    body = text.encode() if isinstance(text, str) else b""
    return strict_json(body, len(body))


def _json_list(row: Old, column: str, ident: str, notes: Notes) -> str:
    text = row[column]
    if text is None:
        notes.touch("tasks", row, column)
        return "[]"
    try:
        if isinstance(_parsed(text), list):
            return str(text)
    except WireError:
        pass
    notes.touch("tasks", row, column, ident, "is no JSON list: kept as one entry of text")
    return json.dumps([str(text)])


def _dependencies(row: Old, ident: str, ids: Mapping[str, str], notes: Notes) -> str:
    text = _json_list(row, "dependencies", ident, notes)
    items = json.loads(text)
    known = [ids.get(item, item) if isinstance(item, str) else str(item) for item in items]
    if known == items:
        return text
    notes.touch("tasks", row, "dependencies")
    return json.dumps(known)


def _payload(row: Old, ident: str, notes: Notes) -> str:
    text = row["payload"]
    if text is None:
        notes.touch("tasks", row, "payload")
        return "{}"
    try:
        payload_json(_parsed(text))
        return str(text)
    except (WireError, InvalidTask):
        notes.touch("tasks", row, "payload", ident, f"is no JSON object for a worker: kept as text under {KEPT!r}")
        return json.dumps({KEPT: str(text)})


def _refuse_unsendable(task: New, row: Old, notes: Notes) -> None:
    """A task whose text no message to a worker holds would stop the queue."""
    if task["status"] != TaskState.PENDING:
        return
    for name in ("title", "description", "payload"):
        size = len(str(task[name]).encode())
        if size > TEXT_BYTES:
            notes.escalate(task, row, f"its {name} has {size} bytes and a worker is sent at most {TEXT_BYTES}")
            return
