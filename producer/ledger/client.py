"""LedgerClient: the ledger for scripts, agents' own code and the command line.

While a supervisor runs it is the one writer, and the client asks it over the control socket; without one, the client
takes the ledger's lock for each change and writes itself. Reading needs neither.

A supervisor that goes away before it answers may have committed or not. Filing tasks is then tried again, for their ids
were made here and tell; everything else ends with LedgerBusy, which says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any

from producer.core.guards import Limits
from producer.core.money import to_float
from producer.errors import UnknownTask
from producer.ids import new_id
from producer.ledger.attempts import READY
from producer.ledger.model import Draft
from producer.ledger.operations import Context
from producer.ledger.seed import read_seed
from producer.ledger.submit import Submitter, Unanswered, rebuild
from producer.ledger.views import Reader

__all__ = ["AuditLogger", "AuditRow", "LedgerClient", "Task", "create_ledger", "read_seed", "rebuild"]
AUDIT_GENESIS_PREV_HASH = "0" * 64
_TRIES = 5


@dataclass
class Task:
    """A task as 0.3.x scripts know it; USD are floats here."""

    id: str
    agent_owner: str
    status: str
    title: str
    description: str
    parent_task_id: str | None
    dependencies: list[str]
    payload: dict[str, Any]
    output_refs: list[str]
    priority: int
    sprint_id: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    retry_count: int
    escalation_reason: str | None
    cost_usd: float
    actual_cost_usd: float | None
    config_isolation: str | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Task:
        """From a row of Reader.task or Reader.list."""
        values = {field.name: row[field.name] for field in fields(cls)}
        values["cost_usd"] = float(row["cost_usd"])
        values["actual_cost_usd"] = None if row["actual_cost_usd"] is None else float(row["actual_cost_usd"])
        return cls(**values)


@dataclass
class AuditRow:
    """One audit row; ``detail`` is JSON text."""

    id: int
    agent_owner: str
    task_id: str | None
    action: str
    detail: str
    cost_usd: float
    timestamp: str


class LedgerClient:
    """One project's ledger. Creates it where it is missing."""

    def __init__(
        self, db_path: Path | str, *, actor: str = "operator", limits: Limits | None = None, create: bool = True
    ) -> None:
        self.path = Path(db_path).resolve()
        self._submitter = Submitter(self.path, Context(actor, limits or Limits()))
        self.places = self._submitter.places
        if create:
            self._submitter.create()
        self._reader = Reader(self.path)

    def __enter__(self) -> LedgerClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger."""
        self._submitter.close()
        self._reader.close()

    # ---- writing, by whichever way is open

    def perform(self, operation: str, **arguments: Any) -> Any:
        """One operation of producer/ledger/operations.py, committed when this returns. Raises ProducerError."""
        return self._submitter.perform(operation, arguments)

    # ---- tasks

    def insert_task(
        self,
        *,
        agent_owner: str,
        title: str,
        description: str,
        dependencies: Iterable[str] | None = None,
        payload: Mapping[str, Any] | None = None,
        priority: int = 3,
        sprint_id: str | None = None,
        parent_task_id: str | None = None,
        task_id: str | None = None,
        caused_by_task_id: str | None = None,
        requires_approval: bool = False,
    ) -> str:
        """File a task; its id. Raises InvalidTask, InvalidDependency, UnknownTask."""
        draft = Draft(
            agent_owner, title, description, payload or {}, priority, tuple(dependencies or ()), sprint_id,
            parent_task_id, caused_by_task_id, task_id, requires_approval,
        )  # fmt: skip
        return self.insert_tasks([draft])[0]

    def insert_tasks(self, tasks: Iterable[Draft | Mapping[str, Any]]) -> list[str]:
        """File many tasks in one transaction; their ids. Each is a Draft, or a mapping of insert_task's arguments."""
        drafts = [{**vars(task)} if isinstance(task, Draft) else dict(task) for task in tasks]
        for draft in drafts:
            draft["task_id"] = new_id() if draft.get("task_id") is None else draft["task_id"]
        for left in reversed(range(_TRIES)):
            try:
                self.perform("insert_tasks", tasks=drafts)
                break
            except Unanswered:
                if drafts and self.get_task(drafts[0]["task_id"]):
                    break
                if not left:
                    raise
        return [draft["task_id"] for draft in drafts]

    def get_task(self, task_id: str) -> Task | None:
        """A task, None where there is none."""
        try:
            return Task.of(self._reader.task(task_id))
        except UnknownTask:
            return None

    def list_ready_tasks(self, agent_owner: str | None = None, limit: int = 50) -> list[Task]:
        """Tasks that a worker could take now, by priority and age."""
        clause, values = ("AND agent_owner = ?", (agent_owner,)) if agent_owner else ("", ())
        rows = self._reader.rows(
            f"SELECT id FROM tasks WHERE {READY} {clause} ORDER BY priority, seq LIMIT ?", *values, limit
        )
        return [Task.of(self._reader.task(row[0])) for row in rows]

    def claim_task(self, task_id: str, agent_owner: str) -> Task:
        """Take a task for this script itself. Raises TaskClaimRace where it is not free."""
        self.perform("claim_task", task_id=task_id, agent_owner=agent_owner)
        return Task.of(self._reader.task(task_id))

    def complete_task(
        self,
        task_id: str,
        *,
        output_refs: list[str] | None = None,
        cost_usd: float = 0.0,
        actual_cost_usd: float | None = None,
        config_isolation: str | None = None,
    ) -> None:
        """A task that this script claimed is done."""
        self.perform(
            "complete_task", task_id=task_id, output_refs=output_refs, cost_usd=cost_usd,
            actual_cost_usd=actual_cost_usd, config_isolation=config_isolation,
        )  # fmt: skip

    def fail_task(self, task_id: str, error_summary: str) -> int:
        """A task that this script claimed failed; its retry count."""
        return int(self.perform("fail_task", task_id=task_id, error_summary=error_summary))

    def requeue_task(self, task_id: str, reason: str = "") -> None:
        """Have a failed, escalated or killed task tried again. Raises IllegalTransition."""
        self.perform("requeue_task", task_id=task_id, reason=reason)

    def escalate_task(self, task_id: str, reason: str) -> None:
        """Hand a task to a human."""
        self.perform("escalate_task", task_id=task_id, reason=reason)

    def kill_task(self, task_id: str, reason: str) -> None:
        """Take a task out of the queue; a run of it is stopped."""
        self.perform("kill_task", task_id=task_id, reason=reason)

    def seed_from_json(self, json_path: Path | str) -> int:
        """File the tasks of a seed file whose ids are new; how many. Raises InvalidTask for a malformed file."""
        return int(self.perform("seed", tasks=read_seed(Path(json_path))))

    # ---- records

    def record_decision(
        self,
        *,
        task_id: str | None,
        agent_owner: str,
        kind: str,
        decision_text: str,
        rationale: str,
        artifact: str | None = None,
    ) -> str:
        """Record a decision; its id."""
        return str(
            self.perform(
                "record_decision", task_id=task_id, agent_owner=agent_owner, kind=kind, decision_text=decision_text,
                rationale=rationale, artifact=artifact,
            )
        )  # fmt: skip

    def record_asset(self, *, asset_type: str, path: str, agent_id: str, task_id: str | None, **more: Any) -> str:
        """Record an asset; its id. ``more``: the other columns of asset_registry, as in 0.3.x."""
        return str(
            self.perform("record_asset", asset_type=asset_type, path=path, agent_id=agent_id, task_id=task_id, **more)
        )

    # ---- money

    def budget_state(
        self, agent_owner: str, *, hard_cap_usd: float, soft_cap_ratio: float
    ) -> tuple[float, float, float]:
        """(spent, soft cap, hard cap) of a role today, in USD."""
        spent = self._reader.budget().get(agent_owner, {"spent": 0})["spent"]
        return to_float(spent), hard_cap_usd * soft_cap_ratio, hard_cap_usd

    def update_budget(
        self, agent_owner: str, delta_usd: float, *, hard_cap_usd: float, soft_cap_ratio: float
    ) -> tuple[float, float, float]:
        """Book what a script spent outside any task; the new (spent, soft cap, hard cap)."""
        self.perform(
            "spend", agent_owner=agent_owner, delta_usd=delta_usd, hard_cap_usd=hard_cap_usd,
            soft_cap_usd=str(Decimal(str(hard_cap_usd)) * Decimal(str(soft_cap_ratio))),
        )  # fmt: skip
        return self.budget_state(agent_owner, hard_cap_usd=hard_cap_usd, soft_cap_ratio=soft_cap_ratio)

    def total_spend_today(self) -> float:
        """What all roles spent today, in USD."""
        return to_float(sum(row["spent"] for row in self._reader.budget().values()))

    # ---- audit

    def append_audit(
        self,
        *,
        agent_owner: str,
        action: str,
        detail: Mapping[str, Any],
        cost_usd: float = 0.0,
        task_id: str | None = None,
    ) -> str:
        """Add an audit row; its hash."""
        return str(
            self.perform(
                "append_audit", agent_owner=agent_owner, action=action, detail=dict(detail), cost_usd=cost_usd,
                task_id=task_id,
            )
        )  # fmt: skip

    def latest_audit_hash(self) -> str:
        """The newest row's hash."""
        rows = self._reader.rows("SELECT lower(hex(chain)) FROM audit ORDER BY seq DESC LIMIT 1")
        return str(rows[0][0]) if rows else AUDIT_GENESIS_PREV_HASH

    def last_audit_event(self, *, action: str) -> AuditRow | None:
        """The newest row with this action."""
        for log, age in (("audit_own", "seq"), ("audit_0_3", "id")):
            rows = self._reader.rows(
                "SELECT id, agent_owner, task_id, action, detail, coalesce(cost_usd, 0), timestamp"
                f" FROM {log} WHERE action = ? ORDER BY {age} DESC LIMIT 1",
                action,
            )
            if rows:
                return AuditRow(*rows[0])
        return None

    def count_audit_events(
        self, *, action: str, caused_by_task_id: str | None = None, since_id: int | None = None
    ) -> int:
        """How many rows with this action came after ``since_id``, their detail naming this ``caused_by_task_id``."""
        rows = self._reader.rows(
            "SELECT count(*) FROM audit_log WHERE action = ? AND id > ?"
            " AND (? IS NULL OR json_extract(detail, '$.caused_by_task_id') = ?)",
            action, since_id or 0, caused_by_task_id, caused_by_task_id,
        )  # fmt: skip
        return int(rows[0][0])


class AuditLogger:
    """A LedgerClient's audit log, for one agent."""

    def __init__(self, ledger: LedgerClient, agent_owner: str) -> None:
        self.ledger, self.agent_owner = ledger, agent_owner

    def event(
        self, action: str, detail: Mapping[str, Any] | None = None, *, task_id: str | None = None, cost_usd: float = 0.0
    ) -> str:
        """Add an audit row; its hash."""
        return self.ledger.append_audit(
            agent_owner=self.agent_owner, action=action, detail=detail or {}, cost_usd=cost_usd, task_id=task_id
        )


def create_ledger(path: Path | str) -> None:
    """Create the ledger at ``path`` where there is none. Raises LedgerUnusable where something else is there."""
    LedgerClient(path).close()
