"""Stopping, restarting, and who may run at all; what the service manager hears of it."""

from __future__ import annotations

import os
import resource
import signal
import socket
from contextlib import closing

import psutil
from driving import Project


def test_a_signal_stops_what_runs_and_costs_it_no_retry(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2, "prefetch": 2}}, shutdown_grace_seconds=2)
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 600}) for n in range(5)]
    supervisor = supervise().ready()
    supervisor.until_count("in_progress", 4)
    assert supervisor.stop(signal.SIGTERM, 20) == 0
    for task in tasks:
        after = project.task(task)
        assert (after["status"], after["retry_count"]) == ("pending", 0)
        assert all(attempt["state"] == "cancelled" for attempt in after["attempts"])
    assert project.actions("producer_shutdown")[-1]["detail"]["survivors"] == 0
    assert list(project.places.workers.glob("*")) == [] and not list(project.state.glob("escalations/*"))
    assert project.books_balance() == 0


def test_a_worker_that_was_told_to_leave_is_sent_nothing_more(project: Project, supervise) -> None:
    project.configure({"code": {"prefetch": 2}})
    supervisor = supervise().ready()
    tasks = [project.file_task(f"t{n}", payload={"sleep_seconds": 1}) for n in range(3)]
    supervisor.until_count("in_progress", 2)
    [worker] = supervisor.workers()
    os.kill(worker["pid"], signal.SIGTERM)
    supervisor.until_count("done", 3)
    attempts = [attempt for task in tasks for attempt in project.task(task)["attempts"]]
    assert len(attempts) <= 7, "what it had comes back, and not again and again"
    assert supervisor.stop() == 0


def test_a_terminal_that_goes_away_takes_nobody_along(project: Project, supervise) -> None:
    project.configure({"code": None})
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    on_it = f"import os; fd = os.open({name!r}, os.O_RDWR); [os.dup2(fd, number) for number in (0, 1, 2)]"
    supervisor = supervise(prelude=f"{on_it}\nimport sys; sys.stdout, sys.stderr = open(1, 'w'), open(2, 'w')").ready()
    first = project.file_task("while somebody looks")
    supervisor.until_status(first, "done")
    os.close(theirs)
    os.close(ours)  # as when ssh breaks off: SIGHUP, and every write fails from now on
    supervisor.until_action("config_reloaded")
    assert project.producerctl("kill", "nobody sees this").returncode == 0
    supervisor.until_action("kill_switch_observed")
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(project.file_task("with nobody there"), "done")
    assert project.producerctl("stop").returncode == 0
    assert supervisor.exits() == 0


def test_the_second_supervisor_of_a_ledger_names_the_first_and_leaves(project: Project, supervise) -> None:
    first = supervise().ready()
    (project.root / "other.yaml").write_text(project.file.read_text())
    second = supervise()
    assert second.exits() == 1
    assert f"pid {first.pid}" in second.output.read_text()
    project.file_task()
    first.until_count("done", 1)
    assert len(project.actions("producer_boot")) == 1
    assert first.stop(signal.SIGINT) == 0


def test_a_restart_keeps_the_fleet_and_what_it_runs(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    supervisor = supervise().ready()
    task = project.file_task(payload={"sleep_seconds": 2})
    supervisor.until_count("in_progress", 1)
    pids = {worker["pid"] for worker in supervisor.workers()}
    assert project.producerctl("restart").returncode == 0
    supervisor.until(lambda: len(project.actions("producer_boot")) == 2)
    supervisor.ready()
    assert {worker["pid"] for worker in supervisor.workers()} == pids
    assert len(supervisor.until_status(task, "done")["attempts"]) == 1
    assert project.producerctl("stop").returncode == 0
    assert supervisor.exits() == 0


def test_the_service_manager_is_told_and_no_worker_hears_of_it_or_of_a_key(
    project: Project, supervise, private
) -> None:
    path = private / f"n{os.getpid()}"
    secrets = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000", "ANTHROPIC_API_KEY": "sk-x", "GITHUB_TOKEN": "x"}
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(path))
        manager.settimeout(30)
        supervisor = supervise(env=secrets)
        assert manager.recv(4096).decode() == "READY=1\nSTATUS=serving testbed"
        heard = [manager.recv(4096).decode() for _ in range(4)]
        assert heard.count("WATCHDOG=1") >= 3
        assert all(line == "WATCHDOG=1" or line.startswith("STATUS=testbed: 0 waiting") for line in heard)
        (worker,) = supervisor.ready().workers()
        seen = psutil.Process(worker["pid"]).environ()
        assert not set(secrets) & set(seen) and seen["AI_PRODUCER_PROJECT"] == project.places.key
        os.kill(supervisor.pid, signal.SIGTERM)
        while (last := manager.recv(4096).decode()).startswith(("WATCHDOG=1", "STATUS=")):
            pass
        assert last.splitlines()[0] == "STOPPING=1"
    assert supervisor.exits() == 0
    path.unlink()


def test_a_full_disk_is_waited_out_and_no_run_is_lost(project: Project, supervise) -> None:
    project.configure({"code": {"workers": 2}})
    with project.client() as client:
        tasks = client.insert_tasks(
            {"agent_owner": "code", "title": f"t{n}", "description": "d", "payload": {"sleep_seconds": 0.3}}
            for n in range(6)
        )
    supervisor = supervise().ready()
    supervisor.until_count("done", 1)
    process = psutil.Process(supervisor.pid)
    limit = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))  # no file of this process may grow beyond a page
    supervisor.until(lambda: "the ledger cannot be written" in supervisor.output.read_text())
    process.rlimit(resource.RLIMIT_FSIZE, limit)
    supervisor.until_count("done", len(tasks))
    assert all(len(project.task(task)["attempts"]) == 1 for task in tasks)
    assert supervisor.stop() == 0
    project.books_balance()


def test_a_ledger_that_is_none_is_refused_and_left_as_it_is(project: Project, supervise) -> None:
    ledger = project.state / "ledger.db"
    ledger.parent.mkdir()
    ledger.write_bytes(b"my notes\n" * 1000)
    supervisor = supervise()
    assert supervisor.exits() in (1, 2)
    assert str(ledger) in supervisor.output.read_text()
    assert ledger.read_bytes() == b"my notes\n" * 1000
