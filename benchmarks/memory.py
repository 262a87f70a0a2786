"""How much memory the processes take that wait: supervisor, workers, gateway, and claude processes that stand by.

    python benchmarks/memory.py [--tasks 1000000] [--settled 1000]

The supervisor is measured with an empty ledger and with so many tasks in it, at its start and when it has settled a
thousand more (echo). The workers, the gateway and what stands by are those of a fleet with the claude invoker, idle.
Resident: all pages of a process, shared ones too; own: what would be free if it went.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import psutil
from harness import head
from startup import PATIENCE, Bench
from web import fill

from producer.ledger import LedgerClient, Reader

WORKERS = 4


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something true; SystemExit where it does not come about."""
    deadline = time.monotonic() + 3 * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come about")
        time.sleep(0.2)


def row(name: str, target: str, pids: Iterable[int]) -> str:
    """One row of the table: medians over processes of a kind."""
    found = [psutil.Process(pid).memory_full_info() for pid in pids]
    figures = (statistics.median(getattr(each, kind) for each in found) / 1e6 for kind in ("rss", "uss"))
    return f"| {name} | {target} | {len(found)} | " + " | ".join(f"{figure:.0f}" for figure in figures) + " |"


def claude(worker: int) -> list[int]:
    """The claude processes below a worker (not their launchers)."""
    found = []
    for child in psutil.Process(worker).children(recursive=True):
        with suppress(psutil.Error):  # it may be about to go
            found += [child.pid] if Path(child.exe()).name == "claude" else []
    return found


def done(ledger: Path) -> int:
    """How many tasks are done."""
    with Reader(ledger) as reader:
        return int(reader.counts()["done"])


def supervisor(bench: Bench, label: str, settled: int) -> list[str]:
    """Rows for a supervisor over the bench's ledger as it is."""
    process, _ = bench.start("--invoker", "echo")
    until(lambda: bench.idle() == WORKERS, "an idle fleet")
    time.sleep(2.0)
    rows = [row(f"supervisor, {label}", "80", [process.pid])]
    before = done(bench.ledger)
    with LedgerClient(bench.ledger, actor="bench") as client:
        for _ in range(settled // 100):
            client.insert_tasks([{"agent_owner": "code", "title": "t", "description": "d"}] * 100)
    until(lambda: done(bench.ledger) >= before + settled, "the end of the tasks")
    rows.append(row(f"supervisor, {label}, after {settled:,} tasks", "80", [process.pid]))
    process.terminate()
    process.wait(30)
    return rows


def waiting(bench: Bench) -> list[str]:
    """Rows for what waits for tasks in an idle fleet of claude workers."""
    process, _ = bench.start()
    until(lambda: bench.idle() == WORKERS, "an idle fleet")
    pids = [int(psutil.Process(pid).pid) for pid in bench.pids()]
    until(lambda: all(claude(pid) for pid in pids), "what stands by")
    time.sleep(10.0)  # the nursery leaves
    standing = [pid for worker in pids for pid in claude(worker)]
    rows = [
        row("worker without a task", "80", pids),
        row("gateway", "", [bench.gateway()]),
        row("claude process that stands by (none with `warm: false`)", "", standing),
    ]
    process.terminate()
    process.wait(30)
    return rows


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--settled", type=int, default=1000)
    given = parser.parse_args()
    head("Memory")
    with tempfile.TemporaryDirectory(prefix="m") as scratch:
        bench = Bench(Path(scratch), WORKERS)
        rows = supervisor(bench, "empty ledger", given.settled)
        fill(bench.ledger, given.tasks)
        rows += supervisor(bench, f"{given.tasks:,} tasks in the ledger", given.settled)
        rows += waiting(bench)
    print("| process | target, MB | processes | resident, MB | own, MB |\n|---|---:|---:|---:|---:|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
