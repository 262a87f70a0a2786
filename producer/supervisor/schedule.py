"""Files the tasks of `schedule:` when they are due (rules: producer/core/cron.py).

The mark moves in the transaction that files the task, so that a crash neither repeats a run nor loses one. While the
kill switch is armed no mark moves: what was due meanwhile comes once, when it is disarmed.
"""

from __future__ import annotations

import math

from producer import killswitch
from producer import schedule as plan
from producer.config import ProducerConfig
from producer.config.blocks import ScheduleEntry
from producer.core.cron import Due, Mark, look, next_run
from producer.errors import InvalidTask, LimitReached
from producer.ids import iso
from producer.ledger.marks import Marks
from producer.ledger.model import Draft, Filing
from producer.supervisor.kernel import Kernel

ACTOR = "schedule"


class Schedule:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._marks = kernel, Marks(kernel.store.db, plan.PREFIX)
        self._seen: ProducerConfig | None = None
        self._known: dict[str, Mark] = {}
        self._next: dict[str, float] = {}

    def tend(self) -> None:
        """File what is due."""
        config = self._kernel.config
        if config is not self._seen:
            self._take_up(config)
        if config.schedule and not killswitch.read(config.kill_switch).armed:
            for entry in config.schedule:
                self._look(entry, self._kernel.store.db.now)

    def _take_up(self, config: ProducerConfig) -> None:
        """A configuration is new: entries that left it are forgotten, those that came count from now on."""
        self._seen = config
        self._marks.keep([plan.name(entry) for entry in config.schedule])
        self._known, self._next = {}, {}
        for entry in config.schedule:
            known = plan.mark(self._marks.get(plan.name(entry)))
            self._remember(entry, known or Mark(self._kernel.store.db.now), store=known is None)

    def _look(self, entry: ScheduleEntry, now: float) -> None:
        name = plan.name(entry)
        before = self._known[name]
        if self._next[name] > now and before.since <= now:
            return  # the most common answer, without asking cronsim every second
        after, due = look(entry.cron, plan.zone(entry), before, now, waiting=self._waiting(before))
        if after == before:
            return
        if due:
            after = Mark(after.since, self._file(entry, due) or after.task)
        elif before.since < after.since:
            self._kernel.audit("schedule_skipped", actor=ACTOR, task=after.task, title=entry.title)
        self._remember(entry, after)

    def _waiting(self, mark: Mark) -> bool:
        never_began = "SELECT 1 FROM tasks WHERE id = ? AND status = 'pending' AND attempts = 0"
        return mark.task is not None and self._kernel.store.db.one(never_began, mark.task) is not None

    def _file(self, entry: ScheduleEntry, due: Due) -> str | None:
        """File a run's task; its id. None where the ledger refuses it, which a person is told."""
        kernel = self._kernel
        draft = Draft(entry.role, entry.title, entry.description or entry.title, entry.payload, entry.priority)
        try:
            task = kernel.store.queue.file([draft], Filing(ACTOR), kernel.limits)[0]
        except (InvalidTask, LimitReached) as error:
            kernel.audit("schedule_refused", actor=ACTOR, title=entry.title, error=str(error))
            kernel.notify("schedule", "a scheduled task could not be filed", f"{entry.title}: {error}")
            return None
        kernel.audit("scheduled", actor=ACTOR, task=task, cron=entry.cron, timezone=entry.timezone, due=iso(due.run))
        return task

    def _remember(self, entry: ScheduleEntry, mark: Mark, *, store: bool = True) -> None:
        name = plan.name(entry)
        self._known[name] = mark
        self._next[name] = next_run(entry.cron, plan.zone(entry), mark.since) or math.inf
        if store:
            self._marks.set(name, plan.fact(mark))
