"""What keeps an agent's processes together and its environment clean.

1. The worker is a subreaper: a daemon that double-forks becomes the worker's child instead of pid 1's, so that a sweep
   of the worker's descendants finds it, whatever it did to its session, its group or its environment.
2. The claude process is started through a launcher script that (a) unsets every inherited variable that is not meant
   for it (the SDK passes the worker's whole environment on), (b) has it die with the worker, and (c) puts it and all
   its descendants into a PID namespace where the machine allows one: then they end together, in the kernel.
3. In the namespace a TERM to the outer process is not passed on; the worker's ladder signals the inner ones itself.
4. Names, never values, stand in the launcher: nothing secret is on a command line or in a file.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path

from producer.reaper import ATTEMPT_MARKER, PROJECT_MARKER

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ALLOWED = frozenset({"PATH", "LANG", "LANGUAGE", "TZ", "TERM"})
ALLOWED_PREFIX = "LC_"


class Containment(StrEnum):
    """How firmly a claude process is held, best first."""

    NAMESPACE = "namespace"
    USER_NAMESPACE = "user-namespace"
    DEATH_SIGNAL = "death-signal"
    PLAIN = "plain"


_DEATH = ["setpriv", "--pdeathsig", "KILL", "--"]
_SPACE = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"]
_COMMANDS = {
    Containment.NAMESPACE: [*_DEATH, "unshare", *_SPACE],
    Containment.USER_NAMESPACE: [*_DEATH, "unshare", "--user", "--map-current-user", *_SPACE],
    Containment.DEATH_SIGNAL: _DEATH,
    Containment.PLAIN: [],
}


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process. False where the system has no such thing."""
    return _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int) -> bool:
    """Have the kernel send this process a signal when the thread that started it ends."""
    return _prctl(PR_SET_PDEATHSIG, number)


@cache
def containment() -> Containment:
    """The firmest containment that works here, found by trying each (once a process)."""
    for kind, command in _COMMANDS.items():
        if not command or (shutil.which(command[0]) and _works([*command, "true"])):
            return kind
    return Containment.PLAIN


def clean_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that says how to run, and nothing about whom for."""
    return {k: v for k, v in inherited.items() if k in ALLOWED or k.startswith(ALLOWED_PREFIX)}


def markers(project: str, attempt: str) -> dict[str, str]:
    """The variables by which a process is known to belong to an attempt of a project."""
    return {ATTEMPT_MARKER: attempt, PROJECT_MARKER: project}


def write_launcher(
    path: Path, executable: str, unset: Iterable[str], kind: Containment, sandbox: Sequence[str] = ()
) -> Path:
    """Write the script that stands in for ``executable``: unset, contain, exec. Returns ``path``, mode 0700.

    ``sandbox``: the words that put it into its sandbox, within the containment.
    """
    names: list[str] = []
    odd: list[str] = []
    for name in unset:
        (names if name.isidentifier() and name.isascii() else odd).append(name)
    away = ["env", *(word for name in sorted(odd) for word in ("-u", name))] if odd else []
    command = shlex.join([*away, *_COMMANDS[kind], *sandbox, executable])
    lines = ["#!/bin/sh", *(f"unset {name}" for name in sorted(names)), f'exec {command} "$@"', ""]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text("\n".join(lines))
    fresh.chmod(stat.S_IRWXU)
    fresh.replace(path)
    return path


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
