"""Tasks that somebody edits with sqlite3, as the README of 0.3.x tells people to: they are taken as they stand then."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

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
