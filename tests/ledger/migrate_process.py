"""A migration in a process of its own that dies at a chosen moment, or has no room on its disk."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from producer.errors import ProducerError
from producer.ledger import migrate as module


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(step: str, when: str) -> None:
    owner, _, name = step.rpartition(".")
    place: Any = getattr(module, owner) if owner else module
    real = getattr(place, name)

    def call(*values: Any, **named: Any) -> Any:
        if when == "before":
            die()
        result = real(*values, **named)
        die()
        return result

    setattr(place, name, call)


def kill_at_rename(number: int) -> None:
    real, seen = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        seen.append(self)
        if len(seen) == number:
            die()
        return real(self, target)

    Path.rename = rename  # type: ignore[method-assign]


def leave_room(size: int) -> None:
    """No file may grow beyond this: what a full disk looks like from here."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


if __name__ == "__main__":
    ledger, how, argument = sys.argv[1:]
    if how == "room":
        leave_room(int(argument))
    elif how == "rename":
        kill_at_rename(int(argument))
    else:
        kill_at(how, argument)
    try:
        module.migrate(ledger)
    except ProducerError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(1)
