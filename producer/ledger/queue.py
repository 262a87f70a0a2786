"""The queue: filing tasks, their dependencies, and what an operator does to them.

1. A batch is filed whole or not at all. What is stored fits into a message to a worker: sizes, depth, plain text.
2. Dependencies are edges in a table and each task carries the count of those that are not done, so readiness is one
   partial index. The task itself, unknown ids and cycles are refused, naming them.
3. A dependency that ended killed or escalated keeps its dependents pending; they are shown as blocked, by whom.
4. Lineage, depth, ids and times are made here; a caller cannot choose them (an id may be proposed by an operator).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from producer.core.guards import (
    Limits,
    check_depth,
    check_duplicate,
    check_filed,
    check_payload,
    check_pending,
    check_title,
    check_wakeup,
)
from producer.core.idle import WAKEUP
from producer.core.lifecycle import TaskEvent, TaskState, next_task
from producer.errors import InvalidDependency, InvalidTask, UnknownTask
from producer.ledger.audit import Audit
from producer.ledger.checks import (
    check_ids,
    check_role,
    check_text,
    lenient_json,
    may_be_id,
    payload_json,
    refuse_cycle,
)
from producer.ledger.database import Database, placeholders
from producer.ledger.model import Draft, Filing
from producer.ledger.roles import PROJECT, Roles

BATCH = 20_000
EDITABLE = ("title", "description", "payload", "priority", "dependencies", "sprint_id")


class _Kin(NamedTuple):
    """Where a task belongs: its role, its lineage, and how many generations it is below that."""

    role: str
    root: str
    depth: int


class _Task(NamedTuple):
    """A row of a new task; what it does not name has its default."""

    id: str
    agent_owner: str
    title: str
    description: str
    parent_task_id: str | None
    caused_by_task_id: str | None
    root_task_id: str
    depth: int
    filed_by_attempt: str | None
    dependencies: str
    payload: str
    priority: int
    sprint_id: str | None
    created_at: str
    requires_approval: int


_OPEN = (
    "(SELECT count(*) FROM dependency JOIN tasks AS needed ON needed.id = depends_on"
    " WHERE task = tasks.id AND needed.status != 'done')"
)
_INSERT = f"INSERT INTO tasks ({', '.join(_Task._fields)}) VALUES ({placeholders(_Task._fields)})"


class Queue:
    """Tasks and their dependencies. Every method runs inside the ledger's transaction."""

    def __init__(self, db: Database, audit: Audit, roles: Roles) -> None:
        self._db, self._audit, self._roles = db, audit, roles
        self.on_move: Callable[[str, TaskState], None] = lambda task, state: None
        self._done: list[str] = []
        db.before_commit.append(self._release_dependents)
        db.on_rollback.append(self._done.clear)
        db.on_foreign.append(self.count_all)

    # ---- filing

    def file(self, drafts: Iterable[Draft], filing: Filing, limits: Limits) -> list[str]:
        """File a batch; the ids in order. Raises InvalidTask, InvalidDependency, LimitReached, UnknownTask.

        All of it is checked before any of it is written.
        """
        batch = [(self._id(draft, filing), draft) for draft in drafts]
        if len(batch) > BATCH:
            raise InvalidTask(f"{len(batch)} tasks at once: file at most {BATCH}")
        self._check_batch(batch, filing, limits)
        kin: dict[str, _Kin] = {}
        tasks = [self._planned(ident, draft, filing, limits, kin) for ident, draft in batch]
        for ident, draft in batch:
            self._check_needed(ident, draft.dependencies, kin)
        refuse_cycle({ident: draft.dependencies for ident, draft in batch})
        with self._db.whole():
            self._db.run_many(_INSERT, tasks)
            for task, (_, draft) in zip(tasks, batch, strict=True):
                self._link(task.id, draft.dependencies)
                self._audit.append(
                    "task_inserted", filing.actor, task=task.id, attempt=filing.attempt, owner=task.agent_owner,
                    title=task.title, priority=task.priority, parent=task.parent_task_id,
                    caused_by_task_id=task.caused_by_task_id,
                )  # fmt: skip
        return [task.id for task in tasks]

    def _id(self, draft: Draft, filing: Filing) -> str:
        if draft.task_id is None:
            return self._db.new_id()
        if filing.attempt:
            raise InvalidTask("task_id: the id of a follow-up task is made by the supervisor")
        if not may_be_id(draft.task_id):
            raise InvalidTask(f"task_id: {draft.task_id!r} is not an id: letters, digits, - and _, at most 64")
        return draft.task_id

    def _check_batch(self, batch: Sequence[tuple[str, Draft]], filing: Filing, limits: Limits) -> None:
        seen: set[str] = set()
        roles = self._declared()
        for ident, draft in batch:
            self._check(draft, limits, roles)
            if ident in seen or self._kin(ident):
                raise InvalidTask(f"task_id: {ident} exists already")
            seen.add(ident)
        if filing.attempt:
            filed = self._db.value("SELECT count(*) FROM tasks WHERE filed_by_attempt = ?", filing.attempt)
            check_filed(filed + len(batch) - 1, limits)
            for number, (_, draft) in enumerate(batch):
                before = sum(other.agent_owner == draft.agent_owner for _, other in batch[:number])
                self._check_crowding(draft, before, limits)

    def _check_crowding(self, draft: Draft, before: int, limits: Limits) -> None:
        """What only agents' tasks have to pass: the length of the role's queue, and saying something new."""
        role = draft.agent_owner
        pending = self._db.value("SELECT count(*) FROM tasks WHERE status = 'pending' AND agent_owner = ?", role)
        check_pending(role, pending + before, limits)
        olds = self._db.rows(
            "SELECT id, title, description FROM tasks WHERE agent_owner = ? AND status IN ('pending', 'in_progress')"
            " ORDER BY seq DESC LIMIT 200",
            role,
        )
        check_duplicate((draft.title, draft.description), ((ident, (title, text)) for ident, title, text in olds))

    def _check(self, draft: Draft, limits: Limits, roles: Sequence[str]) -> None:
        for name in ("agent_owner", "title", "description"):
            check_text(name, getattr(draft, name))
        for name in ("sprint_id", "parent_task_id", "caused_by_task_id"):
            if getattr(draft, name) is not None:
                check_text(name, getattr(draft, name))
        if isinstance(draft.priority, bool) or not isinstance(draft.priority, int) or not 0 <= draft.priority <= 5:
            raise InvalidTask(f"priority: {draft.priority!r} is not a whole number from 0 (urgent) to 5 (someday)")
        check_title(draft.title, limits)
        check_payload(payload_json(draft.payload), limits)
        check_ids(draft.dependencies)
        check_role(draft.agent_owner, roles)

    def _declared(self) -> list[str]:
        """The roles that producer.yaml names; none in a ledger that has never seen a configuration."""
        return [role for role in self._roles.all() if role != PROJECT]

    def _planned(self, ident: str, draft: Draft, filing: Filing, limits: Limits, kin: dict[str, _Kin]) -> _Task:
        """The row that a draft becomes; ``kin``: of the drafts before it in its batch."""
        parent = filing.parent or draft.parent_task_id
        root, depth = ident, 0
        if parent:
            above = kin.get(parent) or self._kin(parent)
            if above is None:
                raise UnknownTask(parent)
            root, depth = above.root, above.depth + 1
            if filing.attempt:
                check_depth(depth, limits)
        cause = parent if filing.attempt else draft.caused_by_task_id or parent
        kin[ident] = _Kin(draft.agent_owner, root, depth)
        if draft.agent_owner == WAKEUP:
            related = (kin.get(task) or self._kin(task) for task in (cause, root) if task and task != ident)
            check_wakeup([found.role for found in related if found])
        return _Task(
            ident, draft.agent_owner, draft.title.strip(), draft.description, parent, cause, root, depth,
            filing.attempt, json.dumps(list(draft.dependencies)) if draft.dependencies else "[]",
            payload_json(draft.payload), draft.priority, draft.sprint_id, self._db.stamp, int(draft.requires_approval),
        )  # fmt: skip

    def _kin(self, task: str) -> _Kin | None:
        """Where a task of the ledger belongs; None where there is none. Nothing defers these columns."""
        row = self._db.peek("SELECT agent_owner, root_task_id, depth FROM tasks WHERE id = ?", task)
        return _Kin(*row) if row else None

    # ---- dependencies

    def _check_needed(self, task: str, dependencies: Sequence[str], batch: Container[str] = ()) -> None:
        if task in dependencies:
            raise InvalidDependency(task, [task], f"dependencies: {task} cannot depend on itself")
        missing = [item for item in dependencies if not (item in batch or self._kin(item))]
        if missing:
            raise InvalidDependency(task, missing, f"dependencies: no such task: {', '.join(missing)}")

    def _link(self, task: str, dependencies: Sequence[str]) -> None:
        if not dependencies:
            return
        self._db.catch_up()  # who is done by now has let go of its dependents before there is one more, which it counts
        for item in dict.fromkeys(dependencies):
            self._db.run("INSERT INTO dependency (task, depends_on) VALUES (?, ?)", task, item)
        self._count_open(task)

    def _count_open(self, task: str) -> None:
        self._db.run(f"UPDATE tasks SET open_dependencies = {_OPEN} WHERE id = ?", task)

    def count_all(self) -> None:
        """Somebody may have changed states or edges with another program: count anew what each task waits for."""
        for (task,) in self._db.rows(f"SELECT id FROM tasks WHERE status = 'pending' AND open_dependencies != {_OPEN}"):
            self._count_open(task)

    def _ancestry(self, task: str) -> dict[str, list[str]]:
        """What ``task`` waits for, and what that waits for, and so on."""
        edges: dict[str, list[str]] = {}
        todo = [task]
        while todo:
            here = todo.pop()
            if here not in edges:
                rows = self._db.rows("SELECT depends_on FROM dependency WHERE task = ?", here)
                edges[here] = [needed for (needed,) in rows]
                todo += edges[here]
        return edges

    def _release_dependents(self) -> None:
        """Tasks are done: those that waited for them wait for less."""
        if self._done:
            edges = self._db.rows(
                "SELECT task FROM json_each(?) CROSS JOIN dependency ON depends_on = value", json.dumps(self._done)
            )
            self._db.run_many("UPDATE tasks SET open_dependencies = open_dependencies - 1 WHERE id = ?", edges)
            self._done.clear()

    # ---- what happens to a task

    def state(self, task: str) -> TaskState:
        """Where a task stands. Raises UnknownTask."""
        status = self._db.value("SELECT status FROM tasks WHERE id = ?", task)
        if status is None:
            raise UnknownTask(task)
        return TaskState(status)

    def move(self, task: str, event: TaskEvent, *, state: TaskState | None = None, **columns: object) -> TaskState:
        """Apply one event of the lifecycle and set columns with it. Raises IllegalTransition, UnknownTask.

        ``state``: where the task stands, for a caller that has just read it in this transaction.
        """
        after = self.step(task, state or self.state(task), event)
        columns = {"status": after, **columns}
        if after in (TaskState.DONE, TaskState.ESCALATED, TaskState.KILLED, TaskState.FAILED):
            columns["finished_at"] = self._db.stamp
        self._db.defer("tasks", task, _update(tuple(columns)), *columns.values(), task)
        return after

    def step(self, task: str, state: TaskState, event: TaskEvent) -> TaskState:
        """Where a task stands after one event; to write it is the caller's. Raises IllegalTransition."""
        after = next_task(state, event, task)
        self.on_move(task, after)
        if after is TaskState.DONE:
            self._done.append(task)
            self._db.behind()
        return after

    def release_due(self) -> int:
        """Tasks whose waiting time is over become ready; how many."""
        return self._db.run("UPDATE tasks SET not_before = NULL WHERE not_before <= ?", self._db.now)

    def next_due(self) -> float | None:
        """When the next waiting task becomes ready, seconds since the epoch."""
        due: float | None = self._db.value("SELECT min(not_before) FROM tasks WHERE not_before IS NOT NULL")
        return due

    def requeue(self, task: str, actor: str, reason: str) -> None:
        """A human wants an ended task tried again: retries are counted anew. Raises IllegalTransition."""
        if self._db.one("SELECT 1 FROM attempts WHERE task_id = ? AND state = 'running'", task):
            raise InvalidTask(f"{task}: its last run is still ending: try again in a moment")
        self.move(
            task, TaskEvent.REQUEUED, retry_count=0, not_before=None, finished_at=None, escalation_reason=None
        )  # fmt: skip
        self._audit.append("task_requeued", actor, task=task, reason=reason)

    def kill(self, task: str, actor: str, reason: str) -> None:
        """Nobody wants the task any more."""
        self.move(task, TaskEvent.KILLED, escalation_reason=reason, not_before=None)
        self._audit.append("task_killed", actor, task=task, reason=reason)

    def route(self, task: str, role: str, actor: str) -> None:
        """Give a task that neither runs nor is done to another role; its session does not follow it."""
        self._refuse_settled(task, "route")
        check_role(role, self._declared())
        before = self._db.value("SELECT agent_owner FROM tasks WHERE id = ?", task)
        self._db.run("UPDATE tasks SET agent_owner = ?, session_id = NULL WHERE id = ?", role, task)
        self._audit.append("task_routed", actor, task=task, before=before, after=role)

    def approve(self, task: str, actor: str) -> None:
        """Let a task run that was filed as requiring approval."""
        self.state(task)
        if not self._db.run("UPDATE tasks SET requires_approval = 0 WHERE id = ? AND requires_approval = 1", task):
            raise InvalidTask(f"{task} does not wait for an approval")
        self._audit.append("task_approved", actor, task=task)

    def edit(self, task: str, changes: Mapping[str, Any], actor: str, limits: Limits) -> None:
        """Change what a task that neither runs nor is done says. Raises InvalidTask naming the field."""
        unknown = set(changes) - set(EDITABLE)
        if unknown:
            raise InvalidTask(f"{', '.join(sorted(unknown))}: only {', '.join(EDITABLE)} can be edited")
        self._refuse_settled(task, "edit")
        row = self._db.dict("SELECT * FROM tasks WHERE id = ?", task)
        assert row is not None
        merged = {
            **{name: row[name] for name in EDITABLE},
            "payload": lenient_json(row["payload"]),
            "dependencies": lenient_json(row["dependencies"]),
            **changes,
        }
        self._check(Draft(agent_owner=row["agent_owner"], **merged), limits, self._declared())
        self._db.run(
            "UPDATE tasks SET title=?, description=?, payload=?, priority=?, dependencies=?, sprint_id=? WHERE id=?",
            merged["title"].strip(), merged["description"], payload_json(merged["payload"]), merged["priority"],
            json.dumps(list(merged["dependencies"])), merged["sprint_id"], task,
        )  # fmt: skip
        if "dependencies" in changes:
            self._db.run("DELETE FROM dependency WHERE task = ?", task)
            self._db.run("UPDATE tasks SET open_dependencies = 0 WHERE id = ?", task)
            self._check_needed(task, merged["dependencies"])
            self._link(task, merged["dependencies"])
            refuse_cycle(self._ancestry(task))
        self._audit.append("task_edited", actor, task=task, fields=sorted(changes))

    def _refuse_settled(self, task: str, what: str) -> None:
        state = self.state(task)
        if state is TaskState.IN_PROGRESS:
            raise InvalidTask(f"{task} is in progress: cannot {what} it now (`producerctl task kill {task}` stops it)")
        if state is TaskState.DONE:
            raise InvalidTask(f"{task} is done: file a new task instead")


@cache
def _update(columns: tuple[str, ...]) -> str:
    return f"UPDATE tasks SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?"
