"""How soon a task that was just filed starts: from insert_task in another process to the first line of the invoker.

    python benchmarks/latency.py [--inserts 300] [--tasks 10000] [--backlog 100000] [--rounds 5]

Idle: one task at a time, nothing else to do. Half load: a producer process files tasks at half the drain rate that was
measured just before, while this process files and times its own. Urgent: a task of priority 0 is filed behind a
backlog; the audit chain says how many others were dispatched between its insertion and its own dispatch (none may be).
What the workers hold already (prefetch) was dispatched before it came, and runs before it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from harness import DEADLINE, Project, head, percentiles, project, scratch, spread, table

from producer import LedgerClient
from producer.ledger import Reader

INVOKER = "probe:Probe"


def sample(made: Project, inserts: int, priority: int = 3, pause: float = 0.0) -> list[float]:
    """Milliseconds from insert_task in this process to the invoker in a worker, one at a time."""
    deadline = time.monotonic() + DEADLINE
    found = []
    with LedgerClient(made.ledger) as client, Reader(made.ledger) as reader:
        for number in range(inserts):
            before = time.time_ns()
            task = client.insert_task(
                agent_owner="work", title=f"timed {number}", description="when?", priority=priority
            )
            while (result := reader.task(task)["result"]) is None:
                assert time.monotonic() < deadline, "a task did not come back"
                time.sleep(0.002)
            found.append((int(result) - before) / 1e6)
            time.sleep(pause)
    return found


def idle(made: Project, inserts: int) -> list[float]:
    """With nothing else to do."""
    with made.supervisor(INVOKER):
        return sample(made, inserts)


def half_load(root: Path, inserts: int, tasks: int) -> tuple[list[float], float, float]:
    """Latencies, the load that was asked for and the load that came about, both in tasks a second."""
    drained = project(root / "drain")
    drained.bulk(tasks)
    drained.once(INVOKER)  # the same invoker as below: it is not the quickest there is
    first, last = drained.window(tasks, ("dispatch", "task_completed"))
    rate = tasks / (last - first) / 2
    made = project(root / "half")
    with made.supervisor(INVOKER):
        files = made.insert("single", 10_000_000, 1 / rate)
        try:
            assert files.stdout is not None
            files.stdout.readline()
            time.sleep(1.0)  # until the load is there
            before, began = made.done(), time.monotonic()
            found = sample(made, inserts, pause=0.05)  # seldom: timing is not to be a load of its own
            real = (made.done() - before) / (time.monotonic() - began)
        finally:
            files.kill()
            files.wait(30)
    return found, rate, real


def urgent(root: Path, backlog: int, prefetch: int, rounds: int) -> tuple[list[float], list[int], int]:
    """Milliseconds to the start of urgent tasks, one after the other; how many others were dispatched between the
    insertion and the dispatch of each; how many were still waiting at the end."""
    made = project(root, 2, prefetch)
    made.bulk(backlog, priority=4)
    with made.supervisor(INVOKER, backlog=True):
        times = sample(made, rounds, priority=0, pause=0.2)
        with Reader(made.ledger) as reader:
            waiting = int(reader.counts()["pending"])
    assert waiting > 0, "the backlog was gone before the last urgent task came"
    with Reader(made.ledger) as reader:
        idents = [row[0] for row in reader.rows("SELECT id FROM tasks WHERE priority = 0 ORDER BY seq")]
        assert len(idents) == rounds
        passed = [_passed(reader, ident) for ident in idents]
    return times, passed, waiting


def _passed(reader: Reader, ident: str) -> int:
    """How many dispatches stand in the audit between the insertion of a task and its own dispatch."""
    came, went = (
        reader.rows("SELECT seq FROM audit WHERE task_id = ? AND action = ?", ident, action)[0][0]
        for action in ("task_inserted", "dispatch")
    )
    between = "SELECT count(*) FROM audit WHERE seq > ? AND seq < ? AND +action = 'dispatch'"
    return int(reader.rows(between, came, went)[0][0])


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inserts", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    head("Latency")
    rows: list[tuple[object, ...]] = []
    with scratch() as root:
        p50, p99 = percentiles(idle(project(root / "idle", 2, 1), given.inserts))
        rows.append((f"idle, {given.inserts} inserts", f"{p50:.2f} / {p99:.2f} ms", "3 / 10 ms"))
        times, rate, real = half_load(root, given.inserts, given.tasks)
        p50, p99 = percentiles(times)
        what = f"half load: {rate:,.0f}/s asked for, {real:,.0f}/s came about, {given.inserts} inserts"
        rows.append((what, f"{p50:.2f} / {p99:.2f} ms", "p99 50 ms"))
        for prefetch in (1, 32):
            times, passed, left = urgent(root / f"urgent{prefetch}", given.backlog, prefetch, given.rounds)
            what = f"urgent behind {left:,} or more waiting, prefetch {prefetch}, {given.rounds} of them: to its start"
            rows.append((what, f"{spread(times, 1)} ms", ""))
            rows.append(("the same: others dispatched between its insertion and its dispatch", f"{max(passed)}", "0"))
    table(("insert in another process to invoke(), p50 / p99", "measured", "target"), rows)


if __name__ == "__main__":
    main()
