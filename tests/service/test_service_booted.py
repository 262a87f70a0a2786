"""The installed service in a real, booted systemd: what outlives what, and what is left at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from booted import PROGRAM, Booted, problem
from driving import SOURCE, until

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]
UNIT = "ai-producer.service"
USER = "aiproducer"
PROJECT = "/srv/game"
CONFIG = {
    "project_name": "game",
    "default_model": "claude-sonnet-5-5",
    "shutdown_grace_seconds": 4,
    "budget": {
        "project_ceiling_usd": 100,
        "agents": {
            "code": {
                "daily_cap_usd": 5,
                "dispatch_reservation_usd": 0.01,
                "workers": 2,
                "allowed_tools": ["Read"],
                "sandbox": "bwrap",
            }
        },
    },
}


class Service:
    """The service in a booted systemd."""

    def __init__(self, booted: Booted) -> None:
        self.booted = booted
        venv = f"{PROGRAM}/{Path(sys.prefix).resolve().relative_to(SOURCE)}"
        self.program = f"{venv}/bin/producerctl"
        for prefix in Path(sys.base_prefix).resolve().parents:
            booted.run("chmod", "o+x", str(prefix))
        booted.write(self.program, f"#!{venv}/bin/python\nfrom producer.cli import main\nraise SystemExit(main())\n")
        site = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        booted.run("sh", "-c", f"rm {site}/_editable*ai_producer* && echo {PROGRAM} >{site}/program.pth")
        booted.run("useradd", "--system", "--home-dir", "/nonexistent", USER)
        self.configure(5)
        booted.run("chown", "-R", USER, PROJECT)

    def configure(self, cap: float) -> None:
        """producer.yaml, with a daily cap."""
        CONFIG["budget"]["agents"]["code"]["daily_cap_usd"] = cap  # type: ignore[index]
        self.booted.write(f"{PROJECT}/producer.yaml", yaml.safe_dump(CONFIG))

    def ctl(self, *words: str, user: str = USER) -> str:
        """A command of the program, as the service's user."""
        config = f"{PROJECT}/producer.yaml"
        return self.booted.run("runuser", "-u", user, "--", self.program, "--config", config, *words)

    def json(self, *words: str) -> Any:
        """The same, with --json."""
        return json.loads(self.ctl(*words, "--json"))

    def systemctl(self, *words: str) -> str:
        """systemctl."""
        return self.booted.run("systemctl", *words)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.systemctl("show", UNIT, "--value", "-p", name)

    def journal(self) -> str:
        """What to read when something did not come about."""
        text = self.booted.run("journalctl", "--no-pager", "-n", "120", check=False)
        return text + self.booted.run("ps", "-eo", "user,pid,ppid,etimes,args", check=False)

    def serving(self, after: int = 0) -> int:
        """Wait until a supervisor other than ``after`` serves; its pid."""

        def ready() -> int:
            pid = int(self.show("MainPID") or 0)
            return pid if pid != after and self.show("ActiveState") == "active" else 0

        return until(ready, 90, "a serving supervisor", self.journal)

    def processes(self) -> list[str]:
        """The living processes of the service's user."""
        return self.booted.run("ps", "-u", USER, "-o", "pid=,args=", check=False).splitlines()

    def begin(self, seconds: float) -> str:
        """A task that runs, for so long; its id."""
        payload = json.dumps({"sleep_seconds": seconds})
        words = ("--agent", "code", "--title", "a run", "--description", "sleep", "--payload", payload)
        task = str(self.json("task", "add", *words)["id"])
        until(lambda: self.task(task)["status"] == "in_progress", what="the run's start", why=self.journal)
        return task

    def task(self, ident: str) -> dict[str, Any]:
        """A task with its attempts."""
        found: dict[str, Any] = self.json("task", "show", ident)
        return found

    def finished_once(self, ident: str) -> None:
        """The task ends, in the attempt in which it began."""
        done = until(lambda: (t := self.task(ident))["status"] == "done" and t, what="the run's end", why=self.journal)
        assert [attempt["state"] for attempt in done["attempts"]] == ["succeeded"], done["attempts"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if why := problem(tmp_path_factory.mktemp("boot-trial")):
        pytest.skip(why)
    booted = Booted(tmp_path_factory.mktemp("booted"))
    try:
        yield Service(booted)
    finally:
        booted.close()


def test_a_service_from_its_installation_to_its_removal(service: Service) -> None:
    service.ctl("service", "install", "--run-as", USER, user="root")
    assert service.systemctl("is-enabled", UNIT) == "enabled"
    start = next(line for line in service.systemctl("cat", UNIT).splitlines() if line.startswith("ExecStart="))
    service.booted.write(
        f"/etc/systemd/system/{UNIT}.d/test.conf",
        f"[Service]\nExecStart=\n{start} --invoker echo\nWatchdogSec=3s\nRestartSec=100ms\n",
    )
    service.systemctl("daemon-reload")
    service.systemctl("start", UNIT)
    first = service.serving()
    until(lambda: "0 waiting, 0 running" in service.show("StatusText"), what="the status text", why=service.journal)

    # killed: started again, the run goes on
    task = service.begin(12)
    service.booted.run("kill", "-KILL", str(first))
    second = service.serving(after=first)
    service.finished_once(task)

    # restarted: the fleet stays
    task = service.begin(8)
    before = {line for line in service.processes() if "producer.workers" in line}
    service.systemctl("restart", UNIT)
    third = service.serving(after=second)
    assert before and before <= set(service.processes())
    service.finished_once(task)

    # hung: ended by the watchdog, started again, the run goes on
    task = service.begin(12)
    service.booted.run("kill", "-STOP", str(third))
    fourth = service.serving(after=third)
    assert "watchdog" in service.booted.run("journalctl", "-u", UNIT, "--no-pager").lower()
    service.finished_once(task)

    # reloaded: a new cap, the same process
    service.configure(7)
    service.systemctl("reload", UNIT)
    until(
        lambda: service.json("status")["budget"]["roles"]["code"]["cap_usd"] == "7.00",
        what="the new cap",
        why=lambda: str(service.json("budget")),
    )
    assert int(service.show("MainPID")) == fourth

    # stopped with a run in flight: nothing is left
    task = service.begin(60)
    service.systemctl("stop", UNIT)
    assert service.processes() == []
    assert service.task(task)["status"] == "pending"

    service.ctl("service", "uninstall", user="root")
    assert service.booted.run("systemctl", "is-enabled", UNIT, check=False) in ("", "not-found")
