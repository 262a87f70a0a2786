"""What operators do to a running fleet: scale, drain, reload; and what `status` says of it."""

from __future__ import annotations

import json
import os
import signal
from hashlib import sha256
from pathlib import Path

import jsonschema
import pytest
from driving import SOURCE, Project

from producer.errors import ConfigError, UsageError

SCHEMA = json.loads(Path(SOURCE, "docs/status.schema.json").read_text())


def test_status_is_what_its_schema_says_with_and_without_a_supervisor(project: Project, supervise) -> None:
    def check() -> dict:
        told = project.producerctl("status", "--json")
        assert told.returncode == 0, told.stderr
        found = json.loads(told.stdout)
        jsonschema.validate(found, SCHEMA, format_checker=jsonschema.FormatChecker())
        return found

    project.configure({"code": {"workers": 2}, "qa": None})
    supervisor = supervise().ready()
    task = project.file_task(payload={"sleep_seconds": 600}, title="a long one")
    blocked = project.file_task(dependencies=[task])
    supervisor.until_count("in_progress", 1)
    running = check()
    assert running["supervisor"]["running"] and running["supervisor"]["pid"] == supervisor.pid
    assert (running["queue"]["in_progress"], running["queue"]["blocked"]) == (1, 1)
    (busy,) = [worker for worker in running["roles"]["code"]["workers"] if worker["state"] == "busy"]
    assert (busy["task"], busy["title"]) == (task, "a long one")
    assert running["budget"]["roles"]["code"] == {"spent_usd": "0.00", "held_usd": "0.01", "cap_usd": "50.00"}
    supervisor.kill()  # its workers stay, the ledger says what was
    dead = check()
    assert not dead["supervisor"]["running"] and dead["queue"] == running["queue"]
    supervisor = supervise().ready()
    supervisor.ask("kill", reason="for the test")
    assert check()["kill_switch"]["reason"] == "for the test"
    assert supervisor.stop() == 0
    stopped = check()
    assert not stopped["supervisor"]["running"] and stopped["kill_switch"]["armed"]
    assert project.task(blocked)["status"] == "pending"


def test_a_role_is_scaled_up_and_down_and_no_run_is_cut(project: Project, supervise) -> None:
    supervisor = supervise("--workers", "code=2").ready(2)
    supervisor.ask("scale", desired={"code": 4})
    supervisor.ready(4)
    assert len({worker["pid"] for worker in supervisor.workers()}) == 4
    task = project.file_task(payload={"sleep_seconds": 2})
    supervisor.until_count("in_progress", 1)
    (busy,) = supervisor.workers(state="busy")
    supervisor.ask("scale", desired={"code": 1})
    supervisor.until(lambda: len(supervisor.workers()) == 1)
    assert supervisor.workers()[0]["id"] == busy["id"], "idle workers go first"
    supervisor.ask("scale", desired={"code": 0})
    assert len(supervisor.until_status(task, "done")["attempts"]) == 1
    supervisor.until(lambda: not supervisor.workers())
    left = project.file_task("waits for a worker")
    supervisor.kill()
    supervisor = supervise().ready(1)
    supervisor.until_status(left, "done")  # a new supervisor begins with what producer.yaml says
    for wrong in ({"nobody": 1}, {"code": -1}, {"code": True}, {"code": 10_000}, {}):
        with pytest.raises(UsageError):
            supervisor.ask("scale", desired=wrong)
    assert project.actions("worker_exited") == [], "who was told to leave did not crash"


def test_a_drained_role_finishes_and_takes_no_more_until_it_is_reset(project: Project, supervise) -> None:
    project.configure({"code": {"prefetch": 2}, "qa": None})
    supervisor = supervise().ready()
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 0.7}) for n in range(3)]
    supervisor.until_count("in_progress", 2)
    supervisor.ask("drain", role="code")
    supervisor.until(lambda: not supervisor.workers())
    assert [project.task(task)["status"] for task in tasks] == ["done", "done", "pending"]
    assert supervisor.status()["roles"]["code"]["state"] == "draining"
    supervisor.until_status(project.file_task("elsewhere", "qa"), "done")
    supervisor.ask("role_reset", role="code")
    supervisor.until_status(tasks[2], "done")
    assert project.rows("SELECT count(*) FROM attempts WHERE state != 'succeeded'") == [(0,)]


def test_a_new_configuration_is_taken_over_and_a_bad_one_is_not(project: Project, supervise) -> None:
    supervisor = supervise().ready()
    assert project.noted_sha256() == project.config().sha256
    project.configure({"code": {"workers": 2, "daily_cap_usd": 7}, "qa": None})
    told = project.producerctl("reload")
    assert told.returncode == 0, told.stderr
    assert project.noted_sha256() == project.config().sha256
    for change in ("workers: 1 -> 2", "daily_cap_usd: 50 -> 7", "qa: None -> a new entry"):
        assert change in told.stdout.replace(".0", "")
    supervisor.ready(3)
    assert supervisor.status()["budget"]["roles"]["code"]["cap_usd"] == "7.00"
    supervisor.until_status(project.file_task("for the new role", "qa"), "done")
    good = project.file.read_text()
    project.file.write_text(good + "nonsense: 1\n")
    told = project.producerctl("reload")
    assert told.returncode != 0 and "nonsense" in told.stderr
    assert project.noted_sha256() == sha256(good.encode()).hexdigest()
    with pytest.raises(ConfigError, match="nonsense"):
        supervisor.ask("reload")
    os.kill(supervisor.pid, signal.SIGHUP)
    assert "nonsense" in supervisor.until_action("reload_refused")["detail"]["problem"]
    project.configure({"code": {"workers": 2}, "qa": None}, kill_switch="elsewhere")
    with pytest.raises(UsageError, match="kill_switch"):
        supervisor.ask("reload")
    assert supervisor.status()["roles"]["code"]["desired"] == 2
    project.configure({"code": {"workers": 1}})
    os.kill(supervisor.pid, signal.SIGHUP)
    supervisor.until(lambda: len(project.actions("config_reloaded")) == 2)
    supervisor.until(lambda: list(supervisor.status()["roles"]) == ["code"] and len(supervisor.workers()) == 1)
    assert supervisor.stop() == 0
