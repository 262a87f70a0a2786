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
}


class Service:
    """The service in a booted systemd."""

    units = "/etc/systemd/system"

    def __init__(self, booted: Booted) -> None:
        self.booted, self.filed = booted, list[str]()
        venv = f"{PROGRAM}/{Path(sys.prefix).resolve().relative_to(SOURCE)}"
        self.program = f"{venv}/bin/producerctl"
        for prefix in Path(sys.base_prefix).resolve().parents:
            booted.run("chmod", "o+x", str(prefix))
        booted.write(self.program, f"#!{venv}/bin/python\nfrom producer.cli import main\nraise SystemExit(main())\n")
        site = f"{venv}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        booted.run("sh", "-c", f"rm {site}/_editable*ai_producer* && echo {PROGRAM} >{site}/program.pth")
        booted.run("useradd", "--system", "--home-dir", "/nonexistent", USER)
        self.configure(5)
        booted.run("mkdir", f"{PROJECT}/work")
        booted.run("chown", "-R", USER, PROJECT)

    def configure(self, cap: float, **role: Any) -> None:
        """producer.yaml, with a daily cap and what else the role has."""
        code = {"daily_cap_usd": cap, "dispatch_reservation_usd": 0.01, "workers": 2, "allowed_tools": ["Read"], **role}
        budget = {"project_ceiling_usd": 100, "agents": {"code": code}}
        self.booted.write(f"{PROJECT}/producer.yaml", yaml.safe_dump({**CONFIG, "budget": budget}))

    def fleet(self) -> set[int]:
        """The pids of the workers, once both are there."""

        def whole() -> set[int]:
            workers = self.json("status")["roles"]["code"]["workers"]
            return {worker["pid"] for worker in workers if worker["state"] in ("idle", "busy")}

        return until(lambda: len(found := whole()) == 2 and found, what="two workers", why=self.journal) or set()

    def forget(self) -> None:
        """Begin with an empty ledger: a task that an earlier test left would run beside those of the next."""
        self.booted.run("rm", "-rf", f"{PROJECT}/agent-state", "/var/lib/ai-producer", "/run/ai-producer")

    def mode(self) -> str:
        """How the role's agents are held."""
        return str(self.json("status")["roles"]["code"]["sandbox"]["mode"])

    def there(self, name: str) -> bool:
        """Whether a file is in the project."""
        return bool(self.booted.run("sh", "-c", 'test -e "$0" && echo yes', f"{PROJECT}/{name}", check=False))

    def ctl(self, *words: str, user: str = USER) -> str:
        """A command of the program, as the service's user."""
        config = f"{PROJECT}/producer.yaml"
        change = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
        return self.booted.run(*change, self.program, "--config", config, *words)

    def json(self, *words: str) -> Any:
        """The same, with --json."""
        return json.loads(self.ctl(*words, "--json"))

    def systemctl(self, *words: str) -> str:
        """systemctl."""
        return self.booted.run("systemctl", *words)

    def start_with(self, options: str, *settings: str) -> None:
        """Start it, with further options of `run` and other settings in a drop-in."""
        unit = self.systemctl("cat", UNIT).splitlines()
        start = next(line for line in unit if line.startswith("ExecStart="))
        lines = ["[Service]", "ExecStart=", f"{start} {options}", *settings]
        self.booted.write(f"{self.units}/{UNIT}.d/test.conf", "\n".join(lines) + "\n")
        self.systemctl("daemon-reload")
        self.systemctl("start", UNIT)

    def show(self, name: str) -> str:
        """A property of the unit."""
        return self.systemctl("show", UNIT, "--value", "-p", name)

    def journal(self) -> str:
        """What to read when something did not come about."""
        tasks = "".join(f"{self.task(task)}\n" for task in self.filed)
        text = tasks + self.booted.run("journalctl", "-u", UNIT, "--no-pager", "-n", "60", check=False)
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
        self.filed.append(task)
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


class OwnService(Service):
    """The service of a user's own service manager."""

    units = "/srv/home/.config/systemd/user"

    def __init__(self, machine: Service) -> None:
        self.booted, self.filed, self.program = machine.booted, list[str](), machine.program
        self.forget()
        self.booted.run("usermod", "--home", "/srv/home", USER)
        self.booted.run("install", "-d", "-o", USER, "/srv/home", f"{self.units}/{UNIT}.d")
        self.booted.run("chown", "-R", USER, "/srv/home")
        self.uid = self.booted.run("id", "-u", USER)
        self.booted.run("systemctl", "start", f"user@{self.uid}.service")

    def as_user(self, *command: str) -> str:
        """A command as the user, with what a login sets."""
        change = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
        return self.booted.run(*change, "env", f"XDG_RUNTIME_DIR=/run/user/{self.uid}", "HOME=/srv/home", *command)

    def ctl(self, *words: str, user: str = USER) -> str:
        """A command of the program, as the user."""
        return self.as_user(self.program, "--config", f"{PROJECT}/producer.yaml", *words)

    def systemctl(self, *words: str) -> str:
        """systemctl --user."""
        return self.as_user("systemctl", "--user", *words)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    if why := problem(tmp_path_factory.mktemp("boot-trial")):
        pytest.skip(why)
    booted = Booted(tmp_path_factory.mktemp("booted"))
    try:
        yield Service(booted)
    finally:
        booted.close()


