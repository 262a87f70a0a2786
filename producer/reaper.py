"""Finds and ends every process that belongs to something, and counts what is left.

1. A process belongs when its environment holds one of the family's entries (`NAME=value`), or when it descends from
   such a process or from the family's root. Neither is enough alone: a double fork loses the ancestry unless a
   subreaper collects the orphans, and a cleared environment loses the entry.
2. The ladder is TERM, a grace, then KILL. The first process of a PID namespace is killed first: the kernel then ends
   all that is in there; in a hurry (a grace below HURRY) before the TERM even. TERM is not for what holds a namespace
   from outside: it would end it at once, and the grace of all in it. The rest is frozen with STOP until nothing new
   turns up, and then killed: one by one, a tree that forks outruns its killer; frozen, it cannot fork. Outside a
   namespace a bomb that doubles faster than /proc can be read still wins; only a limit on pids (a cgroup) stops it.
3. What was killed is looked for again until nothing is found or the limit has passed. Survivors are counted, never
   assumed. Zombies are not survivors.
4. A signal goes to a pid and its start time together, so that a reused pid is never hit; this process and its
   ancestors are never hit.
5. Most attempts leave nothing, and that takes one look at the process table to see, unless a process ended under it:
   its child may be younger than the list of pids.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from producer.processes import Row, Table, below, environment, look, row

ATTEMPT_MARKER = "AI_PRODUCER_ATTEMPT"
PROJECT_MARKER = "AI_PRODUCER_PROJECT"

POLL_SECONDS = 0.02
HURRY = 1.0  # seconds of grace
DEAD = frozenset({"Z", "X", "x"})
Clock = Callable[[], float]
Sleep = Callable[[float], None]


class Proc(NamedTuple):
    """One living process as a look found it. ``start`` is only good for comparing."""

    pid: int
    start: float


@dataclass(frozen=True)
class Family:
    """Which processes belong together: descendants of ``root`` (not the root), and holders of an environment entry.

    ``spare`` names pids that are left alone, with all their descendants (another worker, the gateway).
    """

    root: int | None = None
    entries: tuple[str, ...] = ()
    spare: frozenset[int] = frozenset()

    @classmethod
    def of_attempt(cls, attempt: str, root: int | None = None) -> Family:
        """The processes of one attempt: its marker, and everything below ``root``."""
        return cls(root, (f"{ATTEMPT_MARKER}={attempt}",))


@dataclass(frozen=True)
class Swept:
    """What ``end`` did: how many processes it met, how many are alive after it, and how long it took in seconds."""

    found: int
    survivors: int
    seconds: float


def find(family: Family) -> list[psutil.Process]:
    """The living processes of a family. Zombies, this process and its ancestors are left out."""
    found = []
    for proc in _members(family):
        with suppress(psutil.Error):
            found.append(psutil.Process(proc.pid))
    return found


def marked(name: str) -> dict[str, list[int]]:
    """Every value of an environment variable among the living processes, with the pids that carry it."""
    values: dict[str, list[int]] = {}
    prefix = os.fsencode(f"{name}=")
    for pid in psutil.pids():
        for entry in environment(pid).split(b"\0"):
            if entry.startswith(prefix):
                values.setdefault(os.fsdecode(entry[len(prefix) :]), []).append(pid)
    return values


def end(
    family: Family,
    *,
    grace: float = 0.0,
    limit: float = 5.0,
    enough: Callable[[], bool] = lambda: False,
    clock: Clock = time.monotonic,
    sleep: Sleep = time.sleep,
) -> Swept:
    """End a family by the ladder. Blocks for ``grace`` + ``limit`` seconds at most.

    The grace ends early when nothing is left, or when ``enough`` says so; with a grace of 0 the TERM is left out.
    Nothing is waited for (see ``reap``), so that whoever started a process still learns its exit status.
    """
    began = clock()
    if _is_gone(family):
        return Swept(0, 0, clock() - began)
    seen: set[Proc] = set()
    if 0 < grace < HURRY:
        _end_namespaces(family, seen)
    if grace > 0:
        _terminate(family, seen, began + grace, enough, clock, sleep)
    deadline = clock() + limit
    _end_namespaces(family, seen)
    while living := _freeze(family, deadline, clock):
        seen.update(living)
        for proc in living:
            _signal(proc, signal.SIGKILL)
        if clock() >= deadline:
            break
        sleep(POLL_SECONDS)
    return Swept(len(seen), len(living), clock() - began)


def runs(pid: int) -> bool:
    """Whether a process has this pid and has not come to its end: for where there are no pidfds."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def has_exited(pidfd: int) -> bool:
    """Whether the process of a pidfd has come to its end, be it that nobody has asked for its exit status yet."""
    question = select.poll()  # not select.select, which knows no descriptor above 1023
    question.register(pidfd, select.POLLIN)
    return bool(question.poll(0))


