"""Attempts: claiming a task, what is learnt while it runs, and settling it once.

1. A claim moves the task, makes the attempt and places the hold in one transaction.
2. Settling is guarded by "still running": a second outcome is stale, changes nothing but its cost, and leaves a row.
3. A task that a human killed, or its agent escalated, while the attempt ran keeps that state.
4. The session is known before the run; the next attempt takes it up where the first one really began.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from producer.core.lifecycle import AttemptState, TaskEvent, TaskState, next_attempt
from producer.core.money import MicroUSD
from producer.core.retry import Settlement
from producer.errors import UnknownTask
from producer.ledger.accounts import Accounts
from producer.ledger.audit import Audit
from producer.ledger.database import Database
from producer.ledger.model import Claim, Cost, Running
from producer.ledger.queue import Queue

READY = "status = 'pending' AND open_dependencies = 0 AND not_before IS NULL AND requires_approval = 0"


@dataclass(frozen=True)
class Ending:
    """What a run reported of itself at its end."""

    outcome: str
    text: str = ""
    error: str | None = None
    output_refs: tuple[str, ...] = ()
    actual: MicroUSD | None = None
    turns: int = 0
    tool_calls: int = 0


class Attempts:
    """Runs inside the ledger's transaction."""

    def __init__(
        self,
        db: Database,
        audit: Audit,
        queue: Queue,
        accounts: Accounts,
        new_session: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._db, self._audit, self._queue, self._accounts = db, audit, queue, accounts
        self._new_session = new_session

    # ---- claiming

    def candidate(self, role: str) -> tuple[str, str] | None:
        """(task, root) that a worker of ``role`` should take next: by priority, then age."""
        row = self._db.one(
            f"SELECT id, root_task_id FROM tasks WHERE agent_owner = ? AND {READY} ORDER BY priority, seq LIMIT 1", role
        )
        return (row[0], row[1]) if row else None

    def claim(self, task: str, worker: str, model: str, hold: MicroUSD, *, resume: bool) -> Claim:
        """Start an attempt of a ready task. Raises UnknownTask; IllegalTransition where it is not pending."""
        row = self._db.one(
            "SELECT status, agent_owner, root_task_id, attempts, title, description, payload, retry_count FROM tasks"
            " WHERE id = ?",
            task,
        )
        if row is None:
            raise UnknownTask(task)
        status, role, root, before, title, description, payload, retry_count = row
        attempt, number = self._db.new_id(), before + 1
        earlier = self._begun_session(task, role) if resume and before else None
        take_up, session = earlier is not None, earlier or self._new_session()
        self._queue.move(
            task, TaskEvent.CLAIMED, state=TaskState(status), started_at=self._db.stamp, attempts=number,
            session_id=session, finished_at=None,
        )  # fmt: skip
        self._db.run(
            "INSERT INTO attempts (id, task_id, role, number, worker, model, session_id, claimed_at)"
            " VALUES (?,?,?,?,?,?,?,?)",
            attempt, task, role, number, worker, model, session, self._db.stamp,
        )  # fmt: skip
        self._accounts.place(attempt, task, role, root, hold)
        self._audit.append(
            "dispatch", role, task=task, attempt=attempt, worker=worker, number=number, model=model,
            held_micros=hold, resume=take_up,
        )  # fmt: skip
        return Claim(
            attempt, task, role, number, title, description, json.loads(payload), session, take_up, retry_count
        )

    def _begun_session(self, task: str, role: str) -> str | None:
        """The session of the newest attempt that really began, under the same role; None where none did."""
        session: str | None = self._db.value(
            "SELECT session_id FROM attempts WHERE task_id = ? AND role = ? AND started_at IS NOT NULL"
            " ORDER BY number DESC LIMIT 1",
            task, role,
        )  # fmt: skip
        return session

    # ---- while it runs

    def started(self, attempt: str, session_id: str, resumed: bool, note: str | None) -> bool:
        """The run has begun: from now on its session can be taken up. False where the attempt is not running."""
        task = self._db.value(
            "UPDATE attempts SET started_at = ?, session_id = ?, resumed = ? WHERE id = ? AND state = 'running'"
            " RETURNING task_id",
            self._db.stamp, session_id, int(resumed), attempt,
        )  # fmt: skip
        if task is None:
            return False
        if note:
            self._db.run("UPDATE tasks SET session_id = ? WHERE id = ?", session_id, task)
            self._audit.append("session_note", "producer", task=task, attempt=attempt, note=note)
        return True

    def running(self, attempt: str) -> Running | None:
        """An attempt that is not settled, None where it is or never was."""
        found = self._select("a.id = ? AND a.state = 'running'", attempt)
        return found[0] if found else None

    def all_running(self) -> list[Running]:
        """Every attempt that is not settled."""
        return self._select("a.state = 'running'")

    def running_of_task(self, task: str) -> Running | None:
        """The attempt that a task is in, if any."""
        found = self._select("a.task_id = ? AND a.state = 'running'", task)
        return found[0] if found else None

    def cancel(self, attempt: str, reason: str) -> bool:
        """Remember that somebody asked for the attempt to stop; False where that is known already."""
        return bool(
            self._db.run(
                "UPDATE attempts SET cancel = ? WHERE id = ? AND state = 'running' AND cancel IS NULL", reason, attempt
            )
        )

    def book(self, cost: Cost) -> bool:
        """Book a cost with its audit row; False where it is booked already. Late costs of settled attempts too."""
        booked = self._accounts.book(cost)
        if booked is None:
            return False
        self._audit.append(
            "cost", booked.role, task=booked.task, attempt=cost.attempt, cost=cost.amount, request=cost.request,
            model=cost.model, exact=cost.exact, source=cost.source, late=booked.late,
            tokens={name: count for name, count in cost.tokens.items() if count},
        )  # fmt: skip
        return True

    def reply(self, call: str) -> Any:
        """The answer that a ledger call of a running attempt was given; None where it was not asked before."""
        text = self._db.value("SELECT reply FROM replies WHERE call = ?", call)
        return None if text is None else json.loads(text)

    def remember_reply(self, call: str, attempt: str, reply: Any) -> None:
        """Keep the answer to a call until its attempt is settled."""
        self._db.run("INSERT INTO replies VALUES (?, ?, ?)", call, attempt, json.dumps(reply))

    # ---- settling

    def settle(self, run: Running, settlement: Settlement, ending: Ending) -> TaskState | None:
        """End an attempt once; the task's state after it, None where the attempt had ended before (stale).

        ``run`` must have been read in this transaction: its task's state decides what the outcome may still change.
        """
        state = next_attempt(AttemptState.RUNNING, settlement.attempt, run.attempt)
        changed = self._db.run(
            "UPDATE attempts SET state = ?, outcome = ?, finished_at = ?, error = ?, turns = ?, tool_calls = ?"
            " WHERE id = ? AND state = 'running'",
            state.value, ending.outcome, self._db.stamp, ending.error, ending.turns, ending.tool_calls, run.attempt,
        )  # fmt: skip
        if not changed:
            self.stale(run.attempt, ending.outcome)
            return None
        self._accounts.release(run.attempt)
        self._db.run("DELETE FROM replies WHERE attempt = ?", run.attempt)
        if ending.actual is not None:
            self._db.run(
                "UPDATE tasks SET actual_micros = coalesce(actual_micros, 0) + ? WHERE id = ?", ending.actual, run.task
            )
        status = TaskState(run.task_status)
        if status is not TaskState.IN_PROGRESS:
            self._audit.append(
                "attempt_ended", run.role, task=run.task, attempt=run.attempt, outcome=ending.outcome,
                error=ending.error, status=status.value,
            )  # fmt: skip
            return status
        after = self._move(run, settlement, ending)
        self._report(run, settlement, ending, after)
        return after

    def stale(self, attempt: str, outcome: str) -> None:
        """An outcome came for an attempt that had ended: it is dropped, and a row says so."""
        task = self._db.value("SELECT task_id FROM attempts WHERE id = ?", attempt)
        self._audit.append("stale_result", "producer", task=task, attempt=attempt, outcome=outcome)

    def _move(self, run: Running, settlement: Settlement, ending: Ending) -> TaskState:
        columns: dict[str, object] = {"retry_count": settlement.retry_count, "not_before": settlement.not_before}
        if settlement.task is TaskEvent.COMPLETED:
            columns |= {"result": ending.text, "output_refs": json.dumps(list(ending.output_refs))}
        if settlement.task is TaskEvent.EXHAUSTED:
            columns["escalation_reason"] = settlement.reason
        return self._queue.move(run.task, settlement.task, state=TaskState(run.task_status), **columns)

    def _report(self, run: Running, settlement: Settlement, ending: Ending, after: TaskState) -> None:
        detail: dict[str, object] = {"outcome": ending.outcome, "error": ending.error, "status": after.value}
        match settlement.task:
            case TaskEvent.COMPLETED:
                action, detail = "task_completed", {"output_refs": len(ending.output_refs)}
            case TaskEvent.INTERRUPTED:
                action = "task_interrupted"
            case _:
                action, detail["retry_count"] = "task_failed", settlement.retry_count
        self._audit.append_free(action, run.role, detail=detail, task=run.task, attempt=run.attempt)
        if after is TaskState.ESCALATED:
            self._audit.append("escalation", run.role, task=run.task, attempt=run.attempt, reason=settlement.reason)

    def _select(self, where: str, *values: object) -> list[Running]:
        rows = self._db.rows(
            "SELECT a.id, a.task_id, a.role, t.root_task_id, a.worker, a.number, t.retry_count, a.cancel, t.status,"
            f" a.cost_micros FROM attempts AS a JOIN tasks AS t ON t.id = a.task_id WHERE {where}",
            *values,
        )
        return [Running(*row) for row in rows]
