"""How many tasks a second go through the complete path, side by side with what people would pick instead.

    python benchmarks/throughput.py [--tasks 10000] [--rounds 5] [--environments DIR] [--only NAME ...]

Ours: processes of their own file the tasks, one by one and in bulk; claim with holds and priorities, worker processes
over CURVE sockets, result, settlement, every audit row, synchronous=FULL. A short sweep finds the workers and the
prefetch that serve best. The others are installed from PyPI with uv, each into an environment of its own in DIR, and
run with two workers and, where they have the choice, as durable as ours; the original, which has not, as it comes,
with its pause cut to a thousandth, and so with its ledger made durable from outside. All tasks do nothing, and only
completions that stand in a queue's own records count.

Every queue gets as many tasks as ours, where that does not take minutes, and each measurement begins with an empty one.
Rounds go through all of them by turns; a ratio is of two rates of one round, its median that of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import HERE, head, project, scratch, spread, table, until

SWEEP = ((1, 64), (1, 256), (2, 64), (2, 256))
SWEEPS = 3
WORKERS = 2  # of each of the others; one process each, where they can
FILERS = 1, 8  # processes that file one task after the other


@dataclass(frozen=True)
class Other:
    """A queue to compare with: what it is installed from, and how others/queue_MODULE.py is called.

    ``most``: as many tasks as it can be given at most, without a round of it taking minutes. ``env``: how it is set up.
    """

    module: str
    packages: tuple[str, ...]
    target: str = "4x"
    most: int | None = None
    filers: tuple[int, ...] = FILERS
    env: Mapping[str, str] = field(default_factory=dict)


ORIGINAL = ("ai-producer==0.3.5",)
OTHERS = {
    "original": Other("original", ORIGINAL, "10x", most=100, filers=()),
    "original-quick": Other("original", ORIGINAL, "10x", env={"BENCH_PAUSE": "0.01"}),
    "original-durable": Other("original", ORIGINAL, "10x", most=1_000, env={"BENCH_PAUSE": "0.01", "BENCH_FSYNC": "1"}),
    "huey": Other("huey", ("huey",)),
    "dbos": Other("dbos", ("dbos",), most=500),
    "dramatiq": Other("dramatiq", ("dramatiq[redis]",), most=2_000),
    "procrastinate": Other("procrastinate", ("procrastinate", "psycopg[binary,pool]"), most=2_000),
}
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
REDIS = shutil.which("redis-server")
LIMIT = 120.0  # seconds for one measurement of one of the others


def drain(root: Path, tasks: int, workers: int, prefetch: int) -> float:
    """The queue was filled before: from the first claim to the last settlement."""
    made = project(root, workers, prefetch)
    made.bulk(tasks)
    made.once()
    first, last = made.window(tasks)
    return tasks / (last - first)


def feed(root: Path, tasks: int, workers: int, prefetch: int, how: str, filers: int = 1) -> float:
    """So many processes file while the supervisor runs: from the first insertion to the last settlement."""
    made, each = project(root, workers, prefetch), tasks // filers
    with made.supervisor(), ExitStack() as stack:
        files = [made.insert(how, each) for _ in range(filers)]
        for child in files:
            stack.callback(child.wait, 30)
            stack.callback(child.kill)
        began = min(float(child.stdout.readline()) for child in files if child.stdout)
        until(lambda: made.done() == each * filers, what=f"{each * filers} tasks done")
        for child in files:
            child.wait(30)
    return each * filers / (made.window(each * filers)[1] - began)


@dataclass
class Found:
    """What was measured of one queue: its rates in tasks/s, by what was done ("drain", or how many filed), by round."""

    name: str
    settings: str = ""
    error: str = ""
    rates: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def missing(self) -> str:
        """Why it cannot be measured here; empty where it can."""
        if self.name == "dramatiq" and not REDIS:
            return "skipped: no redis-server here"
        if self.name == "procrastinate" and not POSTGRES:
            return "skipped: no PostgreSQL here"
        return ""

    def round(self, environments: Path, root: Path, tasks: int) -> None:
        """Measure it once, each time from an empty queue; what fails is said, and not tried again."""
        one = OTHERS[self.name]
        tasks = min(tasks, one.most or tasks)
        self.error = self.error or self.missing()
        try:
            for how in () if self.error else ("drain", *map(str, one.filers)):
                words = ["drain", tasks, WORKERS] if how == "drain" else ["feed", tasks // 4, WORKERS, how]
                answer = measure(one, installed(one, environments), root / f"{self.name}-{how}", words)
                self.rates[how].append(answer["rate"])
                self.settings = f"{answer['settings']}, {tasks:,} tasks"
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout or "no word").strip().splitlines()
            self.error = f"failed: {lines[-1][:200]}"
        except (OSError, ValueError, IndexError) as error:
            self.error = f"failed: {str(error)[:200]}"


def measure(one: Other, python: Path, root: Path, words: Sequence[object]) -> dict[str, Any]:
    """Have one of the others measured in a directory of its own: {"rate": tasks/s, "settings": how it was run}."""
    root.mkdir(parents=True)
    verb, *numbers = words
    servers = {"BENCH_REDIS": REDIS or "", "BENCH_POSTGRES": str(POSTGRES[-1].parent) if POSTGRES else ""}
    env = {**os.environ, **servers, "BENCH_SCRATCH": str(root), **one.env, "PYTHONPATH": ""}
    command = [python, HERE / "others" / f"queue_{one.module}.py", verb, root, *numbers]
    answer: dict[str, Any] = json.loads(bounded([str(word) for word in command], root, env).splitlines()[-1])
    return answer


def bounded(words: list[str], root: Path, env: dict[str, str]) -> str:
    """What a command prints within LIMIT; it is asked to end, with all that it started, where it takes longer."""
    child = subprocess.Popen(words, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = child.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
        raise ValueError(f"not done in {LIMIT:g} s") from None
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, words, out, err)
    return out


def installed(one: Other, environments: Path) -> Path:
    """The interpreter of an environment with a queue in it, made where it is missing."""
    where = environments / one.module
    python = where / "bin" / "python"
    if not (where / "complete").exists():
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else "uv"
        for words in (
            ["venv", "--clear", "--python", sys.executable, str(where)],
            ["pip", "install", "--python", str(python), *one.packages],
        ):
            subprocess.run([uv, *words], check=True, capture_output=True, text=True, timeout=300)
        (where / "complete").touch()
    return python


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--other-tasks", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ai-producer-benchmarks"
    parser.add_argument("--environments", type=Path, default=cache)
    parser.add_argument("--only", nargs="*", default=list(OTHERS), choices=list(OTHERS), help="which of the others")
    given = parser.parse_args()
    environments, tasks, rounds = given.environments.resolve(), given.tasks, given.rounds
    head("Throughput")
    with scratch() as root:
        sweep: dict[tuple[int, int], list[float]] = {pair: [] for pair in SWEEP}
        for number in range(SWEEPS):
            for (w, p), rates in sweep.items():
                rates.append(drain(root / f"s{w}-{p}-{number}", tasks, w, p))
        best = max(sweep, key=lambda pair: statistics.median(sweep[pair]))
        table(("workers", "prefetch", "tasks/s"), [(*pair, spread(rates)) for pair, rates in sweep.items()])
        how = f"{best[0]} workers, prefetch {best[1]}, {tasks:,} tasks, {rounds} rounds"
        ours, others = Found("ours", f"**ai-producer**: synchronous=FULL, {how}"), [Found(name) for name in given.only]
        for number in range(rounds):
            here = root / str(number)
            ours.rates["drain"].append(drain(here / "drain", tasks, *best))
            ours.rates["bulk"].append(feed(here / "bulk", tasks, *best, "bulk"))
            for filers in FILERS:
                ours.rates[str(filers)].append(feed(here / f"o{filers}", tasks // 4, *best, "single", filers))
            for found in others:
                found.round(environments, here, tasks)
    report(ours, others)
    print(f"Filed in bulk by another process, to the last done: {spread(ours.rates['bulk'])} tasks/s.\n", flush=True)


def report(ours: Found, others: Sequence[Found]) -> None:
    """The table of them all; targets beside the ratios."""
    columns = ("drain", *map(str, FILERS))
    rows: list[tuple[object, ...]] = []
    for found in (ours, *others):
        cells = [found.error, "", ""] if found.error else [beside(ours, found, column) for column in columns]
        target = OTHERS[found.name].target if found.name in OTHERS else "5,000/s"
        rows.append((found.settings or found.name, cells[0], target, *cells[1:]))
    filed = [f"filed one by one by {filers}, to the last done" for filers in FILERS]
    table(("queue", "drain, tasks/s; we are ahead", "target", *filed), rows)


def beside(ours: Found, found: Found, column: str) -> str:
    """A queue's figure, and how far ours is ahead of it: the median of the rounds, the least and the most."""
    theirs = found.rates.get(column)
    if not theirs:
        return ""
    if found is ours:
        return spread(theirs)
    ratios = [mine / other for mine, other in zip(ours.rates[column], theirs, strict=True)]
    return f"{spread(theirs)}; **{statistics.median(ratios):.1f}x** ({min(ratios):.1f} to {max(ratios):.1f})"


if __name__ == "__main__":
    main()
