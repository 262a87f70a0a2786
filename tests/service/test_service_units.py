"""The supervisor and its workers in units of their own, in a booted systemd: what ends and begins with which."""

from __future__ import annotations

import pytest
from driving import until
from installed import SOCKET, UNIT, USER, WORKERS, Service

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]
MAY = "ExecStartPre=/bin/sh -c 'unshare --user true && echo it may unshare || echo it may not unshare'"


def unit_of(service: Service, pid: int) -> str:
    """The unit that a process is in, below its slice."""
    return service.booted.run("cat", f"/proc/{pid}/cgroup").rsplit("/", 2)[-1]


def instances(service: Service) -> dict[str, str]:
    """The instances of the workers' unit that there are, and how they stand."""
    listed = service.systemctl("list-units", "--all", "--plain", "--no-legend", WORKERS).splitlines()
    return {words[0]: words[2] for words in map(str.split, listed)}


def test_workers_are_not_in_the_unit_of_their_supervisor(service: Service) -> None:
    key = "/etc/ai-producer-audit.key"
    service.booted.write(key, service.ctl("audit", "key", "--new", user="root") + "\n")
    service.ctl("service", "install", "--run-as", USER, "--credential", f"audit.key={key}", user="root")
    service.start_with("--invoker echo", MAY)
    supervisor, fleet = service.serving(), service.fleet()
    assert "it may not unshare" in service.booted.run("journalctl", "-u", UNIT, "--no-pager")
    assert unit_of(service, supervisor) == UNIT
    homes = {unit_of(service, pid) for pid in fleet}
    assert homes == set(instances(service)), "each in an instance, and none of those is empty"
    assert "ai-producer.slice" in service.booted.run("cat", f"/proc/{min(fleet)}/cgroup")

    # keys that systemd loads are the supervisor's alone
    seen = {
        pid: service.booted.run("nsenter", "-t", str(pid), "-m", "ls", "/run/credentials")
        for pid in (supervisor, *fleet)
    }
    assert [pid for pid, names in seen.items() if names] == [supervisor], seen

    # the view of /proc that bubblewrap needs is there, and nobody's to look at
    look = (
        "nsenter",
        "-t",
        str(min(fleet)),
        "-m",
        "setpriv",
        f"--reuid={USER}",
        f"--regid={USER}",
        "--clear-groups",
        "ls",
    )
    view = "/run/ai-producer-proc"
    assert service.booted.run("nsenter", "-t", str(min(fleet)), "-m", "ls", f"{view}/proc/1")
    assert (
        service.booted.run(*look, view, check=False) == "" == service.booted.run(*look, f"{view}/proc/1", check=False)
    )
    assert "1" not in service.booted.run(*look, "/proc").split(), "other users' processes are not to be seen"

    # their first process has left: the unit lasts, over a reload and a new systemd as well
    def alone() -> bool:
        return all(service.systemctl("show", "--value", "-p", "MainPID", name) == "0" for name in homes)

    until(alone, what="the end of the first process", why=service.journal)
    task = service.begin(6)
    service.systemctl("daemon-reload")
    service.systemctl("daemon-reexec")
    assert instances(service) == dict.fromkeys(homes, "active")
    service.finished_once(task)
    assert service.fleet() == fleet

    service.systemctl("stop", UNIT)
    assert service.processes() == []
    until(lambda: not instances(service), what="the end of the instances", why=service.journal)
    assert service.systemctl("show", "--value", "-p", "ActiveState", SOCKET) == "inactive"


def test_neither_unit_goes_down_with_the_other(service: Service) -> None:
    service.ctl("service", "install", "--run-as", USER, user="root")
    service.start_with("--invoker echo", "RestartSec=100ms")
    first, fleet = service.serving(), service.fleet()
    task = service.begin(8)
    service.systemctl("kill", "--signal=KILL", UNIT)
    supervisor = service.serving(after=first)
    assert service.fleet() == fleet, "nor is its end theirs"
    service.finished_once(task)

    task = service.begin(5)
    service.systemctl("kill", "--signal=KILL", WORKERS)
    done = until(lambda: (t := service.task(task))["status"] == "done" and t, what="its end", why=service.journal)
    assert [attempt["state"] for attempt in done["attempts"]] == ["lost", "succeeded"]
    assert not service.fleet() & fleet
    assert int(service.show("MainPID")) == supervisor


def test_a_nursery_that_is_killed_takes_no_worker_along(service: Service) -> None:
    service.ctl("service", "install", "--run-as", USER, user="root")
    service.start_with("--invoker echo")
    service.serving()
    fleet = service.fleet()
    service.ctl("scale", "code=3")

    def nursery() -> str:
        mains = (service.systemctl("show", "--value", "-p", "MainPID", name) for name in instances(service))
        return next((pid for pid in mains if pid not in ("", "0")), "")

    pid = until(nursery, what="a nursery", why=service.journal)
    service.booted.run("kill", "-KILL", pid)
    until(lambda: len(service.processes()) == 4, what="a third worker", why=service.journal)
    assert fleet < {worker["pid"] for worker in service.json("status")["roles"]["code"]["workers"]}


def test_a_worker_that_is_missed_comes_when_its_socket_is_there_again(service: Service) -> None:
    service.ctl("service", "install", "--run-as", USER, user="root")
    service.start_with("--invoker echo")
    supervisor, fleet = service.serving(), service.fleet()
    until(lambda: len(service.processes()) == 3, what="the end of the nursery", why=service.journal)
    service.systemctl("stop", SOCKET)
    gone = min(fleet)
    service.booted.run("kill", "-KILL", str(gone))
    until(lambda: "nursery_failed" in service.ctl("audit", "export"), what="a try in vain", why=service.journal)
    task = service.begin(3)
    assert len(service.processes()) == 2, "the supervisor and the other worker"
    service.systemctl("start", SOCKET)
    now = service.fleet()
    assert now & fleet == fleet - {gone}
    service.finished_once(task)
    assert int(service.show("MainPID")) == supervisor


def test_an_upgrade_from_one_unit_to_more_keeps_the_run_and_a_way_back_does_too(service: Service) -> None:
    service.ctl("service", "install", "--run-as", USER, "--landlock", user="root")
    service.start_with("--invoker echo")
    first, fleet = service.serving(), service.fleet()
    assert {unit_of(service, pid) for pid in fleet} == {UNIT}
    task = service.begin(8)
    service.ctl("service", "install", "--run-as", USER, user="root")
    service.systemctl("restart", UNIT)
    second = service.serving(after=first)
    assert service.fleet() == fleet
    service.finished_once(task)
    for pid in fleet:
        service.booted.run("kill", "-KILL", str(pid))
    until(lambda: not service.fleet() & fleet, what="new workers", why=service.journal)
    fleet = service.fleet()
    assert {unit_of(service, pid) for pid in fleet} == set(instances(service))

    task = service.begin(8)
    service.ctl("service", "install", "--run-as", USER, "--landlock", user="root")
    assert service.booted.run("systemctl", "is-active", SOCKET, check=False) == "inactive"
    service.systemctl("restart", UNIT)
    service.serving(after=second)
    assert service.fleet() == fleet, "without its file their unit would end them"
    service.finished_once(task)
    service.systemctl("stop", UNIT)
    assert service.processes() == []
    service.ctl("service", "uninstall", user="root")
    assert service.booted.run("sh", "-c", "ls /etc/systemd/system | grep ^ai-producer-", check=False) == ""
