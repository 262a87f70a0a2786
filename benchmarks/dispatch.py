"""The short form: how many tasks a second go through the complete path, and how soon an inserted task starts.

    python benchmarks/dispatch.py [--tasks 5000] [--inserts 200]

Throughput is given beside what bare SQLite does on the same disk in the same run, so that a figure means something on
another machine: durable single-row transactions a second, and the same batched by 64. throughput.py, latency.py and
growth.py measure the same more thoroughly.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import apsw
from harness import percentiles, project, scratch
from latency import idle


def throughput(root: Path, tasks: int, prefetch: int) -> float:
    """Tasks a second from the first claim to the last settlement, two workers."""
    made = project(root, 2, prefetch)
    made.bulk(tasks)
    made.once()
    first, last = made.window(tasks)
    return tasks / (last - first)


def bare_sqlite(path: Path, transactions: int, batch: int) -> float:
    """Durable one-row inserts a second, ``batch`` of them a transaction, in the same mode as the ledger."""
    connection = apsw.Connection(str(path))
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)")
    began = time.perf_counter()
    for _ in range(transactions):
        with connection:
            for _ in range(batch):
                connection.execute("INSERT INTO t (b) VALUES (?)", ("x" * 100,))
    seconds = time.perf_counter() - began
    connection.close()
    return transactions * batch / seconds


def main() -> None:
    """Measure, and print the four figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--inserts", type=int, default=200)
    given = parser.parse_args()
    with scratch() as root:
        single, batched = bare_sqlite(root / "bare.db", 200, 1), bare_sqlite(root / "bare2.db", 100, 64)
        deep = throughput(root / "deep", given.tasks, 32)
        shallow = throughput(root / "shallow", max(200, given.tasks // 10), 1)
        slow = idle(project(root / "latency", 2, 1), given.inserts)
    print(f"bare SQLite, durable      {single:9.0f} rows/s one by one, {batched:.0f} rows/s by 64")
    print(f"complete path, prefetch 32 {deep:8.0f} tasks/s = {deep / single:.2f} x bare one by one")
    print(f"complete path, prefetch 1  {shallow:8.0f} tasks/s = {shallow / single:.2f} x bare one by one")
    median, worst = percentiles(slow)
    print(f"insert to start            {median:8.2f} ms median, {worst:.2f} ms p99, {len(slow)} inserts")


if __name__ == "__main__":
    main()
