"""Whether a ledger with a past is as quick as an empty one: throughput and latency, as ratios to the empty ledger.

    python benchmarks/growth.py [--sizes 1000 10000 100000 1000000] [--blocked 100000] [--tasks 5000] [--rounds 5]

All ledgers are made first; then every round goes through all of them in turn, each round beginning with another one,
so that whatever else the machine does hits them alike. A ratio is the median of the rounds' own: minutes apart, the
same ledger may differ by more than two ledgers do. A finished task has its attempt, its model request and an audit row.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from filling import block, fill
from harness import Project, head, project, scratch, spread, table
from latency import INVOKER, sample

from producer import LedgerClient


def made(root: Path, finished: int, blocked: int) -> Project:
    """A project whose ledger has so many tasks."""
    found = project(root)
    LedgerClient(found.ledger).close()
    if finished:
        fill(found.ledger, finished, finished=True)
    if blocked:
        block(found.ledger, blocked)
    return found


def ratio(these: list[float], empty: list[float]) -> str:
    """How they compare with the empty ledger's of the same round."""
    return spread([one / other for one, other in zip(these, empty, strict=True)], 2)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--blocked", type=int, default=100_000)
    parser.add_argument("--tasks", type=int, default=5_000)
    parser.add_argument("--inserts", type=int, default=60, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    head("Growth")
    with scratch() as root:
        ledgers = {"empty": made(root / "empty", 0, 0)}
        for size in given.sizes:
            ledgers[f"{size:,} finished"] = made(root / f"f{size}", size, 0)
        ledgers[f"{given.blocked:,} blocked"] = made(root / "blocked", 0, given.blocked)
        rates: dict[str, list[float]] = {name: [] for name in ledgers}
        waits: dict[str, list[float]] = {name: [] for name in ledgers}
        names = list(ledgers)
        for number in range(given.rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                one = ledgers[name]
                one.bulk(given.tasks)
                one.once()
                first, last = one.window(given.tasks)
                rates[name].append(given.tasks / (last - first))
                with one.supervisor(INVOKER):
                    waits[name].append(statistics.median(sample(one, given.inserts)))
    rows = [
        (
            name, spread(rates[name]), ratio(rates[name], rates["empty"]),
            spread(waits[name], 2), ratio(waits[name], waits["empty"]),
        )
        for name in ledgers
    ]  # fmt: skip
    table(("ledger", "tasks/s", "to the empty (target 0.90)", "insert to start, p50 ms", "(target 1.10)"), rows)


if __name__ == "__main__":
    main()
