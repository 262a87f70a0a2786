"""Which processes are a round's own: found by the marks in their environment, never by their name."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

PROJECT = b"AI_PRODUCER_PROJECT="
ATTEMPT = b"AI_PRODUCER_ATTEMPT="


def look() -> list[tuple[int, str, str, bytes, str]]:
    """(pid, project mark, attempt mark, command line, state) of every living process that carries a mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            marks = (entry / "environ").read_bytes().split(b"\0")
            project = next((m[len(PROJECT) :].decode() for m in marks if m.startswith(PROJECT)), "")
            attempt = next((m[len(ATTEMPT) :].decode() for m in marks if m.startswith(ATTEMPT)), "")
            if not (project or attempt):
                continue
            stat = (entry / "stat").read_text()
            state = stat[stat.rindex(")") + 2]
            if state not in "ZXx":
                found.append((int(entry.name), project, attempt, (entry / "cmdline").read_bytes(), state))
    return found


def of_project(key: str) -> dict[str, list[int]]:
    """The living processes of a project by kind: worker, nursery, gateway, cli (everything that a run started)."""
    kinds: dict[str, list[int]] = {"worker": [], "nursery": [], "gateway": [], "cli": []}
    for pid, project, _, command, _ in look():
        if project != key:
            continue
        words = command.split(b"\0")
        if b"producer.workers" in words or b"producer.workers.nursery" in words:
            kinds["worker" if _name(pid).startswith(b"worker ") else "nursery"].append(pid)
        elif b"producer.gateway" in words:
            kinds["gateway"].append(pid)
        else:
            kinds["cli"].append(pid)
    return kinds


def _name(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes()
    return b""


def tell(pid: int, number: int) -> bool:
    """Signal a process; False where it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def comes_to(pid: int, states: str, seconds: float = 2.0) -> bool:
    """Whether a process is soon in one of these states of proc(5); one that is gone is in Z and X."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            state = stat[stat.rindex(")") + 2]
        except OSError:
            state = "X"
        if state in states or time.monotonic() > deadline:
            return state in states
        time.sleep(0.005)


def comes_to_be_traced(pid: int, seconds: float = 5.0) -> bool:
    """Whether a tracer soon holds a process."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        if "TracerPid:\t0\n" not in status:
            return True
        time.sleep(0.01)
    return False


def has_loaded(pid: int, library: bytes) -> bool:
    """Whether a living process has a library in its memory."""
    with suppress(OSError):
        return library in Path(f"/proc/{pid}/maps").read_bytes()
    return False


def end_all(key: str) -> None:
    """KILL whatever still carries a project's mark."""
    for _ in range(20):
        left = [pid for pid, project, *_ in look() if project == key]
        if not left:
            return
        for pid in left:
            tell(pid, signal.SIGKILL)
