"""A task's message as the sandbox wants it: the one place where a claude process gets its sandbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from producer.sandbox import Ground, Way, Wishes, choice, enclose
from producer.wire.messages import TaskMsg
from producer.workers import options
from producer.workers.isolation import Containment, containment


def survey() -> Containment:
    """Find out what holds a process on this machine, once for all workers that are forked from this one."""
    choice.bwrap_problem()
    return containment()


class Enclosure(NamedTuple):
    """How a process is held: its containment, the words before its own, and what its environment needs for it."""

    kind: Containment
    words: list[str]
    env: dict[str, str]


def enclosed(task: TaskMsg, executable: str, path: str, kind: Containment) -> Enclosure:
    """How a task's process is to be held. Raises SandboxMissing.

    ``kind`` is what holds it where the sandbox is no PID namespace of its own; ``path``: the process's PATH.
    """
    port = urlsplit(task.base_url or "").port
    way, words = enclose(Wishes.of(task.sandbox), ground(task, executable, path), port, outlet_of(task))
    # Under Landlock there is no /tmp; in bubblewrap there is, and its name is short enough for every socket in it.
    env = {"TMPDIR": str(options.scratch(task))} if way is Way.LANDLOCK else {}
    return Enclosure(Containment.PLAIN if way is Way.BWRAP else kind, words, env)


def ground(task: TaskMsg, executable: str, path: str) -> Ground:
    """Where the task's process stands."""
    own = Path(task.config_dir).parent
    inherit = task.auth == "inherit"
    config = options.config_dir(task, os.environ)
    home = Path.home() / ".claude.json" if inherit else Path(task.home)
    return Ground(
        cwd=Path(task.cwd),
        worktree=Path(task.workspace["path"]) if task.workspace else None,
        task=own,
        own=(config, home, options.scratch(task)),
        needs=(Path(executable), own / "system_prompt.md"),
        path=path,
        home=Path.home() if inherit else None,
    )


def outlet_of(task: TaskMsg) -> Path | None:
    """The directory of the socket that leads to the gateway; None where the role has the machine's network."""
    return Path(task.config_dir).parent / "outlet" if Wishes.of(task.sandbox).network != "full" else None
