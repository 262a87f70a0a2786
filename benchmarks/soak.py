"""Whether anything grows that should not while a great many tasks go through: what `make soak` does.

    python benchmarks/soak.py [--tasks 1000000] [--minutes 60] [--svg FILE]

A feeder keeps a short backlog and the echo invoker does nothing. At every fiftieth of the way is looked at: resident
memory of the supervisor and of the largest worker, open file descriptors of all of them, the size of the write-ahead
log, of the outboxes, of the logs, and of everything in the private state directory. Flat is what in the last third is
on average no more than a tenth and a small allowance above the third before it; caches fill in the first third. Exit
code 1 where something grows or the time is over. The ledger itself grows by what each task leaves in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
from harness import PAYLOAD, Project, head, project, scratch, table
from lines import Line, draw

from producer import LedgerClient
from producer.ledger import Reader
from producer.places import Places

BACKLOG, BATCH, LOOKS = 2_000, 500, 50


@dataclass(frozen=True)
class Figure:
    """Something that must not grow: its name, its unit, and what it may rise by for other reasons than growth."""

    name: str
    unit: str
    allowed: float


FIGURES = (
    Figure("supervisor, resident", "MB", 4.0),
    Figure("largest worker, resident", "MB", 4.0),
    Figure("open file descriptors", "", 4.0),
    Figure("write-ahead log", "MB", 8.0),
    Figure("outboxes", "MB", 1.0),
    Figure("logs", "MB", 0.1),
    Figure("private state, all of it", "MB", 1.0),
)


@dataclass(frozen=True)
class Look:
    """What was seen when so many tasks were done: the FIGURES in their order, and the ledger's size in MB."""

    done: int
    seconds: float
    values: tuple[float, ...]
    ledger: float


def size(paths: Iterable[Path]) -> float:
    """These files and those below these directories, in MB; what is gone counts nothing."""
    total = 0
    for path in paths:
        for file in path.rglob("*") if path.is_dir() else [path]:
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
    return total / 1e6


def look(one: Project, supervisor: int, done: int, began: float) -> Look:
    """Look at everything once."""
    places = Places.of(one.ledger)
    workers = [psutil.Process(json.loads(file.read_text())["pid"]) for file in places.workers.glob("*.json")]
    head = psutil.Process(supervisor)
    values = (
        head.memory_info().rss / 1e6,
        max(each.memory_info().rss for each in workers) / 1e6,
        float(sum(each.num_fds() for each in (head, *workers))),
        size([one.ledger.with_name(one.ledger.name + "-wal")]),
        size([places.outboxes]),
        size(places.workers.glob("*.log")),
        size([places.state]),
    )
    return Look(done, time.monotonic() - began, values, size([one.ledger]))


def feed(one: Project, supervisor: int, tasks: int, until: float) -> list[Look]:
    """Have so many tasks done, and look every now and then; ends early at the time ``until``."""
    looks, filed, began = [look(one, supervisor, 0, time.monotonic())], 0, time.monotonic()
    given = {"agent_owner": "work", "description": "nothing", "payload": PAYLOAD}
    with LedgerClient(one.ledger) as client, Reader(one.ledger) as reader:
        while looks[-1].done < tasks and time.monotonic() < until:
            waiting = reader.rows("SELECT count(*) FROM tasks WHERE status IN ('pending', 'in_progress')")[0][0]
            if filed < tasks and waiting < BACKLOG:
                count = min(BATCH, tasks - filed)
                client.insert_tasks({"title": f"task {filed + n}", **given} for n in range(count))
                filed += count
            else:
                time.sleep(0.02)
            done = filed - waiting
            if done >= min(tasks, looks[-1].done + tasks // LOOKS):
                looks.append(look(one, supervisor, done, began))
    return looks


def grown(figure: Figure, values: list[float]) -> bool:
    """Whether the last third is above the one before it."""
    third = len(values) // 3
    before, last = statistics.fmean(values[third : 2 * third]), statistics.fmean(values[2 * third :])
    return last > before * 1.1 + figure.allowed


def main() -> int:
    """Soak, print the table, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    head("Soak")
    with scratch() as root:
        one = project(root / "p")
        LedgerClient(one.ledger).close()
        with one.supervisor() as child:
            looks = feed(one, child.pid, given.tasks, time.monotonic() + given.minutes * 60)
    columns = [[each.values[index] for each in looks] for index in range(len(FIGURES))]
    rising = [figure.name for figure, values in zip(FIGURES, columns, strict=True) if grown(figure, values)]
    start, middle, end = looks[0], looks[len(looks) // 2], looks[-1]
    rows = [
        (f"{figure.name}, {figure.unit}".rstrip(", "), *(f"{each:.1f}" for each in (values[0], values[len(values) // 2],
         values[-1], max(values))), "no" if figure.name in rising else "yes")
        for figure, values in zip(FIGURES, columns, strict=True)
    ]  # fmt: skip
    table(("figure", f"at {start.done:,}", f"at {middle.done:,}", f"at {end.done:,}", "highest", "flat"), rows)
    each = (end.ledger - start.ledger) * 1e6 / max(1, end.done)
    foot = f"{end.done:,} tasks in {end.seconds:,.0f} s, {each:,.0f} bytes of ledger for each"
    print(foot, flush=True)
    if given.svg:
        lines = [
            Line(figure.name, figure.unit, [(seen.done, value) for seen, value in zip(looks, values, strict=True)])
            for figure, values in zip(FIGURES, columns, strict=True)
        ]
        pace = [(b.done, (b.done - a.done) / (b.seconds - a.seconds)) for a, b in pairwise(looks)]
        given.svg.write_text(draw([*lines, Line("throughput", "tasks/s", pace)], foot))
    if rising:
        print(f"growing: {', '.join(rising)}", file=sys.stderr)
    if end.done < given.tasks:
        print(f"only {end.done:,} of {given.tasks:,} tasks in {given.minutes:g} minutes", file=sys.stderr)
    return int(bool(rising) or end.done < given.tasks)


if __name__ == "__main__":
    sys.exit(main())
