from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from cli_rig import Project, StandIn

from producer import killswitch
from producer.reaper import PROJECT_MARKER


@pytest.fixture
def marked(project: Project) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Start a process that bears the mark of a project."""
    started: list[subprocess.Popen[bytes]] = []

    def start(key: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(["sleep", "300"], env={**os.environ, PROJECT_MARKER: key}, start_new_session=True)
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_kill_and_resume_work_on_the_file_and_leave_rows(project: Project) -> None:
    project.add()
    assert project.out("kill", "deploy in progress") == f"kill switch armed at {project.switch}"
    state = killswitch.read(project.switch)
    assert state.armed and state.reason == "deploy in progress" and not state.now
    assert "deploy in progress" in project.switch.with_suffix(".reason").read_text()
    assert "ARMED" in project.out("status") and "deploy in progress" in project.out("status")
    assert "testbed" in project.out("resume", "deployed")
    assert not killswitch.read(project.switch).armed
    with project.reader() as reader:
        rows = {row["action"]: row for row in reader.audit_tail(5)}
    for action, reason in (("kill_switch_armed", "deploy in progress"), ("kill_switch_disarmed", "deployed")):
        assert rows[action]["actor"].startswith("operator:") and rows[action]["detail"]["reason"] == reason


def test_kill_now_ends_what_bears_the_projects_mark_and_nothing_else(
    project: Project, marked: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    project.add()
    ours, theirs = marked(project.places.key), marked("another-key")
    found = json.loads(project.out("kill", "--now", "--json"))
    assert found["armed"] is True and found["survivors"] == 0 and found["stopped"] == 1
    assert isinstance(found["seconds"], float)
    assert ours.wait(timeout=20) != 0
    assert theirs.poll() is None, "a process of another project was ended"
    assert killswitch.read(project.switch).now
    with project.reader() as reader:
        assert reader.audit_tail(1)[0]["detail"]["survivors"] == 0


def test_the_brake_needs_no_ledger(project: Project) -> None:
    done = project.run("kill", "no ledger yet")
    assert killswitch.read(project.switch).armed
    assert "no audit row" in done.stderr


@pytest.mark.parametrize("broken", ["budget: [", "project_name: x\nkill_switch: agent-state/kill_switch\nbudget: 7\n"])
def test_the_brake_works_with_a_broken_config(project: Project, broken: str) -> None:
    project.config.write_text(broken)
    done = project.run("kill", "stop!")
    assert killswitch.read(project.switch).armed and "producer.yaml" in done.stderr


def test_the_brake_arms_the_switch_that_a_broken_config_names(project: Project) -> None:
    project.config.write_text("kill_switch: 'state/stop'  # here\nbudget: [\n")
    project.run("kill", "--now", code=1)
    assert killswitch.read(project.path / "state" / "stop").now


def test_without_any_config_there_is_nothing_to_arm(project: Project) -> None:
    project.config.unlink()
    project.refused("kill")
    assert not project.switch.exists()


def test_a_switch_that_cannot_be_written_is_one_line(project: Project) -> None:
    project.switch.mkdir(parents=True)
    assert "directory" in project.refused("kill", code=1)


def test_resume_shows_what_it_ends(project: Project) -> None:
    project.add()
    assert "was not armed" in project.out("resume")
    killswitch.arm(project.switch, "5 failures of code")
    assert "5 failures of code" in project.out("resume")
    assert json.loads(project.out("resume", "--json")) == {"armed": False, "was_armed": False, "project": "testbed"}


@pytest.mark.parametrize("silent", [True, False])
def test_a_supervisor_that_does_not_obey_is_done_without(
    project: Project, stand_in: Callable[[], StandIn], marked: Callable[[str], subprocess.Popen[bytes]], silent: bool
) -> None:
    other, ours = stand_in(), marked(project.places.key)
    other.silent = silent  # else it answers that it knows no such operation
    done = project.run("kill", "it hangs", "--now")
    assert "without it" in done.stderr and "1 stopped, 0 survivors" in done.stdout
    assert ours.wait(timeout=20) != 0 and killswitch.read(project.switch).now


def test_a_supervisor_is_asked_to_stop(project: Project, stand_in: Callable[[], StandIn]) -> None:
    other = stand_in()
    other.answers["kill"] = {"armed": True, "stopped": 2, "survivors": 0, "seconds": 0.5}
    assert "2 stopped, 0 survivors, 0.50 s" in project.out("kill", "why", "--now")
    asked = other.asked[-1].arguments
    assert asked["reason"] == "why" and asked["now"] is True and asked["actor"].startswith("operator:")
    other.answers["kill"]["survivors"] = 1
    project.run("kill", "--now", code=1)
    other.answers["resume"] = {"armed": False}
    project.run("resume", "go on")
    assert other.asked[-1].arguments["reason"] == "go on"
