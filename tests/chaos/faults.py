"""What goes wrong, one function a kind. Each does its harm at once; a fault that hit nothing is none.

A deed returns how often it struck, or, where it lasts, how it is ended, which says that then; None: it had no target.
What lasts is ended by the round after its seconds, or at its end, whichever comes first. What "struck" means is seen from
outside: a process that is dead or stopped, a disk without a free block, fsyncs that strace spoilt, frames that were lost.
Only processes of the round itself are ever touched: the supervisor that it started, and what carries the project's mark.
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
Struck = Callable[[], int] | int | None


def kill(kind: str) -> Callable[[Round], Struck]:
    """SIGKILL one process of a kind."""

    def harm(battle: Round) -> Struck:
        pid = battle.pick(kind)
        if not pid or not processes.tell(pid, signal.SIGKILL):
            return None
        return int(processes.comes_to(pid, "ZX"))

    return harm


def kill_nursery(battle: Round) -> Struck:
    """SIGKILL what forks the workers. It lives only while workers are wanted: a worker goes first, to call for it."""
    kill("worker")(battle)
    deadline = time.monotonic() + 3
    while (struck := kill("nursery")(battle)) is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return struck


def freeze(kind: str) -> Callable[[Round], Struck]:
    """SIGSTOP one process of a kind, SIGCONT it later."""

    def harm(battle: Round) -> Struck:
        pid = battle.pick(kind)
        if not pid or not processes.tell(pid, signal.SIGSTOP):
            return None
        stopped = processes.comes_to(pid, "TtZX")

        def end() -> int:
            processes.tell(pid, signal.SIGCONT)
            return int(stopped)

        return end

    return harm


def disk_full(battle: Round) -> Struck:
    """Fill the round's own small file system; without one, let no file of a process grow any more."""
    if battle.own_disk:
        filler = battle.room / "filler"
        with filler.open("ab", buffering=0) as file, suppress(OSError):
            for size in (1 << 20, 1 << 12, 1 << 6, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass
        full = int(os.statvfs(battle.room).f_bavail == 0)

        def end() -> int:
            filler.unlink(missing_ok=True)
            return full

        return end
    return _limited(battle, resource.RLIMIT_FSIZE, lambda pid: 4096)


def no_descriptors(battle: Round) -> Struck:
    """Leave a process no file descriptor but those that it has."""
    return _limited(battle, resource.RLIMIT_NOFILE, lambda pid: len(os.listdir(f"/proc/{pid}/fd")))


def _limited(battle: Round, what: int, limit: Callable[[int], int]) -> Struck:
    pid = battle.pick(battle.random.choice(("supervisor", "supervisor", "worker", "gateway")))
    if not pid or (battle.supervisor and pid == battle.supervisor.pid and time.monotonic() - battle.started < 1.5):
        return None  # one that is just starting would only leave and be started again
    try:
        _, hard = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (limit(pid), hard))
        holds = what == resource.RLIMIT_FSIZE or resource.prlimit(pid, what)[0] <= len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, ValueError):
        return None

    def end() -> int:
        for each in battle.everyone():  # whoever was started meanwhile has inherited it
            with suppress(OSError, ValueError):
                top = resource.prlimit(each, what)[1]
                resource.prlimit(each, what, (top, top))
        return int(holds)

    return end


def clock_jump(battle: Round) -> Struck:
    """Set the clock of every process a day forward or back; ended it jumps again. Struck: those that look at it."""
    battle.clock.write_text(f"{battle.random.choice((DAY, -DAY)):+d}\n")

    def end() -> int:
        struck = sum(processes.has_loaded(pid, b"libfaketime") for pid in battle.everyone())
        battle.clock.write_text("+0\n")
        return struck

    return end


