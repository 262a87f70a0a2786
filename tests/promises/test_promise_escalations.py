"""Escalations: what the file of an escalated task says can be done, done by its own words against a live supervisor."""

from __future__ import annotations

import json
import re
import shlex
from subprocess import CompletedProcess

import pytest
from driving import Project

COMMAND = re.compile(r"^\| (?P<to>[^|]+) \| `producerctl (?P<words>[^`]+)` \|$", re.MULTILINE)
HOPELESS = {"fail": "permanent"}


def escalated(project: Project, supervisor, title: str = "Hopeless") -> tuple[str, dict[str, str]]:
    """A task that was given up, and the commands of its file by what they are for."""
    task = project.file_task(title, payload=HOPELESS, description="Do what `cannot` be done")
    supervisor.until_status(task, "escalated")
    path = project.state / "escalations" / f"{task}.md"
    supervisor.until(path.exists, what=str(path))
    text = path.read_text()
    assert title in text and "no retry would help" in text and "Do what `cannot` be done" in text
    assert json.dumps(HOPELESS, indent=2) in text
    return task, {match["to"]: match["words"] for match in COMMAND.finditer(text)}


def do(project: Project, command: str, **words: str) -> CompletedProcess[str]:
    """Run a command of the file as it stands there, but for the words a person fills in."""
    for placeholder, word in words.items():
        assert placeholder in command
        command = command.replace(placeholder, shlex.quote(word))
    done = project.producerctl(*shlex.split(command))
    assert done.returncode == 0, f"{command}: {done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def supervisor(project: Project, supervise):
    project.configure({"code": None, "qa": None}, failure_burst={"count": 100})
    return supervise().ready()


def test_the_file_names_a_command_for_everything_one_may_want(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    assert {words.split()[0] if words.split()[0] != "task" else words.split()[1] for words in commands.values()} == {
        "show", "logs", "edit", "requeue", "route", "kill",
    }  # fmt: skip
    assert all(task in words for words in commands.values())


def test_see_everything_about_it_and_read_what_the_agent_did(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    shown = do(project, commands["see everything about it"]).stdout
    assert task in shown and "Hopeless" in shown and "told to fail" in shown
    told = do(project, commands["read what the agent did"])
    assert "told to fail" in told.stdout or "escalat" in told.stdout


def test_change_what_it_says_and_try_it_again(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    do(project, commands["change what it says"], **{"'...'": "Now it's possible"})
    do(project, f"task edit {task} --payload {shlex.quote(json.dumps({'note': 'now'}))} --priority 1")
    do(project, commands["try it again"])
    after = supervisor.until_status(task, "done")
    assert (after["description"], after["priority"], after["retry_count"]) == ("Now it's possible", 1, 0)
    assert [attempt["state"] for attempt in after["attempts"]] == ["failed", "succeeded"]
    for action in ("task_edited", "task_requeued"):
        assert project.actions(action)[-1]["actor"].startswith("operator:"), action


def test_a_task_tried_again_unchanged_is_escalated_again(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    do(project, commands["try it again"])
    supervisor.until(lambda: len(project.actions("escalation")) == 2)
    assert project.task(task)["status"] == "escalated"


def test_give_it_to_another_role(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    do(project, f"task edit {task} --payload '{{}}'")
    do(project, commands["give it to another role"], ROLE="qa")
    after = supervisor.until_status(task, "done")
    assert after["agent_owner"] == "qa" and after["attempts"][-1]["role"] == "qa"
    refused = project.producerctl(*shlex.split(commands["give it to another role"].replace("ROLE", "nobody")))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1


def test_drop_it(project: Project, supervisor) -> None:
    task, commands = escalated(project, supervisor)
    waiting = project.file_task("waits for it", dependencies=[task])
    do(project, commands["drop it"])
    assert project.task(task)["status"] == "killed"
    shown = do(project, f"task show {waiting}").stdout
    assert task in shown and "killed" in shown, "who waits for it is told why"
    assert project.actions("task_killed")[-1]["task"] == task


def test_a_task_that_needs_approval_waits_for_it(project: Project, supervisor) -> None:
    words = ("task", "add", "--agent", "code", "--title", "Deploy", "--description", "d", "--requires-approval")
    task = project.producerctl(*words).stdout.strip()
    behind = project.file_task("behind it")
    supervisor.until_status(behind, "done")
    assert project.task(task)["attempts"] == []
    do(project, f"task approve {task}")
    supervisor.until_status(task, "done")
    assert project.actions("task_approved")[-1]["task"] == task


def test_tasks_are_imported_all_or_none_and_not_twice(project: Project, supervisor) -> None:
    seed = project.root / "seed.json"
    tasks = [{"id": f"SEED-{n}", "agent_owner": "code", "title": f"t{n}", "description": "d"} for n in range(3)]
    tasks[2]["dependencies"] = ["SEED-0", "SEED-1"]
    seed.write_text(json.dumps([*tasks, {**tasks[0], "id": "SEED-9", "agent_owner": "nobody"}]))
    refused = project.producerctl("task", "import", str(seed))
    assert refused.returncode == 2 and "task 4" in refused.stderr and project.counts()["pending"] == 0
    assert project.rows("SELECT count(*) FROM tasks") == [(0,)]
    seed.write_text(json.dumps(tasks))
    assert do(project, f"task import {seed}").stdout.strip() == "3 tasks filed"
    supervisor.until_status("SEED-2", "done")
    assert do(project, f"task import {seed}").stdout.strip() == "0 tasks filed"
