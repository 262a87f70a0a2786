"""What the ledger knows of tasks that work in a worktree of their own."""

from __future__ import annotations

from collections.abc import Collection

from producer.ledger.audit import Audit
from producer.ledger.database import Database
from producer.ledger.marks import Marks

PREFIX = "workspace"
KIND = "workspace"  # of what is ordered through the outbox


class Workspaces:
    """Runs inside the ledger's transaction."""

    def __init__(self, db: Database, audit: Audit) -> None:
        self._db, self._audit = db, audit
        self.marks = Marks(db, PREFIX)

    def ordered(self) -> dict[str, bool]:
        """The tasks whose worktree is still to be dealt with, and whether that was tried already."""
        rows = self._db.rows("SELECT json_extract(body, '$.task'), tries FROM outbox WHERE kind = ?", KIND)
        return {str(task): bool(tries) for task, tries in rows}

    def waits(self, task: str, others: Collection[str], seconds: float) -> bool:
        """Whether a task depends on one of ``others``; then it may be claimed ``seconds`` later at the earliest."""
        needed = {row[0] for row in self._db.rows("SELECT depends_on FROM dependency WHERE task = ?", task)}
        if needed.isdisjoint(others):
            return False
        self._db.run("UPDATE tasks SET not_before = ? WHERE id = ?", self._db.now + seconds, task)
        return True

    def wait_also(self, task: str, other: str) -> None:
        """Those that depend on ``task`` and have not begun depend on ``other`` as well."""
        rows = self._db.rows(
            "SELECT id FROM tasks JOIN dependency ON task = id"
            " WHERE depends_on = ? AND id != ? AND status = 'pending'",
            task, other,
        )  # fmt: skip
        for (dependent,) in rows:
            self._db.run("INSERT OR IGNORE INTO dependency (task, depends_on) VALUES (?, ?)", dependent, other)
            self._db.run(
                "UPDATE tasks SET open_dependencies = (SELECT count(*) FROM dependency JOIN tasks AS needed"
                " ON needed.id = depends_on WHERE task = tasks.id AND needed.status != 'done'),"
                " dependencies = iif(json_valid(dependencies), json_insert(dependencies, '$[#]', ?), dependencies)"
                " WHERE id = ?",
                other, dependent,
            )  # fmt: skip
            self._audit.append("task_waits_also", "producer", task=dependent, waits_for=other)

    def verdict(self, task: str) -> tuple[str, str] | None:
        """What a reviewing task decided: the text and the rationale of its last decision of the kind `review`."""
        row = self._db.one(
            "SELECT decision_text, rationale FROM decisions WHERE task_id = ? AND kind = 'review'"
            " ORDER BY id DESC LIMIT 1",
            task,
        )
        return (row[0], row[1]) if row else None

    def about(self, task: str) -> tuple[str, str, str, int, int]:
        """A task's role, title, description, priority and cost in micro-dollars."""
        row = self._db.one(
            "SELECT agent_owner, title, description, priority, cost_micros FROM tasks WHERE id = ?", task
        )
        assert row is not None
        return (str(row[0]), str(row[1]), str(row[2]), int(row[3]), int(row[4]))

    def over(self, tasks: Collection[str]) -> list[str]:
        """Those of ``tasks`` that are done or killed, or not there any more."""
        states = [(task, self._db.value("SELECT status FROM tasks WHERE id = ?", task)) for task in tasks]
        return [task for task, status in states if status in (None, "done", "killed")]
