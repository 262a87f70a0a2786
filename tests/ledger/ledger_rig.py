"""What the ledger's tests share: a clock that stands still, a store with short verbs, second processes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import producer
from producer.core.guards import Limits
from producer.core.lifecycle import TaskState
from producer.core.money import MicroUSD
from producer.core.retry import RetryPolicy, settle
from producer.ledger.attempts import Ending
from producer.ledger.model import Claim, Draft, Filing
from producer.ledger.store import Store

NOON = 1_790_000_000.0
DAY = 86_400.0
LIMITS = Limits()
ROOT = str(Path(producer.__file__).parents[1])
SCRIPT = Path(__file__).with_name("second_process.py")


class Clock:
    """The time of a test; it moves when the test says so."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Desk(Store):
    """A store with the few verbs that nearly every test needs, each a transaction of its own."""

    def __init__(self, directory: Path, clock: Clock | None = None, *, head: bool = True) -> None:
        self.time = clock or Clock()
        super().__init__(directory / "ledger.db", head_file=directory / "audit.head" if head else None, clock=self.time)

    def add(self, title: str = "a title", role: str = "code", **more: Any) -> str:
        return self.add_all([Draft(role, title, more.pop("description", f"do {title}"), **more)])[0]

    def add_all(self, drafts: list[Draft], filing: Filing | None = None, limits: Limits = LIMITS) -> list[str]:
        with self.transaction():
            return self.queue.file(drafts, filing or Filing("operator"), limits)

    def claim(self, task: str, hold: int = 0, *, resume: bool = True, worker: str = "w") -> Claim:
        with self.transaction():
            return self.attempts.claim(self.attempts.task(task), worker, "a-model", MicroUSD(hold), resume=resume)

    def settle(self, attempt: str, outcome: str, ending: Ending | None = None) -> TaskState | None:
        """End a running attempt as the supervisor does."""
        with self.transaction():
            return self.end(attempt, outcome, ending)

    def end(self, attempt: str, outcome: str, ending: Ending | None = None) -> TaskState | None:
        """``settle`` inside a transaction."""
        run = self.attempts.running(attempt)
        assert run is not None, "the attempt does not run"
        settlement = settle(
            outcome,
            retry_count=run.retry_count,
            policy=RetryPolicy(max=3),
            now=self.db.now,
            jitter=0.5,
            error="why",
        )
        return self.attempts.settle(run, settlement, ending or Ending(outcome))

    def column(self, task: str, name: str) -> Any:
        return self.db.value(f"SELECT {name} FROM tasks WHERE id = ?", task)

    def actions(self, task: str | None = None) -> list[str]:
        rows = self.db.rows("SELECT action FROM audit WHERE ?1 IS NULL OR task_id = ?1 ORDER BY seq", task)
        return [row[0] for row in rows]


@contextmanager
def process(*words: object, ready: bool = True):
    """A second process running one of the verbs of second_process.py; killed, if need be, at the end."""
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    env = {**os.environ, "PYTHONPATH": ROOT}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, env=env)
    try:
        if ready:
            assert child.stdout.readline() == "ready\n", "the second process did not get ready"
        yield child
    finally:
        if child.poll() is None:
            child.kill()
        child.wait(10)
        child.stdout.close()
        child.stdin.close()
