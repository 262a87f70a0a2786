"""Short-lived programs that we run and wait for, in whatever thread: git, and the operator's anchor command.

1. A process is in a session of its own and is killed with all below it when its time is over.
2. The supervisor's sweep ends every process below it that it does not know: it asks ``still`` which ones are ours, and
   none is started meanwhile.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_running: set[int] = set()
_starting = threading.Lock()


@contextmanager
def still() -> Iterator[frozenset[int]]:
    """The pids of the processes under way; none is started inside the block."""
    with _starting:
        yield frozenset(_running)


def run(
    command: Sequence[str],
    directory: Path | str,
    env: Mapping[str, str],
    stdin: str | None,
    limit: float,
    *,
    held: tuple[int, ...] = (),
) -> tuple[int, str, str]:
    """Run a program to its end: exit code, stdout, stderr. ``held``: descriptors that live as long as it does.

    Raises OSError where it cannot be started, subprocess.TimeoutExpired after ``limit`` seconds.
    """
    with _starting:
        process = subprocess.Popen(
            command, cwd=directory, env=dict(env), pass_fds=held,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        _running.add(process.pid)
    try:
        out, err = process.communicate(None if stdin is None else stdin.encode(), timeout=limit)
    except subprocess.TimeoutExpired:
        _end(process)
        raise
    finally:
        _running.discard(process.pid)
    return process.returncode, os.fsdecode(out), os.fsdecode(err)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=5.0)
