"""Nothing outlives a kill: daemons that forked twice, left their session, cleared their environment, ignore TERM."""

from __future__ import annotations

import json
import secrets
import sys
from pathlib import Path

import psutil
import pytest
from driving import Project, Supervisor, until
from rehearsing import LONG, rehearse, shell, with_shell

from producer.cli import drill_agent

BOUND = 10.0  # seconds; what is measured is printed, a machine that is loaded must not fail the build


def carriers(token: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.cmdline()[-1:] == [token] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(
    "runs", [2, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["two", "hundred"]
)
def test_the_drill_leaves_none_of_two_hundred_daemons(project: Project, runs: int) -> None:
    ran = project.producerctl("kill", "--drill", "--runs", str(runs), "--json", seconds=580)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(ran.stdout)
    print(found)
    assert (found["runs"], found["daemons"], found["survivors"]) == (runs, 200, 0)
    assert found["worst_seconds"] < BOUND
    assert not (project.state / "kill_switch").exists(), "a drill touches nothing of the project"


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_nothing_outlives_a_kill_of_the_real_cli(project: Project, supervise) -> None:
    code = project.root / "spawn.py"  # where a sandboxed agent sees it
    words = [sys.executable, "-c", drill_agent.SPAWN, "60", "1", "120"]
    code.write_text(f"import os, sys\nos.execve({sys.executable!r}, [*{words!r}, sys.argv[1]], {{}})\n")
    project.configure({"code": with_shell()})
    tokens = [f"ap-test-{secrets.token_hex(8)}" for _ in range(3)]
    turns = {
        f"daemons {token}": [shell(f"{sys.executable} {code} {token} > /dev/null; sleep 100"), {"text": "Never."}]
        for token in tokens
    }
    supervisor = rehearse(supervise, project, {"code": turns})
    for token in tokens:
        task = project.file_task(f"daemons {token}")
        supervisor.until(lambda token=token: len(carriers(token)) >= 60, LONG, "60 daemons")
        told = json.loads(project.producerctl("kill", "--now", "enough", "--json").stdout)
        print(told)
        assert (told["stopped"], told["survivors"], carriers(token)) == (1, 0, [])
        assert told["seconds"] < BOUND
        supervisor.until_status(task, "pending")
        project.producerctl("task", "kill", task)
        project.producerctl("resume")
    assert {row["detail"]["survivors"] for row in project.actions("stopped_now")} == {0}
    project.books_balance()


def test_nothing_outlives_a_kill_when_no_supervisor_is_left(project: Project, supervise, tmp_path: Path) -> None:
    token, ready = f"ap-test-{secrets.token_hex(8)}", tmp_path / "ready"
    task = project.file_task(payload={"daemons": 50, "token": token, "ready": str(ready)})
    supervisor: Supervisor = supervise(invoker="producer.cli.drill_agent:Agent")
    supervisor.until(lambda: ready.exists() and ready.read_text() == "50", what="50 daemons")
    supervisor.kill()
    assert len(carriers(token)) == 50
    told = json.loads(project.producerctl("kill", "--now", "nobody is there", "--json").stdout)
    until(lambda: not carriers(token), 5.0, "the end of all daemons")
    assert told["survivors"] == 0 and told["stopped"] >= 1  # the worker watches the switch too, and may come first
    project.producerctl("resume")
    supervise(invoker="echo").until_status(task, "done")
    states = [attempt["state"] for attempt in project.task(task)["attempts"]]
    assert (states, project.task(task)["retry_count"]) == (["cancelled", "succeeded"], 0)
