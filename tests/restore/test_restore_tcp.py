"""Over loopback tcp the fleet outlives its supervisor as it does over Unix sockets, whatever becomes of the ports."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

import pytest
from driving import Project, Supervisor
from test_restore_fencing import (  # noqa: F401
    pids,
    test_a_result_counts_once_and_only_from_the_worker_that_was_asked,
)
from test_restore_supervisor import (  # noqa: F401
    test_a_restart_keeps_the_scale_the_workers_and_a_run_of_the_real_cli,
)

from producer.errors import UsageError


@pytest.fixture
def over() -> str:
    return "tcp"


def ports(project: Project) -> list[int]:
    return [int(address.rpartition(":")[2]) for address in json.loads(project.places.endpoints.read_text()).values()]


def running(project: Project, supervise) -> tuple[Supervisor, str, set[int]]:
    """A supervisor of two workers, one of which runs a task."""
    project.configure({"code": {"workers": 2}})
    supervisor = supervise().ready()
    task = project.file_task("outlives it", payload={"sleep_seconds": 3})
    supervisor.until_count("in_progress", 1)
    return supervisor, task, {worker["pid"] for worker in supervisor.workers()}


def adopted(supervisor: Supervisor, project: Project, task: str, fleet: set[int]) -> None:
    """The next supervisor has the workers of the one before, and the run ends as if nothing had been."""
    supervisor.ready()
    assert {worker["pid"] for worker in supervisor.workers()} == fleet
    assert len(supervisor.until_status(task, "done")["attempts"]) == 1
    supervisor.until_status(project.file_task("and on"), "done")
    assert project.producerctl("status", "--json").returncode == 0
    assert supervisor.stop() == 0


def test_a_supervisor_that_was_killed_is_followed_by_one_on_the_same_ports(project: Project, supervise) -> None:
    supervisor, task, fleet = running(project, supervise)
    before = ports(project)
    supervisor.kill()
    supervisor = supervise().ready()
    assert ports(project) == before
    adopted(supervisor, project, task, fleet)


def test_workers_find_the_next_supervisor_on_other_ports(project: Project, supervise) -> None:
    supervisor, task, fleet = running(project, supervise)
    before = ports(project)
    supervisor.kill()
    with ExitStack() as stack:
        for port in before:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        supervisor = supervise().ready()
        assert not set(ports(project)) & set(before)
        adopted(supervisor, project, task, fleet)


@pytest.mark.parametrize(("first", "then"), [("ipc", "tcp"), ("tcp", "ipc")])
def test_a_restart_takes_the_fleet_from_one_kind_of_socket_to_the_other(
    project: Project, supervise, first: str, then: str
) -> None:
    project.over = first
    supervisor, task, fleet = running(project, supervise)
    project.over = then
    project.configure({"code": {"workers": 2}})
    with pytest.raises(UsageError, match="sockets cannot change while the supervisor runs"):
        supervisor.ask("reload")
    assert project.producerctl("restart").returncode == 0
    supervisor.until(lambda: len(project.actions("producer_boot")) == 2, what="the second boot")
    assert project.places.endpoints.exists() == (then == "tcp") or supervisor.ready()
    adopted(supervisor, project, task, fleet)


def test_a_runtime_directory_too_deep_for_a_socket(project: Project, supervise, monkeypatch) -> None:
    deep = f"{project.env['XDG_RUNTIME_DIR']}/{'x' * 120}"
    project.env["XDG_RUNTIME_DIR"] = deep
    monkeypatch.setenv("XDG_RUNTIME_DIR", deep)
    supervisor = supervise().ready()
    supervisor.until_status(project.file_task("from far down"), "done")
    assert project.producerctl("status").returncode == 0
    assert supervisor.stop() == 0
    project.over = "ipc"
    project.configure({"code": None})
    refused = project.producerctl("run", "--invoker", "echo")
    assert refused.returncode == 1 and "sockets: tcp" in refused.stderr and "Traceback" not in refused.stderr
    assert project.actions("producer_boot")[1:] == []


def test_a_port_that_somebody_has_is_a_line_and_no_traceback(project: Project, supervise) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        project.over = f"tcp://127.0.0.1:{min(listening.getsockname()[1], 65_532)}"
        project.configure({"code": None})
        refused = project.producerctl("run", "--invoker", "echo")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "cannot listen on tcp://127.0.0.1:" in refused.stderr.splitlines()[-1]
