"""Claude processes that stand by, in a whole project: who gets them, and that none is left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driving import Project, Supervisor, carriers, until
from rehearsing import LONG, equal_bills, rehearse, requests

from producer.reaper import ATTEMPT_MARKER

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PLAY = {"code": {"*": [{"text": "Done."}]}}


def standing(project: Project) -> dict[str, int]:
    """The attempt and pid of every connected or starting claude process of the project."""
    found = {}
    for pid in carriers(project.places.key):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if Path(process.exe()).name == "claude":
                found[process.environ()[ATTEMPT_MARKER]] = pid
    return found


def one(supervisor: Supervisor, but: set[str] = frozenset()) -> tuple[str, int]:
    """The one process that stands by, when it does and is none of those."""
    project = supervisor.project
    supervisor.until(lambda: len(found := standing(project)) == 1 and not but & set(found), LONG, "a process")
    ((attempt, pid),) = standing(project).items()
    return attempt, pid


def test_every_fresh_task_gets_a_process_of_its_own_that_stood_by(project: Project, supervise) -> None:
    project.configure({"code": None}, gateway={"record": True})
    supervisor = rehearse(supervise, project, PLAY)
    used: set[str] = set()
    for number in range(3):
        attempt, _ = one(supervisor, used)
        task = project.file_task(f"task {number}")
        shown = supervisor.until_status(task, "done", seconds=LONG)
        assert [row["id"] for row in shown["attempts"]] == [attempt], "the claim took the id that stood by"
        assert (project.places.tasks / task).is_symlink()
        assert list(project.places.config_dir(task).glob(f"projects/*/{shown['session_id']}.jsonl"))
        used.add(attempt)
    one(supervisor, used)
    assert equal_bills(project) > 0 and len(requests(project)) == 3
    assert supervisor.stop() == 0
    assert list(project.places.standing.iterdir()) == []
    assert {path.name for path in project.places.tasks.iterdir() if not path.is_symlink()} == used


def test_a_changed_configuration_replaces_it_and_warm_false_gives_it_back(project: Project, supervise) -> None:
    project.configure({"code": None})
    supervisor = rehearse(supervise, project, PLAY)
    first, pid = one(supervisor)
    assert project.producerctl("reload").returncode == 0
    assert one(supervisor) == (first, pid), "nothing has changed"
    project.configure({"code": {"allowed_tools": ["Read", "Bash"]}})
    assert project.producerctl("reload").returncode == 0
    attempt, _ = one(supervisor, {first})
    shown = supervisor.until_status(project.file_task("with a shell"), "done", seconds=LONG)
    assert [row["id"] for row in shown["attempts"]] == [attempt]
    project.configure({"code": {"warm": False}})
    assert project.producerctl("reload").returncode == 0
    supervisor.until(lambda: not standing(project), LONG, "the end of the process")
    cold = supervisor.until_status(project.file_task("cold"), "done", seconds=LONG)
    assert not (project.places.tasks / cold["id"]).is_symlink()
    assert standing(project) == {}
    assert supervisor.stop() == 0


def test_it_goes_with_its_worker_however_that_goes(project: Project, supervise) -> None:
    project.configure({"code": None})
    supervisor = rehearse(supervise, project, PLAY)
    first, _ = one(supervisor)
    psutil.Process(supervisor.workers()[0]["pid"]).kill()
    second, _ = one(supervisor, {first})
    supervisor.ask("scale", desired={"code": 0})
    supervisor.until(lambda: not standing(project), LONG, "the end of the process")
    supervisor.ask("scale", desired={"code": 1})
    third, _ = one(supervisor, {first, second})
    for place in (project.places.tasks, project.places.standing):  # the worker that was let go may be a little behind
        supervisor.until(lambda place=place: [path.name for path in place.iterdir()] == [third], LONG, "what has gone")
    assert supervisor.stop() == 0
    until(lambda: not carriers(project.places.key), LONG)
    assert list(project.places.tasks.iterdir()) == [] and list(project.places.standing.iterdir()) == []


def test_the_brake_lets_nothing_stand_by_and_a_drained_role_neither(project: Project, supervise) -> None:
    project.configure({"code": None})
    supervisor = rehearse(supervise, project, PLAY)
    first, _ = one(supervisor)
    assert project.producerctl("kill", "enough", "--now").returncode == 0
    supervisor.until(lambda: not standing(project), LONG, "the end of the process")
    assert project.producerctl("resume").returncode == 0
    second, _ = one(supervisor, {first})
    assert project.producerctl("drain", "code").returncode == 0
    supervisor.until(lambda: not standing(project), LONG, "the end of the process")
    assert second != first and supervisor.stop() == 0


def test_a_new_supervisor_of_the_same_fleet_has_its_own_stand_by(project: Project, supervise) -> None:
    project.configure({"code": None})
    supervisor = rehearse(supervise, project, PLAY)
    first, _ = one(supervisor)
    supervisor.kill()
    supervisor = rehearse(supervise, project, PLAY)
    attempt, _ = one(supervisor, {first})
    shown = supervisor.until_status(project.file_task("after the crash"), "done", seconds=LONG)
    assert [row["id"] for row in shown["attempts"]] == [attempt]
    assert not (project.places.tasks / first).exists()
    assert supervisor.stop() == 0


def test_a_task_that_was_tried_before_starts_cold(project: Project, supervise) -> None:
    project.configure(
        {"code": {"retry": {"base_seconds": 0.05, "cap_seconds": 0.1}, "env": {"CLAUDE_CODE_MAX_RETRIES": "0"}}}
    )
    play = {"code": {"*": [{"text": "Done.", "error": {"status": 500, "message": "a passing trouble", "times": 1}}]}}
    supervisor = rehearse(supervise, project, play)
    first, _ = one(supervisor)
    shown = supervisor.until_status(project.file_task("twice"), "done", seconds=LONG)
    assert [row["state"] for row in shown["attempts"]] == ["failed", "succeeded"]
    assert shown["attempts"][0]["id"] == first and [row["resumed"] for row in shown["attempts"]] == [0, 1]
    assert len(list(project.places.config_dir(shown["id"]).glob("projects/*/*.jsonl"))) == 1
    assert supervisor.stop() == 0
