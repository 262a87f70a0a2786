"""The kill switch stops a running fleet: by command, by `touch`, and by anything that cannot be read."""

from __future__ import annotations

import json
import os
import signal

from driving import Project, carriers, until


def test_kill_and_resume_by_command(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    supervisor = supervise().ready()
    running = project.file_task("runs on", payload={"sleep_seconds": 1.5})
    supervisor.until_count("in_progress", 1)
    assert project.producerctl("kill", "something is wrong").returncode == 0
    waiting = project.file_task("waits")
    assert supervisor.until_status(running, "done")["attempts"][0]["state"] == "succeeded"
    status = supervisor.status()
    assert status["kill_switch"]["armed"] and status["kill_switch"]["reason"] == "something is wrong"
    assert project.task(waiting)["attempts"] == []
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(waiting, "done")
    actions = [row["action"] for row in project.audit() if "kill_switch" in row["action"]]
    assert actions == ["kill_switch_armed", "kill_switch_observed", "kill_switch_disarmed", "kill_switch_released"]
    supervisor.until(lambda: "something is wrong" in project.attention())


def test_kill_now_stops_everything_counts_the_survivors_and_costs_no_retry(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 3, "prefetch": 2}})
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 600}) for n in range(7)]
    supervisor = supervise().ready()
    supervisor.until_count("in_progress", 6)
    told = project.producerctl("kill", "--now", "fire", "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert (answer["armed"], answer["stopped"], answer["survivors"]) == (True, 6, 0)
    assert project.counts()["pending"] == 7 and project.rows("SELECT max(retry_count) FROM tasks") == [(0,)]
    assert project.counts()["in_progress"] == 0
    assert project.producerctl("resume").returncode == 0
    supervisor.until_count("in_progress", 6)
    assert all(len(project.task(task)["attempts"]) <= 2 for task in tasks)


def test_whatever_is_there_and_is_not_a_zero_stops_the_intake(project: Project, supervise) -> None:
    switch = project.state / "kill_switch"
    supervisor = supervise().ready()
    ways = {
        "touch": (switch.touch, lambda: switch.write_text("0\n")),
        "a directory": (lambda: (switch.unlink(), switch.mkdir()), switch.rmdir),
        "a dangling link": (lambda: switch.symlink_to("nowhere"), switch.unlink),
        "any text": (lambda: switch.write_text("please stop"), switch.unlink),
    }
    for number, (way, (arm, release)) in enumerate(ways.items()):
        supervisor.until_status(project.file_task(f"before {way}"), "done")
        arm()
        supervisor.until(lambda n=number: len(project.actions("kill_switch_observed")) == n + 1, what=way)
        waiting = project.file_task(f"waits for the end of {way}")
        assert supervisor.status()["kill_switch"]["armed"]
        assert project.task(waiting)["attempts"] == []
        release()
        supervisor.until_status(waiting, "done")
    assert len(project.actions("kill_switch_released")) == len(ways)


def test_the_switch_works_when_the_supervisor_is_dead(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 1, "prefetch": 3}})
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 600}) for n in range(3)]
    supervisor = supervise().ready()
    supervisor.until_count("in_progress", 3)
    supervisor.until(lambda: project.task(tasks[0])["attempts"][0]["started_at"])
    supervisor.kill()
    (worker,) = until(lambda: len(found := carriers(project.places.key)) == 1 and found)  # the nursery leaves, too
    os.kill(worker, signal.SIGSTOP)  # it hangs, and gives nothing back
    told = project.producerctl("kill", "--now", "by hand", "--json")
    assert told.returncode == 0 and json.loads(told.stdout)["survivors"] == 0, told.stdout + told.stderr
    assert carriers(project.places.key) == []
    supervisor = supervise()
    supervisor.until(lambda: project.counts()["pending"] == 3)
    states = {project.task(task)["attempts"][-1]["state"] for task in tasks}
    assert states == {"cancelled"} and project.rows("SELECT max(retry_count) FROM tasks") == [(0,)]
    assert supervisor.stop() == 0
