"""The supervisor dies, again and again, and the run does not notice."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from driving import SOURCE, Project, carriers, until
from rehearsing import LONG, equal_bills, rehearse, requests, shell, with_shell, write_script

DEATHS = 20
ANSWERS = 30


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_deaths_of_the_supervisor_during_one_run(project: Project, supervise) -> None:
    """The run is a few hundred seconds of answers and tools; every death comes while it goes on."""
    project.configure({"code": with_shell(max_turns=100)}, gateway={"record": True})
    slow = {"output_tokens": 100, "tokens_per_second": 100}
    play = {"code": {"*": [*(shell("sleep 0.5", **slow) for _ in range(ANSWERS)), {"text": "Done."}]}}
    supervisor = rehearse(supervise, project, play)
    task = project.file_task("long")
    supervisor.until(lambda: requests(project, task), LONG, "the first answer")
    (worker,) = supervisor.workers()
    boots: list[float] = []
    for _ in range(DEATHS):
        assert project.task(task)["status"] == "in_progress", "the run was over before the last death"
        supervisor.kill()
        began = time.monotonic()
        supervisor = rehearse(supervise, project, play)
        boots.append(time.monotonic() - began)
    supervisor.until_status(task, "done", seconds=LONG)
    (attempt,) = project.task(task)["attempts"]
    assert attempt["state"] == "succeeded"
    assert [line["turn"] for line in requests(project, task)] == list(range(ANSWERS + 1)), "an answer was paid twice"
    assert len(project.actions("task_completed")) == 1 and project.actions("gateway_exited") == []
    assert supervisor.workers()[0]["pid"] == worker["pid"]
    print(f"{DEATHS} deaths, ${equal_bills(project) / 1e6:.6f} billed once; back after {max(boots):.1f} s at most")
    assert supervisor.stop() == 0


DIES_WHILE_REMEMBERING = """
import os, pathlib, signal

write = pathlib.Path.write_text

