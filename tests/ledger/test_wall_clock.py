"""A wall clock that is set back makes no wait longer."""

from __future__ import annotations

import time
from contextlib import closing
from types import SimpleNamespace
from typing import Any

from driving import Project
from ledger_rig import DAY, Desk

from producer.ledger.store import Store
from producer.supervisor.wallclock import WallClock


def watched(desk: Desk, **more: float) -> tuple[Any, WallClock]:
    kernel: Any = SimpleNamespace(store=desk, clock=desk.time, monotonic=lambda: kernel.seconds, seconds=5.0, **more)
    return kernel, WallClock(kernel)


def look(desk: Desk, watch: WallClock) -> None:
    with desk.transaction():
        watch.look()


def failed_task(desk: Desk) -> str:
    task = desk.add()
    desk.settle(desk.claim(task).attempt, "failed")
    return task


def test_waits_are_as_long_as_before(desk: Desk) -> None:
    with desk.transaction():
        desk.roles.declare({"code": 1, "qa": 1})
    watch = watched(desk)[1]
    desk.time.now += DAY
    look(desk, watch)
    failed_task(desk)
    with desk.transaction():
        desk.outbox.failed(desk.outbox.put("push", {}), "no answer", desk.time.now + 60)
        desk.roles.set_state("code", "throttled", until=desk.time.now + 300)
        desk.roles.set_state("qa", "capped", until=desk.time.now + 300)
    desk.time.now -= DAY
    assert desk.queue.next_due() == desk.time.now + DAY + 15
    look(desk, watch)
    now = desk.time.now
    assert desk.queue.next_due() == now + 15
    assert desk.db.value("SELECT not_before FROM outbox") == now + 60
    assert [desk.roles.all()[role].until for role in ("code", "qa")] == [now + 300, now + DAY + 300]
    look(desk, watch)
    assert desk.actions().count("clock_set_back") == 1


def test_one_that_was_set_back_while_nobody_looked_is_seen_by_the_next_writer(desk: Desk) -> None:
    desk.time.now += DAY
    failed_task(desk)
    desk.time.now -= DAY - 10
    for _ in range(2):
        Desk(desk.db.path.parent, desk.time).close()
    assert desk.queue.next_due() == desk.time.now + 15
    assert desk.actions().count("clock_set_back") == 1


def test_a_script_that_writes_first_does_not_hide_it(project: Project) -> None:
    ledger = project.state / "ledger.db"
    project.file_task()
    tomorrow = time.time() + DAY
    with closing(Store(ledger, head_file=None, clock=lambda: tomorrow)) as store, store.transaction():
        store.audit.append("told", "producer")
        store.db.run("UPDATE tasks SET not_before = ?", tomorrow + 15)
    project.file_task("filed by a script, with no supervisor")
    assert project.rows("SELECT max(not_before) FROM tasks")[0][0] < time.time() + 60
    assert len(project.actions("clock_set_back")) == 1


def test_a_clock_that_goes_forward_or_is_only_kept_right_changes_nothing(desk: Desk) -> None:
    failed_task(desk)
    due = desk.queue.next_due()
    kernel, watch = watched(desk)
    for wall, monotonic in ((DAY, 0.0), (100.0, 100.0), (-20.0, 0.0), (0.0, 20.0)):
        desk.time.now += wall
        kernel.seconds += monotonic
        look(desk, watch)
    assert desk.queue.next_due() == due and "clock_set_back" not in desk.actions()