def io_error(battle: Round) -> Struck:
    """Let every fsync of the supervisor end with EIO; nobody else waits for a disk."""
    pid = battle.pick("supervisor")
    if not pid or not shutil.which("strace"):
        return None
    log = battle.site / f"eio-{time.monotonic_ns()}"
    command = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=fsync,fdatasync", "-e",
               "inject=fsync,fdatasync:error=EIO", "-p", str(pid)]  # fmt: skip
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    processes.comes_to_be_traced(pid)

    def end() -> int:
        tracer.send_signal(signal.SIGINT)  # it lets go of what it traces
        try:
            tracer.wait(10)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        processes.tell(pid, signal.SIGCONT)
        return log.read_text().count("(INJECTED)") if log.exists() else 0

    return end


def frames(kind: str) -> Callable[[Round], Struck]:
    """For a while, lose, repeat or hold back some of what all processes send to each other."""

    def harm(battle: Round) -> Struck:
        if time.monotonic() - battle.started < 1.5:
            return None  # nobody says anything yet
        plan = {"kind": kind, "until": time.monotonic() + 5, "share": battle.random.choice((0.2, 0.4, 0.7)),
                "seconds": battle.random.uniform(0.05, 0.5)}  # fmt: skip
        before = _hit(battle.site, kind)
        _replace(battle.site / "frames", json.dumps(plan))

        def end() -> int:
            (battle.site / "frames").unlink(missing_ok=True)
            return _hit(battle.site, kind) - before

        return end

    return harm


def restart(battle: Round) -> Struck:
    """`producerctl restart`: the supervisor goes and comes, the fleet stays."""
    return 1 if battle.ask("restart", 1.5) else None


def kill_now(battle: Round) -> Struck:
    """`producerctl kill --now`, and `resume` later."""
    if not battle.ask("kill", 4.0, reason="chaos", now=True):
        return None
    return lambda: int(battle.resume())


def _hit(site: Path, kind: str) -> int:
    """How many frames were lost, doubled or late so far: each leaves two letters in a file (site/sitecustomize.py)."""
    hits = site / "hits"
    return hits.read_bytes().count(kind[:2].encode()) if hits.exists() else 0


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


# name: (how often relative to the others, least and most seconds that it lasts, the deed)
EVERYWHERE: dict[str, tuple[int, float, float, Callable[[Round], Struck]]] = {
    "SIGKILL supervisor": (4, 0, 0, kill("supervisor")),
    "SIGKILL worker": (4, 0, 0, kill("worker")),
    "SIGKILL nursery": (1, 0, 0, kill_nursery),
    "SIGKILL writer": (2, 0, 0, kill("writer")),
    "SIGSTOP supervisor": (3, 0.3, 2.0, freeze("supervisor")),
    "SIGSTOP worker": (3, 0.3, 3.0, freeze("worker")),
    "disk full": (3, 0.3, 2.0, disk_full),
    "clock jump of a day": (3, 0.3, 2.0, clock_jump),
    "fd exhaustion": (3, 0.3, 1.5, no_descriptors),
    "EIO on fsync": (3, 0.5, 1.5, io_error),
    "frames dropped": (3, 0.7, 2.5, frames("drop")),
    "frames duplicated": (3, 0.7, 2.5, frames("duplicate")),
    "frames delayed": (3, 0.7, 2.5, frames("delay")),
    "producerctl restart": (2, 0, 0, restart),
    "kill --now, resume": (1, 0.5, 1.0, kill_now),
}
CLAUDE = {
    "SIGKILL gateway": (8, 0.0, 0.0, kill("gateway")),
    "SIGKILL CLI": (8, 0.0, 0.0, kill("cli")),
    "SIGSTOP gateway": (6, 0.3, 2.0, freeze("gateway")),
    "SIGSTOP CLI": (6, 0.3, 2.0, freeze("cli")),
}


def available(*, rehearsed: bool, clock: bool) -> dict[str, tuple[int, float, float, Callable[[Round], Struck]]]:
    """The kinds that a round can have on this machine; ``clock``: there is a libfaketime."""
    kinds = {**(CLAUDE if rehearsed else {}), **EVERYWHERE}
    if not clock:
        kinds.pop("clock jump of a day")
    if not shutil.which("strace"):
        kinds.pop("EIO on fsync")
    return kinds
