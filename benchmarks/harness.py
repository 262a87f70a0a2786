"""What the benchmarks share: scratch projects with a real supervisor, bounded waits, medians, Markdown tables.

1. A figure counts only where the ledger says that every task is done, and that all audit rows are there.
2. Every wait has a deadline; what was started is ended by its pid, whatever happens.
3. A ratio is of two things measured in the same run; a figure is the median of several rounds.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import apsw

from producer import LedgerClient
from producer.errors import LedgerUnusable, ProducerError
from producer.ids import from_iso
from producer.ledger import Reader
from producer.places import Places
from producer.wire.client import Control

HERE = Path(__file__).resolve().parent
DEADLINE = 300.0
AT_ONCE = 10_000  # tasks in one transaction; the ledger takes twice as many
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
AUDITED = ("dispatch", "cost", "task_completed")  # the rows that every task must have
PAYLOAD = {"cost_usd": "0.0001"}  # so that a cost is booked, and stands in the audit


@dataclass(frozen=True)
class Project:
    """A project with one role, `work`, whose tasks do nothing."""

    root: Path
    workers: int = 2

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.root / "agent-state" / "ledger.db"

    def command(self, *options: str) -> list[str]:
        """How its supervisor is started."""
        return [sys.executable, "-m", "producer", "--config", str(self.root / "producer.yaml"), "run", *options]

    def bulk(self, tasks: int, priority: int = 3) -> None:
        """File tasks with insert_tasks, here."""
        given = {"agent_owner": "work", "description": "nothing", "payload": PAYLOAD, "priority": priority}
        with LedgerClient(self.ledger) as client:
            for first in range(0, tasks, AT_ONCE):
                some = range(first, min(first + AT_ONCE, tasks))
                client.insert_tasks({"title": f"task {n}", **given} for n in some)

    def insert(self, how: str, tasks: int, pause: float = 0.0) -> subprocess.Popen[str]:
        """A process of its own that files tasks, ``how`` is bulk or single; it prints the moment it began."""
        words = [str(HERE / "insert.py"), how, str(self.ledger), str(tasks), str(pause)]
        return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)

    @contextmanager
    def supervisor(self, invoker: str = "echo", backlog: bool = False) -> Iterator[subprocess.Popen[bytes]]:
        """A running supervisor whose workers are idle, or (with a backlog) well under way; stopped afterwards."""
        child = subprocess.Popen(
            self.command("--invoker", invoker), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.root
        )
        try:
            if backlog:
                until(lambda: self.done() > 0, what="the first task done")
            else:
                until(lambda: self.idle(child), what="idle workers")
            yield child
        finally:
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(30)

    def once(self, invoker: str = "echo") -> None:
        """Run until nothing is left."""
        options = self.command("--once", "--invoker", invoker)
        subprocess.run(
            options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.root, timeout=DEADLINE, check=True
        )

    def idle(self, child: subprocess.Popen[bytes]) -> bool:
        """Whether all workers wait for a task."""
        assert child.poll() is None, f"the supervisor left with {child.returncode}"
        places = Places.of(self.ledger)
        if not (places.keys / "operator.key").exists() or not (places.runtime / "control").exists():
            return False
        control = Control(places)
        try:
            found = control.ask("status", seconds=2.0).result["roles"]["work"]["workers"]
        except ProducerError:
            return False
        finally:
            control.close()
        return [worker["state"] for worker in found] == ["idle"] * self.workers

    def done(self, before: int = 0) -> int:
        """How many tasks are done, not counting those filed among the first ``before``."""
        try:
            with Reader(self.ledger) as reader:
                found = reader.rows("SELECT count(*) FROM tasks WHERE seq > ? AND +status = 'done'", before)
                return int(found[0][0])
        except LedgerUnusable:
            return 0

    def filed(self) -> int:
        """How many tasks there are."""
        with Reader(self.ledger) as reader:
            return int(reader.rows("SELECT coalesce(max(seq), 0) FROM tasks")[0][0])

    def window(self, tasks: int, audited: Sequence[str] = AUDITED) -> tuple[float, float]:
        """First claim and last settlement of the newest ``tasks``, in seconds; every one of them checked."""
        with Reader(self.ledger) as reader:
            first = f"(SELECT max(seq) - {tasks} FROM tasks)"
            newest = f"SELECT id FROM tasks WHERE seq > {first}"
            states = reader.rows(f"SELECT status, count(*) FROM tasks WHERE seq > {first} GROUP BY status")
            assert states == [("done", tasks)], states
            rows = {
                name: reader.rows(
                    f"SELECT count(*) FROM audit WHERE task_id IN ({newest}) AND action = ?", name
                )[0][0]
                for name in audited
            }  # fmt: skip
            assert set(rows.values()) == {tasks}, rows
            found = reader.rows(f"SELECT min(claimed_at), max(finished_at) FROM attempts WHERE task_id IN ({newest})")
        return from_iso(found[0][0]), from_iso(found[0][1])


def project(root: Path, workers: int = 2, prefetch: int = 32) -> Project:
    """A new scratch project."""
    root.mkdir(parents=True)
    (root / "producer.yaml").write_text(CONFIG.format(workers=workers, prefetch=prefetch))
    return Project(root, workers)


@contextmanager
def scratch() -> Iterator[Path]:
    """A directory for one benchmark, with private places of its own."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit("out of time"))  # so that what was started ends too
    with tempfile.TemporaryDirectory(prefix="apb-") as name:
        Path(name).chmod(0o755)  # PostgreSQL's user has to reach what is its own
        os.environ |= {"XDG_STATE_HOME": f"{name}/s", "XDG_RUNTIME_DIR": f"{name}/r"}
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        yield Path(name)


def until(condition: Callable[[], bool], seconds: float = DEADLINE, what: str = "it") -> None:
    """Wait for a condition; AssertionError at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in {seconds:g} s"
        time.sleep(0.05)


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    return statistics.median(values), statistics.quantiles(values, n=100)[98]


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, with the least and the most of the rounds."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in row) + " |")
    print(flush=True)


def head(title: str) -> None:
    """Print what a benchmark's tables begin with."""
    print(f"### {title}\n\n{machine()}\n", flush=True)


def machine() -> str:
    """On what, with what and when this was measured."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    load = os.getloadavg()[0]
    return (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}, commit {found.stdout.strip() or 'unknown'}, "
        f"ai-producer {version('ai-producer')}; {os.cpu_count()} cores, {model}, {platform.system()} "
        f"{platform.release()}, load {load:.1f} at the start; Python {platform.python_version()}, SQLite "
        f"{apsw.sqlite_lib_version()}, pyzmq {version('pyzmq')}."
    )