@pytest.fixture
def service(machine: Service) -> Iterator[Service]:
    machine.forget()
    yield machine
    machine.booted.run("systemctl", "stop", UNIT, check=False)


def test_a_service_from_its_installation_to_its_removal(service: Service) -> None:
    key = "/etc/ai-producer-audit.key"
    service.booted.write(key, service.ctl("audit", "key", "--new", user="root") + "\n")
    service.booted.run("chmod", "600", key)
    service.ctl("service", "install", "--run-as", USER, "--credential", f"audit.key={key}", user="root")
    assert service.systemctl("is-enabled", UNIT) == "enabled"
    service.start_with("--invoker echo", "WatchdogSec=3s", "RestartSec=100ms")
    first = service.serving()
    until(lambda: "0 waiting, 0 running" in service.show("StatusText"), what="the status text", why=service.journal)

    # the credential signs: no key was made
    made = service.booted.run("find", "/var/lib/ai-producer", "-name", "audit.*").splitlines()
    assert {Path(path).name for path in made} & {"audit.key", "audit.pub"} == {"audit.pub"}

    # killed: started again, the run goes on
    task = service.begin(12)
    service.booted.run("kill", "-KILL", str(first))
    second = service.serving(after=first)
    service.finished_once(task)

    # restarted: the fleet stays
    task = service.begin(8)
    before = service.fleet()
    service.systemctl("restart", UNIT)
    third = service.serving(after=second)
    assert service.fleet() == before
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


@pytest.mark.e2e
@pytest.mark.parametrize("sandbox", ["bwrap", "landlock", "none"])
def test_a_real_agent_works_on_in_its_sandbox_over_a_restart(service: Service, sandbox: str) -> None:
    begun, go, seen = (f"{{cwd}}/work/{name}-{sandbox}" for name in ("begun", "go", "seen"))
    place = {"landlock": "$CLAUDE_CODE_TMPDIR"}.get(sandbox, "/tmp")
    first = f"echo kept >{place}/here; touch {begun}; until [ -e {go} ]; do sleep 0.1; done"
    then = f"cat {place}/here >{seen}; cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'producerct[l]' >>{seen}; ls /run >>{seen}"
    turns = [{"text": "Working.", "tools": [{"name": "Bash", "input": {"command": word}}]} for word in (first, then)]
    script = {"roles": {"code": [{"turns": [*turns, {"text": "Done."}]}]}}
    service.booted.write("/srv/script.yaml", json.dumps(script))
    closed = sandbox == "landlock"  # the closed unit: `auto` has to find that out
    service.configure(5, sandbox="auto" if closed else sandbox, allowed_tools=["Bash"])
    service.ctl("service", "install", "--run-as", USER, *(["--landlock"] if closed else []), user="root")
    service.start_with("--rehearse /srv/script.yaml", "RestartSec=100ms")
    pid = service.serving()
    until(lambda: service.mode() == sandbox, what=f"{sandbox} as the sandbox", why=service.journal)
    task = service.begin(0)
    until(lambda: service.there(f"work/begun-{sandbox}"), what="the agent's first command", why=service.journal)
    service.systemctl("restart", UNIT)
    service.serving(after=pid)
    service.booted.run("touch", f"{PROJECT}/work/go-{sandbox}")
    service.finished_once(task)
    kept, supervisors, *run = service.booted.run("cat", f"{PROJECT}/work/seen-{sandbox}").split()
    assert kept == "kept"
    assert closed or supervisors == "0"  # with no namespaces at all, the processes outside can be seen
    assert sandbox != "bwrap" or run == ["ai-producer"]
    service.systemctl("stop", UNIT)
    assert service.processes() == []
    service.ctl("service", "uninstall", user="root")


def test_a_service_of_the_users_own_keeps_the_fleet_at_a_restart_and_leaves_nothing_at_a_stop(service: Service) -> None:
    own = OwnService(service)
    own.configure(5)
    own.ctl("service", "install", "--user")
    assert own.systemctl("is-enabled", UNIT) == "enabled"
    own.start_with("--invoker echo", "RestartSec=100ms")
    pid = own.serving()
    task = own.begin(8)
    before = own.fleet()
    own.systemctl("restart", UNIT)
    own.serving(after=pid)
    assert own.fleet() == before
    own.finished_once(task)
    own.begin(60)
    own.systemctl("stop", UNIT)
    assert [line for line in own.processes() if "ai-producer" in line] == []
    own.ctl("service", "uninstall", "--user")