def dies(path, text, *more, **given):
    if "gateway" in path.name and "pid_start" in text:
        path.open("w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, text, *more, **given)

pathlib.Path.write_text = dies
"""


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_supervisor_killed_while_it_notes_the_gateways_pid_does_not_lose_it(project: Project, supervise) -> None:
    project.configure({"code": with_shell()}, gateway={"record": True})
    play = {"code": {"*": [{"text": "Done."}]}}
    supervisor = rehearse(supervise, project, play)
    noted = project.places.workers / "gateway"
    supervisor.until(lambda: supervisor.status()["gateway"]["url"], LONG, "the gateway")
    gateway = json.loads(noted.read_text())["pid"]
    supervisor.kill()
    script = str(write_script(project, play))
    dying = supervise("--rehearse", script, invoker=None, prelude=DIES_WHILE_REMEMBERING)
    assert dying.process.wait(LONG) == -signal.SIGKILL
    supervisor = rehearse(supervise, project, play)
    supervisor.until_status(project.file_task(), "done", seconds=LONG)
    assert project.actions("gateway_exited") == [] and json.loads(noted.read_text())["pid"] == gateway
    equal_bills(project)
    assert supervisor.stop() == 0


LEAVES_LATE = """
import sys
from producer.supervisor import gateway

spawn = gateway.spawn
waits = "import os, sys, time; [time.sleep(0.05) for _ in range(2400) if not os.path.exists(sys.argv[1])]"
gateway.spawn = lambda command, env, log: spawn([sys.executable, "-c", waits, {flag!r}], env, log)
"""


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_living_gateway_of_which_no_note_is_left_is_taken_over_and_ended(
    project: Project, supervise, tmp_path: Path
) -> None:
    play = {"code": {"*": [{"text": "Done."}]}}
    supervisor = rehearse(supervise, project, play)
    noted = project.places.workers / "gateway"
    supervisor.until(lambda: supervisor.status()["gateway"]["url"], LONG, "the gateway")
    gateway = json.loads(noted.read_text())["pid"]
    supervisor.kill()
    noted.unlink()
    flag = tmp_path / "leave"  # the one that this supervisor starts in vain leaves after the older one was heard
    script = str(write_script(project, play))
    late = LEAVES_LATE.format(flag=str(flag))
    supervisor = supervise("--rehearse", script, invoker=None, prelude=late).ready(seconds=LONG)
    supervisor.until(lambda: supervisor.status()["gateway"]["pid"] == gateway, LONG, "the older gateway")
    flag.touch()
    supervisor.until_status(project.file_task(), "done", seconds=LONG)
    assert supervisor.status()["gateway"]["pid"] == json.loads(noted.read_text())["pid"] == gateway
    assert supervisor.stop() == 0
    assert project.actions("gateway_exited") == [] and not carriers(project.places.key), "it outlived its project"


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_a_restart_keeps_the_scale_the_workers_and_a_run_of_the_real_cli(project: Project, supervise) -> None:
    project.configure({"code": with_shell(max_turns=100)}, gateway={"record": True})
    play = {"code": {"*": [shell("[ -e go ] || sleep 1", output_tokens=20) for _ in range(25)] + [{"text": "Done."}]}}
    supervisor = rehearse(supervise, project, play)
    supervisor.ask("scale", desired={"code": 2})
    supervisor.ready(2, seconds=LONG)
    task = project.file_task("through a restart")
    supervisor.until(lambda: requests(project, task), LONG, "the first answer")
    before = {worker["pid"] for worker in supervisor.workers()}
    ran = project.producerctl("restart")
    assert ran.returncode == 0, ran.stderr
    supervisor.until(lambda: len(project.actions("producer_boot")) == 2, LONG, "the second boot")
    supervisor.ready(2, seconds=LONG)
    assert {worker["pid"] for worker in supervisor.workers()} == before and supervisor.process.poll() is None
    (project.root / "go").touch()
    supervisor.until_status(task, "done", seconds=LONG)
    assert len(project.task(task)["attempts"]) == 1
    equal_bills(project)
    assert supervisor.stop() == 0


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_orphans_finish_what_they_have_and_leave_after_their_time(project: Project, supervise) -> None:
    project.configure({"code": with_shell()}, gateway={"record": True}, orphan_seconds=10)
    play = {"code": {"*": [shell("touch begun; sleep 3; touch ended"), {"text": "Done."}]}}
    supervisor = rehearse(supervise, project, play)
    task = project.file_task("outlives its supervisor")
    supervisor.until((project.root / "begun").exists, LONG, "the tool")
    supervisor.kill()
    until((project.root / "ended").exists, LONG, "the end of the tool")
    # Its second request waits for a supervisor to grant it: nobody may spend alone.
    supervisor = rehearse(supervise, project, play)
    supervisor.until_status(task, "done", seconds=LONG)
    assert len(project.task(task)["attempts"]) == 1
    supervisor.kill()
    began = time.monotonic()
    until(lambda: not carriers(project.places.key), LONG, "the worker's and the gateway's end")
    assert time.monotonic() - began >= 8.0, "they left at once"
    assert list(project.places.workers.glob("*.json")) == []
    equal_bills(project)


def install(where: Path, version: str) -> None:
    """The program as a package manager leaves it: its files, and what says its version."""
    shutil.copytree(Path(SOURCE) / "producer", where / "producer", dirs_exist_ok=True)
    about = where / "ai_producer-7.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ai-producer\nVersion: {version}\n")


def test_a_restart_with_a_new_version_loses_no_run(project: Project, supervise, tmp_path: Path) -> None:
    install(tmp_path / "program", "7.0.0")
    supervisor = supervise(env={"PYTHONPATH": str(tmp_path / "program")}).ready()
    task = project.file_task(payload={"sleep_seconds": 3})
    supervisor.until_status(task, "in_progress")
    (before,) = supervisor.workers()
    install(tmp_path / "program", "7.1.0")
    supervisor.ask("restart")
    supervisor.until(lambda: len(project.actions("producer_boot")) == 2, LONG, "the second boot")
    assert [row["detail"]["version"] for row in project.actions("producer_boot")] == ["7.0.0", "7.1.0"]
    shown = supervisor.until_status(task, "done", seconds=LONG)
    assert [attempt["state"] for attempt in shown["attempts"]] == ["succeeded"]
    assert [worker["pid"] for worker in supervisor.workers()] == [before["pid"]], (
        "the old version's worker was not kept"
    )
    later = project.file_task()
    assert len(supervisor.until_status(later, "done")["attempts"]) == 1, "it works no more under the new version"
    assert supervisor.stop() == 0
    project.books_balance()


STUCK = """
import signal, time

class Stuck:
    def invoke(self, agent_role, prompt, **given):
        open("stuck", "w").close()
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            time.sleep(1)
"""


def test_a_stuck_agent_does_not_hold_up_a_stop(project: Project, supervise) -> None:
    (project.root / "mine.py").write_text(STUCK)
    project.configure({"code": None}, shutdown_grace_seconds=2)
    supervisor = supervise(invoker="mine:Stuck").ready(seconds=LONG)
    task = project.file_task()
    supervisor.until((project.root / "stuck").exists, LONG, "the agent")
    began = time.monotonic()
    assert supervisor.stop(seconds=LONG) == 0
    print(f"stopped in {time.monotonic() - began:.1f} s with a grace of 2 s")
    assert not carriers(project.places.key)
    shown = project.task(task)
    assert (shown["status"], shown["retry_count"], shown["attempts"][0]["state"]) == ("pending", 0, "cancelled")
    project.books_balance()
