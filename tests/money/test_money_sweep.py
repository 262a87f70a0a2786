"""A hold that nobody answers for does not lock money up for ever."""

from __future__ import annotations

import time

import apsw
from driving import Project

from producer.ids import new_id, utc_date


def test_a_hold_whose_attempt_is_gone_is_given_back_at_the_start(project: Project, supervise) -> None:
    project.configure({"code": {"daily_cap_usd": 1}})
    task, attempt = project.file_task(), new_id()
    ledger = apsw.Connection(str(project.state / "ledger.db"))
    today = utc_date(time.time())
    with ledger:
        ledger.execute("INSERT INTO holds VALUES (?, ?, 'code', ?, ?, 1000000, 1000000)", (attempt, task, task, today))
        ledger.execute("INSERT INTO budget (agent_owner, date, held_micros) VALUES ('code', ?, 1000000)", (today,))
        ledger.execute("INSERT INTO reservations VALUES (?, ?, 5)", (new_id(), attempt))
    ledger.close()
    supervisor = supervise().ready()
    supervisor.until_status(task, "done")
    (row,) = project.actions("hold_swept")
    assert row["attempt"] == attempt and row["detail"]["held_micros"] == 1_000_000
    project.books_balance()
