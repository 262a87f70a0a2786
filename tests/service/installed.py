"""The installed service in a booted systemd, as tests speak to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from booted import PROGRAM, Booted
from driving import SOURCE, until

UNIT = "ai-producer.service"
WORKERS = "ai-producer-workers@*.service"
SOCKET = "ai-producer-workers.socket"
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
        self.filed.clear()
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
        text = tasks + self.booted.run("journalctl", "-u", UNIT, "-u", WORKERS, "--no-pager", "-n", "60", check=False)
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
