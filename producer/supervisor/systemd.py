"""sd_notify: telling the service manager how the supervisor is, over the socket it names. Silent without one."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from producer.core.text import one_line


class Notifier:
    """Sends states such as READY=1 to NOTIFY_SOCKET; ``interval``: half the watchdog's seconds, None without one."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        watched = env.get("WATCHDOG_USEC", "")
        mine = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval = int(watched) / 2e6 if watched.isdigit() and mine else None

    @property
    def heard(self) -> bool:
        """Whether there is somebody to tell."""
        return bool(self._address)

    def tell(self, *states: str) -> bool:
        """Send; False where there is nobody to tell."""
        if not self._address.startswith(("/", "@")):
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.sendto("\n".join(states).encode(), address)
        except OSError:
            return False
        return True


def status_line(found: Mapping[str, Any], waiting: str) -> str:
    """STATUS= of `systemctl status`, out of `status --json`: what waits, runs, was spent, the switch."""
    workers = [worker for role in found["roles"].values() for worker in role["workers"]]
    running = sum(worker["attempt"] is not None for worker in workers)
    spent = found["budget"]["project"]["spent_usd"]
    switch = "ARMED" if found["kill_switch"]["armed"] else "off"
    text = f"STATUS={found['project']}: {waiting} waiting, {running} running, {spent} USD spent, kill switch {switch}"
    return one_line(text, 500)


def restarting(env: Mapping[str, str] = os.environ) -> bool:
    """Whether the service manager ends us to start us again: TERM alone does not tell `restart` from `stop`."""
    if not env.get("INVOCATION_ID") or not env.get("NOTIFY_SOCKET"):
        return False
    try:
        unit = Path("/proc/self/cgroup").read_text().strip().rsplit("/", 1)[-1]
        scope = ["--user"] if "/user@" in Path("/proc/self/cgroup").read_text() else []
        command = ["systemctl", *scope, "list-jobs", "--no-legend", "--plain", unit]
        jobs = subprocess.run(command, capture_output=True, text=True, timeout=3.0, check=False).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return any(words[1:3] == [unit, "restart"] for words in map(str.split, jobs.splitlines()))
