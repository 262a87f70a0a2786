"""How many tasks a second go through the complete path, and how soon an inserted task starts.

    python benchmarks/dispatch.py [--tasks 5000] [--inserts 200]

Everything is real: the supervisor and two worker processes over CURVE sockets, a ledger with synchronous=FULL, three
audit rows for each task (dispatch, cost, task_completed), holds and bookings. The work is the echo invoker's: nothing.

Throughput is given beside what bare SQLite does on the same disk in the same run, so that a figure means something on
another machine: durable single-row transactions a second, and the same batched by 64. Latency is from the call of
LedgerClient.insert_task in this process to the first line of the invoker in a worker, with the supervisor idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw

from producer import LedgerClient
from producer.ids import from_iso
from producer.ledger import Reader
from producer.places import Places
from producer.wire.sockets import Control

HERE = Path(__file__).parent
DEADLINE = 300.0
CONFIG = """
project_name: benchmark
budget:
  project_ceiling_usd: 1000000
  agents:
    work:
      daily_cap_usd: 1000000
      dispatch_reservation_usd: 0.01
      allowed_tools: []
      workers: {workers}
      prefetch: {prefetch}
"""


def project(root: Path, workers: int, prefetch: int) -> Path:
    """A scratch project; its ledger's path."""
    root.mkdir()
    (root / "producer.yaml").write_text(CONFIG.format(workers=workers, prefetch=prefetch))
    return root / "agent-state" / "ledger.db"


def start(root: Path, *options: str) -> subprocess.Popen[bytes]:
    """The supervisor of a scratch project."""
    command = [sys.executable, "-m", "producer", "--config", str(root / "producer.yaml"), "run", *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=root)


def throughput(root: Path, tasks: int, prefetch: int) -> float:
    """Tasks a second from the first claim to the last settlement, two workers."""
    ledger = project(root, 2, prefetch)
    with LedgerClient(ledger) as client:
        payload = {"cost_usd": "0.0001"}
        client.insert_tasks(
            {"agent_owner": "work", "title": f"task {n}", "description": "nothing", "payload": payload}
            for n in range(tasks)
        )
    start(root, "--once", "--invoker", "echo").wait(DEADLINE)
    with Reader(ledger) as reader:
        assert reader.counts()["done"] == tasks, reader.counts()
        rows = dict(reader.rows("SELECT action, count(*) FROM audit GROUP BY action"))
        assert rows["dispatch"] == rows["cost"] == rows["task_completed"] == tasks, rows
        first, last = reader.rows("SELECT min(claimed_at), max(finished_at) FROM attempts")[0]
    return tasks / (from_iso(last) - from_iso(first))


def latencies(root: Path, inserts: int) -> list[float]:
    """Milliseconds from insert_task in this process to the invoker in a worker, one at a time."""
    ledger = project(root, 2, 1)
    child = start(root, "--invoker", "probe:Probe")
    try:
        return _measure(ledger, inserts)
    finally:
        child.terminate()
        child.wait(30)


def _measure(ledger: Path, inserts: int) -> list[float]:
    deadline = time.monotonic() + DEADLINE
    while not ready(ledger):
        assert time.monotonic() < deadline, "the workers did not come up"
        time.sleep(0.1)
    found = []
    with LedgerClient(ledger) as client, Reader(ledger) as reader:
        for number in range(inserts):
            before = time.time_ns()
            task = client.insert_task(agent_owner="work", title=f"task {number}", description="when?")
            while (result := reader.task(task)["result"]) is None:
                assert time.monotonic() < deadline, "a task did not come back"
                time.sleep(0.002)
            found.append((int(result) - before) / 1e6)
    return found


def ready(ledger: Path) -> bool:
    """Whether both workers are idle."""
    places = Places.of(ledger)
    if not (places.keys / "operator.key").exists() or not (places.runtime / "control").exists():
        return False
    control = Control(places)
    try:
        workers = control.ask("status", seconds=2.0).result["roles"]["work"]["workers"]
    finally:
        control.close()
    return [worker["state"] for worker in workers] == ["idle", "idle"]


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
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        os.environ |= {"XDG_STATE_HOME": f"{root}/s", "XDG_RUNTIME_DIR": f"{root}/r"}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        single, batched = bare_sqlite(root / "bare.db", 200, 1), bare_sqlite(root / "bare2.db", 100, 64)
        deep = throughput(root / "deep", given.tasks, 32)
        shallow = throughput(root / "shallow", max(200, given.tasks // 10), 1)
        slow = latencies(root / "latency", given.inserts)
    print(f"bare SQLite, durable      {single:9.0f} rows/s one by one, {batched:.0f} rows/s by 64")
    print(f"complete path, prefetch 32 {deep:8.0f} tasks/s = {deep / single:.2f} x bare one by one")
    print(f"complete path, prefetch 1  {shallow:8.0f} tasks/s = {shallow / single:.2f} x bare one by one")
    median, worst = statistics.median(slow), statistics.quantiles(slow, n=100)[98]
    print(f"insert to start            {median:8.2f} ms median, {worst:.2f} ms p99, {len(slow)} inserts")


if __name__ == "__main__":
    main()
