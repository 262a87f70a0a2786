"""Where the supervisor's time goes, for one task: its stack is looked at a thousand times a second while it drains.

    python benchmarks/task_path.py [--tasks 20000]

The supervisor runs in this process, its workers in theirs. The samples are of the clock on the wall, so waiting for
the disk or for a worker shows too. A sample counts for the innermost
part that the project has on the stack, SQL for whoever asked.
(The name profile.py would hide a module of the standard library.)
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from harness import head, project, scratch, table

import producer
from producer.config import load_config
from producer.supervisor import RunOptions, run

PACKAGE = str(Path(producer.__file__).parent) + os.sep
EVERY = 0.001
PARTS = {
    "wire/codec.py": "encode and decode messages", "wire/messages.py": "encode and decode messages",
    "wire/server.py": "sockets: receive and send", "wire/transport.py": "sockets: receive and send",
    "ledger/audit.py": "audit rows and their chain",
    "ledger/queue.py": "queue: what is ready, dependents", "ledger/attempts.py": "attempts: claim and settle",
    "ledger/accounts.py": "money: holds and bookings", "ledger/figures.py": "money: holds and bookings",
    "ledger/inflight.py": "money: holds and bookings", "supervisor/dispatch.py": "dispatch: choose and hand out",
    "supervisor/runs.py": "runs: results and retries", "supervisor/loop.py": "loop: turns and housekeeping",
}  # fmt: skip
COMMIT = ("transaction", "_control", "savepoint", "_rollback")


class Samples:
    """Counts what the supervisor is at, by part and by function."""

    def __init__(self) -> None:
        self.all: list[tuple[float, float, str, str]] = []
        self._last = time.time()

    def look(self, number: int, frame: FrameType | None) -> None:
        """One sample, for all the time since the one before: a long call in C lets only one through. On SIGALRM."""
        now = time.time()
        passed, self._last = now - self._last, now
        place = None
        while frame is not None:
            name, function = frame.f_code.co_filename, frame.f_code.co_name
            if name.startswith(PACKAGE):
                name = name.removeprefix(PACKAGE)
                place = place or f"{name}:{function}"
                if (part := _part(name, function)) is not None:
                    self.all.append((now, passed, part, place))
                    return
            frame = frame.f_back

    def sums(self, first: float, last: float) -> tuple[Counter[str], Counter[str], int]:
        """Seconds by part and by function between two moments; of how many samples."""
        parts: Counter[str] = Counter()
        places: Counter[str] = Counter()
        within = [one for one in self.all if first <= one[0] <= last]
        for _, passed, part, place in within:
            parts[part] += passed  # type: ignore[assignment]
            places[place] += passed  # type: ignore[assignment]
        return parts, places, len(within)


def _part(name: str, function: str) -> str | None:
    """To what a frame belongs; None where its caller has to say."""
    if name == "ledger/database.py":
        return "commit: write and fsync" if function in COMMIT else None
    if name == "wire/server.py" and function == "wait":
        return "waiting for messages"
    if name in ("ids.py", "errors.py", "core/money.py"):
        return None
    return PARTS.get(name, f"other: {name.split('/')[0]}")


def main() -> None:
    """Run, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prefetch", type=int, default=64)
    given = parser.parse_args()
    head("One task's path")
    samples = Samples()
    with scratch() as root:
        made = project(root / "path", given.workers, given.prefetch)
        made.bulk(given.tasks)
        # Every sample would wake the loop through the descriptor that signals write to, and be a part of the result.
        signal.set_wakeup_fd = lambda *words, **named: -1  # type: ignore[assignment]
        signal.signal(signal.SIGALRM, samples.look)
        signal.setitimer(signal.ITIMER_REAL, EVERY, EVERY)
        config = load_config(made.root / "producer.yaml")
        os.chdir(made.root)
        sys.stderr.flush()
        code = run(config, RunOptions(once=True, invoker="echo"))
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert code == 0, code
        first, last = made.window(given.tasks)
    parts, places, number = samples.sums(first, last)
    task = (last - first) * 1e6 / given.tasks
    print(
        f"{given.tasks:,} tasks, {task:.1f} us each from the first claim to the last settlement; {number:,} samples.\n"
    )
    for name, found in (("part of the supervisor", parts), ("innermost function of the project", places)):
        total = sum(found.values())
        rows = [(n, f"{c / total:.1%}", f"{c * 1e6 / given.tasks:.1f}") for n, c in found.most_common(20)]
        table((name, "share", "us a task"), rows)


if __name__ == "__main__":
    main()
