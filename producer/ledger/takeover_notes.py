"""What is different in a ledger taken over from 0.3, and why: for the report, and for comparing it with the old one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from producer.core.lifecycle import TaskEvent, TaskState, next_task

Old = Mapping[str, Any]  # a row of 0.3 by column, with its rowid
New = dict[str, Any]


@dataclass(frozen=True)
class Note:
    """One value that is not what it was. ``id``: the row's id in the new ledger."""

    table: str
    id: str
    column: str
    problem: str


@dataclass
class Notes:
    """What is different in the new ledger, and why."""

    restarted: list[str] = field(default_factory=list)
    escalated: dict[str, str] = field(default_factory=dict)
    renamed: list[tuple[str, str]] = field(default_factory=list)
    changed: list[Note] = field(default_factory=list)
    touched: set[tuple[str, int, str]] = field(default_factory=set)

    def touch(self, table: str, row: Old, column: str, ident: object = "", problem: str = "") -> None:
        """A value was changed; with a ``problem`` it is shown."""
        self.touched.add((table, row["rowid"], column))
        if problem:
            self.changed.append(Note(table, str(ident), column, problem))

    def escalate(self, task: New, row: Old, reason: str) -> None:
        """A pending task needs a human; with several reasons it says them all."""
        task["status"] = next_task(TaskState.PENDING, TaskEvent.ESCALATED, task["id"]).value
        known = self.escalated.get(task["id"])
        self.escalated[task["id"]] = task["escalation_reason"] = f"{known}; {reason}" if known else reason
        for column in ("status", "escalation_reason", "finished_at"):
            self.touch("tasks", row, column)