def reap() -> int:
    """Collect this process's own dead children, adopted orphans included; returns how many there were.

    Only for a moment at which nobody else waits for a child of this process.
    """
    count = 0
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            count += 1
    return count


def reap_orphans(spare: frozenset[int]) -> None:
    """Collect the dead children of a subreaper, but for those whose exit status somebody else will ask for."""
    try:
        pids = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return
    for pid in pids:
        if pid not in spare:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _end_namespaces(family: Family, seen: set[Proc]) -> None:
    """Kill the first process of every PID namespace in the family; the kernel kills the rest of it."""
    for proc in _members(family):
        if _leads_namespace(proc.pid):
            seen.add(proc)
            _signal(proc, signal.SIGKILL)


def _terminate(
    family: Family, seen: set[Proc], until: float, enough: Callable[[], bool], clock: Clock, sleep: Sleep
) -> None:
    """Ask everything to leave, once each, until nothing is left, it is enough, or the time has come."""
    asked: set[Proc] = set()
    while living := _members(family):
        for proc in living:
            if proc not in asked:
                asked.add(proc)
                if not _holds_namespace(proc.pid):
                    _signal(proc, signal.SIGTERM)
        seen.update(asked)
        if enough() or clock() >= until:
            return
        sleep(POLL_SECONDS)


def _freeze(family: Family, deadline: float, clock: Clock) -> set[Proc]:
    """Stop everything that is found, again and again, until a look finds nothing new. Returns all of it."""
    frozen: set[Proc] = set()
    while fresh := (living := set(_members(family))) - frozen:
        for proc in fresh:
            _signal(proc, signal.SIGSTOP)
        frozen |= fresh
        if clock() >= deadline:
            break
    return living


def _members(family: Family) -> list[Proc]:
    """The living processes of a family, by one look at the process table."""
    return _look_for(family, look())


def _is_gone(family: Family) -> bool:
    """Whether one look suffices to say that nothing of a family lives: all that was listed was still there."""
    table = look()
    return not (table.ended or _look_for(family, table) or _has_dead(family, table))


def _has_dead(family: Family, table: Table) -> bool:
    """Whether something below the root has ended, which nobody has asked for its exit status yet."""
    return family.root is not None and any(table.rows[pid].state in DEAD for pid in below(family.root, table.children))


def _look_for(family: Family, table: Table) -> list[Proc]:
    rows, children = table.rows, table.children
    spared = _untouchable(rows) | {pid for root in family.spare for pid in (root, *below(root, children))}
    pids = set(below(family.root, children)) if family.root is not None else set()
    if family.entries:
        wanted = {os.fsencode(entry) for entry in family.entries}
        others = rows.keys() - pids - spared
        for pid in others:
            if not wanted.isdisjoint(environment(pid).split(b"\0")):
                pids.update((pid, *below(pid, children)))
    return [Proc(pid, rows[pid].start) for pid in pids - spared if rows[pid].state not in DEAD]


def _untouchable(rows: dict[int, Row]) -> set[int]:
    """Pid 1, this process and its ancestors."""
    pids, pid = {0, 1}, os.getpid()
    while pid not in pids:
        pids.add(pid)
        pid = rows[pid].parent if pid in rows else 0
    return pids


def _signal(proc: Proc, number: int) -> None:
    """Send a signal, if the pid still is the process that was meant."""
    with suppress(OSError, psutil.Error):
        if not hasattr(os, "pidfd_open"):
            if (found := row(proc.pid)) and found.start == proc.start:
                os.kill(proc.pid, number)
            return
        handle = os.pidfd_open(proc.pid)
        try:
            if (found := row(proc.pid)) and found.start == proc.start:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _leads_namespace(pid: int) -> bool:
    """Whether a process is pid 1 of a PID namespace below ours."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return False
    pids = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return len(pids) > 1 and pids[-1] == "1"


def _holds_namespace(pid: int) -> bool:
    """Whether a process outside a PID namespace waits for its first process: bubblewrap, unshare."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return False
    return any(_leads_namespace(int(child)) for child in children)
