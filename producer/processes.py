"""The process table: who descends from whom, since when, and with which environment.

On Linux a look reads /proc/*/stat once, two hundred processes in milliseconds; elsewhere psutil looks.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import psutil

KERNEL_THREAD = 0x0020_0000  # PF_KTHREAD among a process's flags: linux/sched.h
AT_ONCE = 64 << 10  # bytes read of a file of /proc
LINUX = sys.platform.startswith("linux")


class Row(NamedTuple):
    """What is known of one process."""

    parent: int
    start: float
    state: str
    kernel: bool = False


class Table(NamedTuple):
    """One look at all processes but the kernel's own threads, the children of each, and whether one ended meanwhile."""

    rows: dict[int, Row]
    children: dict[int, list[int]]
    ended: bool


def look() -> Table:
    """Read the process table once."""
    rows: dict[int, Row] = {}
    children: dict[int, list[int]] = defaultdict(list)
    ended = False
    for pid in psutil.pids():
        found = row(pid)
        if found is None:
            ended = True
        elif not found.kernel:
            rows[pid] = found
            children[found.parent].append(pid)
    return Table(rows, children, ended)


def row(pid: int) -> Row | None:
    """What is known of a process; None where there is none any more."""
    if not LINUX:
        try:
            process = psutil.Process(pid)
            state = "Z" if process.status() == psutil.STATUS_ZOMBIE else "S"
            return Row(process.ppid(), process.create_time(), state)
        except psutil.Error:
            return None
    try:
        stat = _read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything, brackets too
    return Row(int(fields[1]), float(fields[19]), fields[0].decode(), bool(int(fields[6]) & KERNEL_THREAD))


def below(root: int, children: dict[int, list[int]]) -> Iterator[int]:
    """The descendants of a process."""
    waiting = list(children.get(root, ()))
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting.extend(children.get(pid, ()))


def environment(pid: int) -> bytes:
    """The environment a process was started with, NUL-separated; empty where it may not be read."""
    if LINUX:
        try:
            return _read(f"/proc/{pid}/environ")
        except OSError:
            return b""
    try:
        return b"\0".join(os.fsencode(f"{k}={v}") for k, v in psutil.Process(pid).environ().items())
    except psutil.Error:
        return b""


def _read(path: str) -> bytes:
    """A file of /proc, which says nothing of its length. Raises OSError. Half of what pathlib takes."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while some := os.read(handle, AT_ONCE):
            found += some
        return found
    finally:
        os.close(handle)
