"""Scheduled tasks under a living supervisor: once for what was missed, not while the brake is on, never twice."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from driving import Project, Supervisor

ENTRY: dict[str, Any] = {"cron": "0 7 * * *", "role": "code", "title": "look around", "payload": {"seen": 1}}
DAY = 86_400


def configure(project: Project, *entries: dict[str, Any]) -> None:
    project.configure({"code": None}, schedule=list(entries or (ENTRY,)))


def filed(project: Project) -> list[tuple[Any, ...]]:
    return project.rows("SELECT title, agent_owner, priority, payload FROM tasks ORDER BY seq")


def run_once(project: Project, supervise) -> None:
    supervisor: Supervisor = supervise("--once")
    assert supervisor.exits() == 0, supervisor.log()


def miss_three_days(project: Project) -> None:
    """Have the ledger remember what it would had there been no supervisor for three days."""
    import apsw

    connection = apsw.Connection(str(project.state / "ledger.db"))
    [(key, value)] = connection.execute("SELECT key, value FROM meta WHERE key LIKE 'schedule:%'").fetchall()
    fact = {**json.loads(value), "since": time.time() - 3 * DAY}
    connection.execute("UPDATE meta SET value = ? WHERE key = ?", (json.dumps(fact), key))
    connection.close()


def test_what_was_missed_comes_once_with_its_payload_and_an_audit_row(project: Project, supervise) -> None:
    configure(project)
    run_once(project, supervise)
    assert filed(project) == [], "an entry counts from when it was first seen"
    miss_three_days(project)
    run_once(project, supervise)
    run_once(project, supervise)
    assert filed(project) == [("look around", "code", 3, '{"seen":1}')]
    [row] = project.actions("scheduled")
    assert row["detail"]["cron"] == "0 7 * * *" and row["actor"] == "schedule"
    assert project.counts()["done"] == 1


def test_an_armed_switch_holds_it_back_and_resume_lets_it_come_once(project: Project, supervise) -> None:
    configure(project)
    run_once(project, supervise)
    miss_three_days(project)
    (project.state / "kill_switch").touch()
    supervisor = supervise().ready(0)
    supervisor.until_action("kill_switch_observed")
    marker = project.file_task("filed while armed")
    assert [row[0] for row in filed(project)] == ["filed while armed"]
    [shown] = supervisor.status()["schedule"]
    assert shown["title"] == "look around" and shown["last_task"] is None
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(marker, "done")
    supervisor.until_count("done", 2)
    assert len(filed(project)) == 2


def test_a_supervisor_that_is_killed_at_once_files_it_once(project: Project, supervise) -> None:
    configure(project)
    run_once(project, supervise)
    miss_three_days(project)
    for _ in range(4):
        supervisor = supervise()
        supervisor.until(lambda: project.actions("scheduled"), what="the scheduled task")
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.process.wait()
    supervise().until_count("done", 1)
    assert len(filed(project)) == 1


def test_reload_forgets_an_entry_that_went_and_begins_a_new_one_now(project: Project, supervise) -> None:
    configure(project)
    run_once(project, supervise)
    miss_three_days(project)
    configure(project, {**ENTRY, "title": "another"})
    run_once(project, supervise)
    configure(project)
    run_once(project, supervise)
    assert filed(project) == []


def test_the_command_shows_what_comes_next_in_its_own_zone(project: Project) -> None:
    configure(project, {**ENTRY, "timezone": "Asia/Tokyo"}, {**ENTRY, "cron": "*/5 * * * *", "title": "often"})
    with project.client():
        pass
    shown = project.producerctl("schedule")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert "often" in lines[1] and "Asia/Tokyo" in lines[2] and "07:00" in lines[2], shown.stdout
    rows = json.loads(project.producerctl("schedule", "--json").stdout)
    assert [row["title"] for row in rows] == ["often", "look around"]
    assert rows[1]["next"].endswith("T22:00:00.000Z")
    assert "scheduled    " in project.producerctl("status").stdout
