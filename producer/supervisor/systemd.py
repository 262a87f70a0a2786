"""sd_notify: telling the service manager how the supervisor is, over the socket it names. Silent without one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states such as READY=1 to NOTIFY_SOCKET; ``interval``: half the watchdog's seconds, None without one."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        self._address = env.get("NOTIFY_SOCKET", "")
        watched = env.get("WATCHDOG_USEC", "")
        mine = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.interval = int(watched) / 2e6 if watched.isdigit() and mine else None

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
