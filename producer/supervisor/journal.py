"""One line in systemd's journal for every audit row about a task, with the fields TASK, ATTEMPT, ROLE, ACTION.

Only under systemd, which sets JOURNAL_STREAM; nothing is sent elsewhere. It is a copy for people: the audit log is what
counts, so a row that the journal does not take is dropped, and nothing ever waits for it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

from producer.core.text import one_line

SOCKET = "/run/systemd/journal/socket"
LONGEST = 1000


class Journal:
    """The journal's native socket."""

    def __init__(self, env: Mapping[str, str] = os.environ, path: str = SOCKET) -> None:
        self._path = path
        self.there = bool(env.get("JOURNAL_STREAM"))

    def send(self, body: Mapping[str, Any]) -> bool:
        """The row's line; False where the row is about no task or nobody takes it."""
        if not (self.there and body.get("task")):
            return False
        action, task = str(body["action"]), str(body["task"])
        fields = {
            "MESSAGE": one_line(f"{action} task {task} {body.get('actor', '')}", LONGEST),
            "PRIORITY": "4" if action == "escalation" else "6",
            "SYSLOG_IDENTIFIER": "ai-producer",
            "ACTION": action,
            "TASK": task,
            "ATTEMPT": body.get("attempt"),
            "ROLE": (body.get("detail") or {}).get("role") or body.get("actor"),
        }
        content = b"".join(_field(name, str(value)) for name, value in fields.items() if value)
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            ) as channel:
                channel.sendto(content, self._path)
        except OSError:
            return False
        return True


def _field(name: str, value: str) -> bytes:
    """A field with its length, so that nothing in the value can begin another one."""
    raw = value.encode("utf-8", "backslashreplace")[:LONGEST]
    return name.encode() + b"\n" + struct.pack("<Q", len(raw)) + raw + b"\n"
