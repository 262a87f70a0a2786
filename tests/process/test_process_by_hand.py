"""Tasks that somebody edits with sqlite3, as the README of 0.3.x tells people to: they are taken as they stand then."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from driving import Project

UNREADABLE = {
    "no JSON": "not json",
    "no object": "[1]",
    "nothing": "",
    "not a number": '{"a": NaN}',
    "a lone surrogate": '{"a": "\\ud800"}',
    "bottomless": '{"a":' * 100_000,
}


def by_hand(project: Project, sql: str, *values: object) -> int:
    """What a person does with the sqlite3 shell, beside a supervisor or without one; how many rows changed."""
    with closing(sqlite3.connect(project.state / "ledger.db", timeout=10)) as connection, connection:
        return connection.execute(sql, values).rowcount


def test_an_escalated_task_is_set_back_routed_and_killed_by_hand_beside_a_supervisor(
    project: Project, supervise
) -> None:
    project.configure({"code": None, "qa": None})
    supervisor = supervise().ready()
    tasks = [project.file_task(title, payload={"fail": "permanent"}) for title in ("again", "elsewhere", "dropped")]
    for task in tasks:
        supervisor.until_status(task, "escalated")
    again, elsewhere, dropped = tasks
    assert by_hand(project, "UPDATE tasks SET payload = '{}', status = 'pending' WHERE id = ?", again) == 1
    edit = "UPDATE tasks SET payload = '{}', agent_owner = 'qa', status = 'pending' WHERE id = ?"
    assert by_hand(project, edit, elsewhere) == 1
    assert by_hand(project, "UPDATE tasks SET status = 'killed' WHERE id = ?", dropped) == 1
    done = [supervisor.until_status(task, "done") for task in (again, elsewhere)]
    assert [(one["agent_owner"], len(one["attempts"])) for one in done] == [("code", 2), ("qa", 2)]
    assert supervisor.stop() == 0
    assert project.task(dropped)["status"] == "killed" and len(project.task(dropped)["attempts"]) == 1
    project.books_balance()


@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
def test_a_payload_that_cannot_be_read_is_a_humans_and_ends_nothing_else(
    project: Project, supervise, payload: str
) -> None:
    broken, other = project.file_task("broken", priority=0), project.file_task("other")
    assert by_hand(project, "UPDATE tasks SET payload = ? WHERE id = ?", payload, broken) == 1
    supervisor = supervise().ready()
    supervisor.until_status(other, "done")
    escalated = supervisor.until_status(broken, "escalated")
    assert escalated["escalation_reason"].startswith("its payload is no JSON object") and not escalated["attempts"]
    supervisor.until(lambda: (project.state / "escalations" / f"{broken}.md").exists(), what="its file")
    for words in (("task", "list", "--status", "escalated"), ("task", "show", broken), ("status",), ("report",)):
        assert project.producerctl(*words).returncode == 0
    shown = json.loads(project.producerctl("task", "show", broken, "--json").stdout)
    assert shown["payload"] == ([1] if payload == "[1]" else payload)
    assert project.producerctl("task", "requeue", broken).returncode == 0
    supervisor.until_status(broken, "escalated")
    assert project.producerctl("task", "edit", broken, "--payload", "{}").returncode == 0
    assert project.producerctl("task", "requeue", broken).returncode == 0
    supervisor.until_status(broken, "done")
    assert supervisor.stop() == 0
    project.books_balance()


def test_dependencies_that_cannot_be_read_hold_nothing_up(project: Project, supervise) -> None:
    first = project.file_task("first")
    second = project.file_task("second", dependencies=[first])
    assert by_hand(project, "UPDATE tasks SET dependencies = 'none', output_refs = '{' WHERE id = ?", second) == 1
    refused = project.producerctl("task", "edit", second, "--title", "other")
    assert refused.returncode == 2 and "dependencies: must be a list of task ids" in refused.stderr
    assert project.producerctl("task", "list").returncode == 0
    assert supervise("--once").exits() == 0
    shown = project.task(second)
    assert (shown["status"], shown["dependencies"]) == ("done", "none")


def test_a_task_whose_id_is_no_word_is_a_humans(project: Project, supervise) -> None:
    project.file_task("other")
    columns = "id, agent_owner, title, description, root_task_id, created_at"
    values = "'../../evil', 'code', 't', 'd', '../../evil', '2026-05-06T07:08:09.123Z'"
    assert by_hand(project, f"INSERT INTO tasks ({columns}) VALUES ({values})") == 1
    assert supervise("--once").exits() == 1
    assert dict(project.rows("SELECT title, status FROM tasks")) == {"other": "done", "t": "escalated"}
    assert not (project.root.parent / "evil").exists()


def test_what_waits_is_counted_anew_where_a_state_was_set_by_hand(project: Project, supervise) -> None:
    hold = {"sleep_seconds": 60}
    project.configure({"code": None, "qa": None})
    needed = [project.file_task(f"needed {n}", role="qa", payload=hold, priority=n + 1) for n in range(3)]
    waiting = [project.file_task(f"waiting {n}", dependencies=[needed[n]]) for n in range(3)]
    assert by_hand(project, "UPDATE tasks SET status = 'done' WHERE id = ?", needed[0]) == 1
    supervisor = supervise().ready()
    supervisor.until_status(waiting[0], "done")  # set before the start
    assert not project.actions("foreign_write")
    assert by_hand(project, "UPDATE tasks SET status = 'done' WHERE id = ?", needed[2]) == 1
    supervisor.until_status(waiting[2], "done")  # beside the supervisor
    supervisor.until_status(needed[1], "in_progress")
    assert project.task(waiting[1])["status"] == "pending" and len(project.actions("foreign_write")) == 1
    assert by_hand(project, "UPDATE tasks SET title = 'x' WHERE id = ?", waiting[1]) == 1
    supervisor.until(lambda: project.task(waiting[1])["title"] == "x")
    supervisor.until_status(project.file_task("last"), "done")
    assert len(project.actions("foreign_write")) == 1, "one a minute"
    assert supervisor.stop() == 0
    report = Path(project.producerctl("report").stdout.strip().splitlines()[-1])
    assert "another program wrote the ledger" in (project.root / report).read_text()


def test_what_runs_and_is_set_back_by_hand_begins_again_when_it_has_ended(project: Project, supervise) -> None:
    """Two runs of a task at the same time would be two results."""
    project.configure({"code": {"workers": 2}})
    task = project.file_task("long", payload={"sleep_seconds": 1.5})
    supervisor = supervise().ready()
    supervisor.until_status(task, "in_progress")
    assert by_hand(project, "UPDATE tasks SET status = 'pending' WHERE id = ?", task) == 1
    supervisor.until_status(project.file_task("short"), "done")
    supervisor.until_status(task, "done")
    assert supervisor.stop() == 0
    first, second = project.task(task)["attempts"]
    assert first["finished_at"] <= second["claimed_at"]
    project.books_balance()


def test_figures_that_were_changed_by_hand_are_the_figures(project: Project, supervise) -> None:
    supervisor = supervise().ready()
    supervisor.until_status(project.file_task("one", payload={"cost_usd": "0.5"}), "done")
    assert by_hand(project, "UPDATE budget SET spent_micros = 0") > 0
    supervisor.until_status(project.file_task("two", payload={"cost_usd": "0.25"}), "done")
    assert project.rows("SELECT spent_micros, held_micros FROM budget WHERE agent_owner = 'code'") == [(250_000, 0)]
    assert supervisor.stop() == 0


def test_rows_that_are_deleted_by_hand_are_missed_by_nobody(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    long, waiting = project.file_task("long", payload={"sleep_seconds": 1}), project.file_task("waiting", priority=5)
    supervisor = supervise().ready()
    supervisor.until_status(long, "in_progress")
    supervisor.until_status(waiting, "done")
    assert by_hand(project, "DELETE FROM tasks") == 2
    supervisor.until_action("stale_result")
    supervisor.until_status(project.file_task("after"), "done")
    assert supervisor.stop() == 0
    again = supervise().ready()
    again.until_status(project.file_task("again"), "done")
    assert again.stop() == 0
