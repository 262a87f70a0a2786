"""The attempts that run, and what they hold, in memory: read from the ledger once, then kept by who changes them there.

There are as many as the workers can take, and every result, booking and cancellation asks for one. As with the figures,
only the one writer uses it, what was booked or held is written before the commit, and after a rollback all is read
again.
"""

from __future__ import annotations

from producer.core.lifecycle import TaskState
from producer.ledger.database import Database
from producer.ledger.model import Running


class InFlight:
    """Every attempt that is not settled, by its id and by its task."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._by_attempt: dict[str, Running] | None = None
        self._by_task: dict[str, Running] = {}
        self._booked: dict[str, Running] = {}
        self._changed: dict[str, Running] = {}
        db.before_commit.append(self._write)
        db.on_rollback.append(self._forget)

    def all(self) -> dict[str, Running]:
        """Every attempt that runs. Change it by ``add`` and ``remove``."""
        if self._by_attempt is None:
            rows = self._db.rows(
                "SELECT a.id, task_id, seq, role, root_task_id, worker, number, retry_count, cancel, status,"
                " actual_micros, a.cost_micros, t.cost_micros, EXISTS (SELECT 1 FROM meter WHERE attempt = a.id),"
                " substr(claimed_at, 1, 10), held_base, held_micros"
                " FROM attempts AS a JOIN tasks AS t ON t.id = task_id WHERE state = 'running'"
            )
            runs = [Running(*row) for row in rows]
            for run in runs:
                run.task_status = TaskState(run.task_status)
            self._by_attempt = {run.attempt: run for run in runs}
            self._by_task = {run.task: run for run in runs}
            for request, attempt, amount in self._db.rows("SELECT request, attempt, amount FROM reservations"):
                if attempt in self._by_attempt:
                    self._by_attempt[attempt].requests[request] = amount
        return self._by_attempt

    def of_task(self, task: str) -> Running | None:
        """The attempt that a task is in, if any."""
        self.all()
        return self._by_task.get(task)

    def add(self, run: Running) -> None:
        """An attempt begins."""
        self.all()[run.attempt] = run
        self._by_task[run.task] = run

    def remove(self, run: Running) -> None:
        """An attempt is settled."""
        self.all().pop(run.attempt, None)
        self._by_task.pop(run.task, None)
        self._booked.pop(run.attempt, None)
        self._changed.pop(run.attempt, None)

    def book(self, run: Running, amount: int) -> int:
        """A cost is booked on an attempt, and so on its task, out of its base; how much more it holds, mostly less."""
        run.booked = True
        run.cost += amount
        run.task_cost += amount
        run.base = max(0, run.base - amount)
        self._booked[run.attempt] = run
        return self.resize(run)

    def resize(self, run: Running) -> int:
        """An attempt's base or its requests have changed: have it hold what they need now; how much more that is."""
        before, run.held = run.held, max(run.base, run.reserved)
        if not self._changed:
            self._db.behind()
        self._changed[run.attempt] = run
        return run.held - before

    def booked_late(self, task: str, amount: int) -> None:
        """A cost of an attempt that has ended is booked on its task, which may be in another attempt by now."""
        run = self.of_task(task)
        if run:
            run.task_cost += amount

    def task_moved(self, task: str, state: TaskState) -> None:
        """A task is in another state than before, whether its attempt had a part in it or not."""
        run = self.of_task(task)
        if run:
            run.task_status = state

    def _write(self) -> None:
        self._db.run_many(
            "UPDATE attempts SET cost_micros = ?, held_base = ?, held_micros = ? WHERE id = ?",
            [(run.cost, run.base, run.held, run.attempt) for run in self._changed.values()],
        )
        self._db.run_many(
            "UPDATE tasks SET cost_micros = ? WHERE id = ?", [(r.task_cost, r.task) for r in self._booked.values()]
        )
        self._booked.clear()
        self._changed.clear()

    def _forget(self) -> None:
        self._booked.clear()
        self._changed.clear()
        self._by_attempt = None
        self._by_task = {}
