"""Workers by fork: what they share is code, and nothing else; without the nursery they start as fresh processes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest
from driving import Project, Supervisor, carriers, until
from rehearsing import LONG, rehearse, shell, with_shell

from producer.sandbox import choice

NEVER = "import producer.supervisor.nursery as n; n.REST_SECONDS = 1e9"
SOON = "import producer.supervisor.nursery as n; n.REST_SECONDS = 0.5"
BROKEN = "import producer.supervisor.nursery as n; n.IMPORT_SECONDS = -1.0"


def nursery(supervisor: Supervisor) -> int | None:
    """The pid of the supervisor's nursery: what carries the project's mark and is no worker."""
    others = set(carriers(supervisor.project.places.key)) - {worker["pid"] for worker in supervisor.workers()}
    return others.pop() if len(others) == 1 else None


def test_forked_workers_are_processes_of_their_own(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}, "qa": None})
    supervisor = supervise(prelude=NEVER).ready(3)
    pids = [worker["pid"] for role in ("code", "qa") for worker in supervisor.workers(role)]
    parent = {psutil.Process(pid).ppid() for pid in pids}
    assert len(parent) == 1 and parent != {supervisor.pid}, "all come from one place"
    assert all(os.getsid(pid) == os.getpgid(pid) == pid for pid in pids)
    assert all(Path(f"/proc/{pid}/cwd").resolve() == project.places.workers for pid in pids)
    logs = {Path(f"/proc/{pid}/fd/2").resolve() for pid in pids}
    assert len(logs) == 3 and all(log.parent == project.places.workers for log in logs)
    sockets = [
        {link for fd in Path(f"/proc/{pid}/fd").iterdir() if "socket:" in (link := os.readlink(fd))} for pid in pids
    ]
    assert not sockets[0] & sockets[1] and not sockets[0] & sockets[2], "they share no socket"
    os.kill(pids[0], signal.SIGKILL)
    supervisor.until(
        lambda: (found := supervisor.workers()) and pids[0] not in {w["pid"] for w in found}, what="its end"
    )
    supervisor.ready(3)
    assert {worker["pid"] for worker in supervisor.workers("qa")} == {pids[2]}, "the others go on"
    project.file_task()
    supervisor.until_count("done", 1)
    assert supervisor.stop() == 0


def test_the_nursery_leaves_when_the_fleet_is_whole_and_comes_back_when_it_is_not(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    supervisor = supervise(prelude=SOON).ready(2)
    pids = {worker["pid"] for worker in supervisor.workers()}
    supervisor.until(lambda: set(carriers(project.places.key)) == pids, what="the fleet, and nobody else")
    gone = min(pids)
    os.kill(gone, signal.SIGKILL)
    supervisor.until(
        lambda: gone not in {w["pid"] for w in supervisor.workers()} and len(supervisor.workers("code", "idle")) == 2
    )
    fresh = {worker["pid"] for worker in supervisor.workers()}
    supervisor.until(lambda: set(carriers(project.places.key)) == fresh, what="the fleet, and nobody else")
    assert not psutil.pid_exists(gone), "somebody has read its exit status"
    assert supervisor.stop() == 0


def test_workers_outlive_the_nursery_and_its_supervisor(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    supervisor = supervise(prelude=NEVER).ready(2)
    task = project.file_task(payload={"sleep_seconds": 3})
    supervisor.until_count("in_progress", 1)
    pids = {worker["pid"] for worker in supervisor.workers()}
    supervisor.kill()
    until(lambda: set(carriers(project.places.key)) == pids, what="the end of the nursery alone")
    supervisor = supervise().ready(2)
    assert {worker["pid"] for worker in supervisor.workers()} == pids
    supervisor.until_status(task, "done")
    assert len(project.task(task)["attempts"]) == 1
    assert supervisor.stop() == 0


def test_a_nursery_that_was_killed_is_done_without(project: Project, supervise) -> None:
    supervisor = supervise(prelude=NEVER).ready(1)
    pid = supervisor.until(lambda: nursery(supervisor), what="a nursery")
    os.kill(pid, signal.SIGKILL)
    supervisor.ask("scale", desired={"code": 2})
    supervisor.ready(2)
    assert len(project.actions("nursery_failed")) == 1
    project.file_task()
    supervisor.until_count("done", 1)
    assert supervisor.stop() == 0


def test_a_nursery_that_does_not_get_ready_is_done_without(project: Project, supervise) -> None:
    supervisor = supervise(prelude=BROKEN).ready(1)
    (worker,) = supervisor.workers()
    assert psutil.Process(worker["pid"]).ppid() == supervisor.pid
    assert len(project.actions("nursery_failed")) == 1
    assert supervisor.stop() == 0


def test_a_nursery_that_is_slow_to_come_keeps_nobody_waiting(project: Project, supervise) -> None:
    go, program = project.root / "go", project.root / "slow-python"
    program.write_text(f'#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.05; done\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    supervisor = supervise(
        prelude=f"""
import types, producer.supervisor.nursery as n
n.sys, n.ANSWER_SECONDS = types.SimpleNamespace(executable={str(program)!r}), 40.0
"""
    ).ready(0)
    for _ in range(10):
        assert supervisor.ask("status", 10.0)["roles"]["code"]["workers"] == []
    go.touch()
    supervisor.ready(1)
    assert project.actions("nursery_failed") == []
    assert supervisor.stop() == 0


COUNTED = """#!/bin/sh
case "$*" in *" true") echo $PPID >> {log} ;; esac
exec {bwrap} "$@"
"""


@pytest.mark.e2e
@pytest.mark.skipif(choice.bwrap_problem() is not None, reason=str(choice.bwrap_problem()))
def test_which_sandbox_works_is_found_out_once_for_all_workers(project: Project, supervise) -> None:
    tools, log = project.root.parent / "bin", project.root.parent / "trials"
    tools.mkdir()
    (tools / "bwrap").write_text(COUNTED.format(log=log, bwrap=shutil.which("bwrap")))
    (tools / "bwrap").chmod(0o755)
    project.env["PATH"] = f"{tools}:{project.env['PATH']}"
    project.configure({"code": with_shell(workers=3, warm=False)})
    supervisor = rehearse(supervise, project, {"code": {"*": [shell("sleep 2"), {"text": "Done."}]}})
    for number in range(3):
        project.file_task(f"task {number}")
    supervisor.until_count("done", 3, LONG)
    assert len({row["detail"]["worker"] for row in project.actions("dispatch")}) == 3, "each had one to run"
    assert len(set(log.read_text().split())) == 2, "the supervisor tried it, and the nursery"
