"""What goes wrong, one function a kind. Each does its harm at once and returns how it is undone, or None: no target.

A fault that lasts is undone by the round after its seconds, or at its end, whichever comes first. Only processes of the
round itself are ever touched: the supervisor that it started, and what carries the project's mark.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import processes

if TYPE_CHECKING:
    from battle import Round

DAY = 86_400
ALWAYS = "a process of its own"  # the fault has nothing to undo
Undo = Callable[[], None] | str | None


def kill(kind: str) -> Callable[[Round], Undo]:
    """SIGKILL one process of a kind."""

    def harm(battle: Round) -> Undo:
        pid = battle.pick(kind)
        return ALWAYS if pid and processes.tell(pid, signal.SIGKILL) else None

    return harm


def freeze(kind: str) -> Callable[[Round], Undo]:
    """SIGSTOP one process of a kind, SIGCONT it later."""

    def harm(battle: Round) -> Undo:
        pid = battle.pick(kind)
        if not pid or not processes.tell(pid, signal.SIGSTOP):
            return None
        return lambda: void(processes.tell(pid, signal.SIGCONT))

    return harm


def disk_full(battle: Round) -> Undo:
    """Fill the round's own small file system; without one, let no file of a process grow any more."""
    if battle.own_disk:
        filler = battle.room / "filler"
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            for size in (1 << 20, 1 << 12, 1 << 6, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        return lambda: filler.unlink(missing_ok=True)
    return _limited(battle, resource.RLIMIT_FSIZE, lambda pid: 4096)


def no_descriptors(battle: Round) -> Undo:
    """Leave a process no file descriptor but those that it has."""
    return _limited(battle, resource.RLIMIT_NOFILE, lambda pid: len(os.listdir(f"/proc/{pid}/fd")))


def _limited(battle: Round, what: int, limit: Callable[[int], int]) -> Undo:
    pid = battle.pick(battle.random.choice(("supervisor", "supervisor", "worker", "gateway")))
    if not pid or (battle.supervisor and pid == battle.supervisor.pid and time.monotonic() - battle.started < 1.5):
        return None  # one that is just starting would only leave and be started again
    try:
        _, hard = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (limit(pid), hard))
    except (OSError, ValueError):
        return None

    def undo() -> None:
        for each in battle.everyone():  # whoever was started meanwhile has inherited it
            with suppress(OSError, ValueError):
                top = resource.prlimit(each, what)[1]
                resource.prlimit(each, what, (top, top))

    return undo


def clock_jump(battle: Round) -> Undo:
    """Set the clock of every process a day forward or back; undone it jumps again."""
    battle.clock.write_text(f"{battle.random.choice((DAY, -DAY)):+d}\n")
    return lambda: void(battle.clock.write_text("+0\n"))


def io_error(battle: Round) -> Undo:
    """Let every fsync of the supervisor or the gateway end with EIO."""
    pid = battle.pick(battle.random.choice(("supervisor", "supervisor", "gateway")))
    if not pid or not shutil.which("strace"):
        return None
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e",
               "inject=fsync,fdatasync:error=EIO", "-p", str(pid)]  # fmt: skip
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def undo() -> None:
        tracer.send_signal(signal.SIGINT)  # it lets go of what it traces
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        processes.tell(pid, signal.SIGCONT)

    return undo


def frames(kind: str) -> Callable[[Round], Undo]:
    """For a while, lose, repeat or hold back some of what all processes send to each other."""

    def harm(battle: Round) -> Undo:
        seconds = battle.random.uniform(0.3, 1.0)
        plan = {"kind": kind, "until": time.monotonic() + seconds, "share": battle.random.choice((0.1, 0.3, 0.6)),
                "seconds": battle.random.uniform(0.05, 0.5)}  # fmt: skip
        _replace(battle.site / "frames", json.dumps(plan))
        return lambda: (battle.site / "frames").unlink(missing_ok=True)

    return harm


def restart(battle: Round) -> Undo:
    """`producerctl restart`: the supervisor goes and comes, the fleet stays."""
    return ALWAYS if battle.ask("restart", 1.5) else None


def kill_now(battle: Round) -> Undo:
    """`producerctl kill --now`, and `resume` later."""
    if not battle.ask("kill", 4.0, reason="chaos", now=True):
        return None
    return lambda: void(battle.resume())


def void(_: object) -> None:
    """For a lambda whose value nobody wants."""


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


# name: (how often relative to the others, least and most seconds that it lasts, the deed)
EVERYWHERE: dict[str, tuple[int, float, float, Callable[[Round], Undo]]] = {
    "SIGKILL supervisor": (4, 0, 0, kill("supervisor")),
    "SIGKILL worker": (4, 0, 0, kill("worker")),
    "SIGKILL writer": (2, 0, 0, kill("writer")),
    "SIGSTOP supervisor": (3, 0.3, 2.0, freeze("supervisor")),
    "SIGSTOP worker": (3, 0.3, 3.0, freeze("worker")),
    "disk full": (3, 0.3, 2.0, disk_full),
    "clock jump of a day": (3, 0.3, 2.0, clock_jump),
    "fd exhaustion": (3, 0.3, 1.5, no_descriptors),
    "EIO on fsync": (3, 0.5, 1.5, io_error),
    "frames dropped": (3, 0.3, 1.0, frames("drop")),
    "frames duplicated": (3, 0.3, 1.0, frames("duplicate")),
    "frames delayed": (3, 0.3, 1.0, frames("delay")),
    "producerctl restart": (2, 0, 0, restart),
    "kill --now, resume": (1, 0.5, 1.0, kill_now),
}
CLAUDE = {
    "SIGKILL gateway": (8, 0.0, 0.0, kill("gateway")),
    "SIGKILL CLI": (8, 0.0, 0.0, kill("cli")),
    "SIGSTOP gateway": (6, 0.3, 2.0, freeze("gateway")),
    "SIGSTOP CLI": (6, 0.3, 2.0, freeze("cli")),
}
