"""The brake where something is in its way: a switch that cannot be written, a burst that spans two supervisors."""

from __future__ import annotations

import errno
import os

import pytest
from driving import Project

from producer import killswitch
from producer.errors import ProducerError

QUICK = {"base_seconds": 0.05, "cap_seconds": 0.1, "max": 100}


def test_a_switch_that_cannot_be_written_stops_everything_all_the_same(project: Project, supervise) -> None:
    switch = project.state / "kill_switch"
    supervisor = supervise().ready()
    task = project.file_task(payload={"sleep_seconds": 600})
    supervisor.until_count("in_progress", 1)
    switch.mkdir()
    told = supervisor.ask("kill", seconds=20.0, reason="fire", now=True)
    assert (told["armed"], told["stopped"], told["survivors"]) == (True, 1, 0)
    supervisor.until_status(task, "pending")
    with pytest.raises(ProducerError, match="directory"):
        supervisor.ask("resume", reason="too early")
    assert supervisor.status()["kill_switch"]["armed"], "it is armed still, and the supervisor lives"
    switch.rmdir()
    assert supervisor.status()["kill_switch"]["armed"], "a file that goes away does not undo what was asked for"
    assert supervisor.ask("resume", reason="now") == {"armed": False}
    supervisor.until_count("in_progress", 1)


def test_a_full_disk_does_not_keep_the_switch_from_being_armed(tmp_path, monkeypatch) -> None:
    def full(path, content) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for before in (None, "0\n"):
        switch = tmp_path / f"switch-{before is None}"
        if before:
            switch.write_text(before)
        monkeypatch.setattr(killswitch, "_replace", full)
        killswitch.arm(switch, "no room", now=True)
        assert killswitch.read(switch).armed and killswitch.read(switch).now


def test_a_burst_is_counted_across_a_crash_of_the_supervisor(project: Project, supervise) -> None:
    project.configure({"code": {"retry": QUICK}}, failure_burst={"count": 5, "window_seconds": 600})
    task = project.file_task("fails three times", payload={"fail": 3})
    supervisor = supervise()
    supervisor.until_status(task, "done")
    supervisor.kill()
    supervisor = supervise().ready()
    assert not supervisor.status()["kill_switch"]["armed"]
    project.file_task("fails twice", payload={"fail": 2})
    supervisor.until_action("kill_switch_armed_by_producer")
    assert supervisor.status()["kill_switch"]["armed"]
    supervisor.until(lambda: "5 failures of role code" in project.attention(), what="the notice")
    assert project.producerctl("resume", "seen").returncode == 0
    supervisor.kill()
    supervisor = supervise().ready()
    project.file_task("fails once more", payload={"fail": 1})
    supervisor.until_count("done", 3)
    assert not supervisor.status()["kill_switch"]["armed"], "what a human has seen counts no more"
