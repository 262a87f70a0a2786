"""Attempts: claiming a task, what is learnt while it runs, and settling it once.

1. A claim moves the task, makes the attempt and places the hold in one transaction.
2. Settling is guarded by "still running": a second outcome is stale, changes nothing but its cost, and leaves a row.
3. A task that a human killed, or its agent escalated, while the attempt ran keeps that state.
4. The session is known before the run; the next attempt takes it up where the first one really began.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from producer.core.lifecycle import AttemptState, TaskEvent, TaskState, next_attempt
from producer.core.money import MicroUSD
from producer.core.retry import Settlement
from producer.errors import UnknownTask
from producer.ids import new_session
from producer.ledger.accounts import Accounts
from producer.ledger.audit import Audit
from producer.ledger.checks import lenient_json
from producer.ledger.database import Database, Row
from producer.ledger.model import Claim, Cost, Prepared, Ready, Running
from producer.ledger.queue import Queue

READY = "status = 'pending' AND open_dependencies = 0 AND not_before IS NULL AND requires_approval = 0"
_TASK = (
    "SELECT id, seq, agent_owner, root_task_id, status, attempts, title, description, retry_count, actual_micros,"
    " cost_micros, payload FROM tasks"
)


def _ready(row: Row) -> Ready:
    *columns, text = row
    payload = lenient_json(text)
    return Ready._make([*columns, payload if isinstance(payload, dict) else None])


class Ending(NamedTuple):
    """What a run reported of itself at its end."""

    outcome: str
    text: str = ""
    error: str | None = None
    output_refs: tuple[str, ...] = ()
    actual: MicroUSD | None = None
    turns: int = 0
    tool_calls: int = 0
    session_id: str | None = None  # the session of a run that has begun


class Attempts:
    """Runs inside the ledger's transaction."""

    def __init__(
        self,
        db: Database,
        audit: Audit,
        queue: Queue,
        accounts: Accounts,
        new_session: Callable[[], str] = new_session,
    ) -> None:
        self._db, self._audit, self._queue, self._accounts = db, audit, queue, accounts
        self._new_session = new_session
        self._inflight = accounts.inflight
        queue.on_move = self._inflight.task_moved

    # ---- claiming

    def ready(self, role: str, limit: int = 1) -> list[Ready]:
        """What workers of ``role`` should take next: by priority, then age."""
        rows = self._db.rows(f"{_TASK} WHERE agent_owner = ? AND {READY} ORDER BY priority, seq LIMIT ?", role, limit)
        return [_ready(row) for row in rows]

    def task(self, task: str) -> Ready:
        """One task, ready or not. Raises UnknownTask."""
        row = self._db.one(f"{_TASK} WHERE id = ?", task)
        if row is None:
            raise UnknownTask(task)
        return _ready(row)

    def claim(
        self, ready: Ready, worker: str, model: str, hold: MicroUSD, *, resume: bool, prepared: Prepared | None = None
    ) -> Claim:
        """Start an attempt of a task read in this transaction. Raises IllegalTransition where it is not pending.

        ``prepared``: the attempt that the worker has a process ready for; only for a task's first one.
        """
        task, role, number = ready.task, ready.role, ready.attempts + 1
        attempt = prepared.attempt if prepared else self._db.new_id()
        earlier = self._begun_session(task, role) if resume and ready.attempts else None
        take_up, session = earlier is not None, earlier or (prepared.session if prepared else self._new_session())
        after = self._queue.step(task, TaskState(ready.status), TaskEvent.CLAIMED)
        self._db.defer(
            "tasks", task,
            "UPDATE tasks SET status = ?, started_at = ?, attempts = ?, session_id = ?, finished_at = NULL"
            " WHERE seq = ?",
            after, self._db.stamp, number, session, ready.seq,
        )  # fmt: skip
        self._db.defer(
            "attempts", attempt,
            "INSERT INTO attempts (id, task_id, role, number, worker, model, session_id, claimed_at, held_base,"
            " held_micros) VALUES (?,?,?,?,?,?,?,?,?,?)",
            attempt, task, role, number, worker, model, session, self._db.stamp, hold, hold,
        )  # fmt: skip
        self._accounts.place(
            Running(
                attempt, task, ready.seq, role, ready.root, worker, number, ready.retry_count, None, after,
                ready.actual, 0, ready.cost, booked=False, date=self._accounts.today(), base=hold, held=hold,
                asked=False,
            )
        )  # fmt: skip
        self._audit.append(
            "dispatch", role, task=task, attempt=attempt, worker=worker, number=number, model=model,
            held_micros=hold, resume=take_up,
        )  # fmt: skip
        return Claim(
            attempt, task, role, number, ready.title, ready.description, ready.payload or {}, session, take_up,
            ready.retry_count,
        )  # fmt: skip

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
        return self._inflight.all().get(attempt)

    def all_running(self) -> list[Running]:
        """Every attempt that is not settled."""
        return list(self._inflight.all().values())

    def running_of_task(self, task: str) -> Running | None:
        """The attempt that a task is in, if any."""
        return self._inflight.of_task(task)

    def cancel(self, attempt: str, reason: str) -> bool:
        """Remember that somebody asked for the attempt to stop; False where that is known already."""
        run = self.running(attempt)
        if run is None or run.cancel is not None:
            return False
        run.cancel = reason
        self._db.run("UPDATE attempts SET cancel = ? WHERE id = ?", reason, attempt)
        return True

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
        run = self.running(attempt)
        if run:
            run.asked = True
        self._db.run("INSERT INTO replies VALUES (?, ?, ?)", call, attempt, json.dumps(reply))

    # ---- settling

    def settle(self, run: Running, settlement: Settlement, ending: Ending) -> TaskState | None:
        """End an attempt once; the task's state after it, None where the attempt had ended before (stale).

        The state of its task decides what the outcome may still change.
        """
        if self.running(run.attempt) is None:
            self.stale(run.attempt, ending.outcome)
            return None
        state = next_attempt(AttemptState.RUNNING, settlement.attempt, run.attempt)
        self._db.defer(
            "attempts", run.attempt,
            "UPDATE attempts SET state = ?, outcome = ?, finished_at = ?, error = ?, turns = ?, tool_calls = ?,"
            " cost_micros = ?, started_at = coalesce(started_at, ?), session_id = coalesce(?, session_id),"
            " held_base = 0, held_micros = 0"
            " WHERE id = ? AND state = 'running'",
            state, ending.outcome, self._db.stamp, ending.error, ending.turns, ending.tool_calls, run.cost,
            self._db.stamp if ending.session_id else None, ending.session_id, run.attempt,
        )  # fmt: skip
        self._accounts.release(run)
        if run.asked:
            self._db.run("DELETE FROM replies WHERE attempt = ?", run.attempt)
        actual = run.actual if ending.actual is None else (run.actual or 0) + ending.actual
        status = run.task_status
        if status is not TaskState.IN_PROGRESS:
            self._db.defer(
                "tasks", run.task,
                "UPDATE tasks SET cost_micros = ?, actual_micros = ? WHERE id = ?", run.task_cost, actual, run.task,
            )  # fmt: skip
            self._audit.append(
                "attempt_ended", run.role, task=run.task, attempt=run.attempt, outcome=ending.outcome,
                error=ending.error, status=status.value,
            )  # fmt: skip
            return status
        after = self._move(run, settlement, ending, actual)
        self._report(run, settlement, ending, after)
        return after

    def stale(self, attempt: str, outcome: str) -> None:
        """An outcome came for an attempt that had ended: it is dropped, and a row says so."""
        task = self._db.value("SELECT task_id FROM attempts WHERE id = ?", attempt)
        self._audit.append("stale_result", "producer", task=task, attempt=attempt, outcome=outcome)

    def _move(self, run: Running, settlement: Settlement, ending: Ending, actual: int | None) -> TaskState:
        if settlement.task is TaskEvent.COMPLETED:
            after = self._queue.step(run.task, run.task_status, settlement.task)
            self._db.defer(
                "tasks", run.task,
                "UPDATE tasks SET status = ?, finished_at = ?, retry_count = ?, not_before = NULL, cost_micros = ?,"
                " actual_micros = ?, result = ?, output_refs = ? WHERE seq = ?",
                after, self._db.stamp, settlement.retry_count, run.task_cost, actual, ending.text,
                json.dumps(ending.output_refs) if ending.output_refs else "[]", run.seq,
            )  # fmt: skip
            return after
        reason = {"escalation_reason": settlement.reason} if settlement.task is TaskEvent.EXHAUSTED else {}
        return self._queue.move(
            run.task, settlement.task, state=run.task_status, retry_count=settlement.retry_count,
            not_before=settlement.not_before, cost_micros=run.task_cost, actual_micros=actual, **reason,
        )  # fmt: skip

    def _report(self, run: Running, settlement: Settlement, ending: Ending, after: TaskState) -> None:
        detail: dict[str, object] = {"outcome": ending.outcome, "error": ending.error, "status": after}
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
