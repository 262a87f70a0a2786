"""How many tasks a second go through the complete path, side by side with what people would pick instead.

    python benchmarks/throughput.py [--tasks 10000] [--rounds 5] [--environments DIR] [--only NAME ...]

Ours: processes of their own file the tasks, one by one and in bulk; claim with holds and priorities, worker processes
over CURVE sockets, result, settlement, every audit row, synchronous=FULL. A short sweep finds the workers and the
prefetch that serve best. The others are installed from PyPI with uv, each into an environment of its own in DIR, and
run with as many workers and, where they have the choice, as durable as ours. All tasks do nothing, and only completions
that stand in a queue's own records count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HERE, head, project, scratch, spread, table, until

SWEEP = ((1, 64), (1, 256), (2, 64), (2, 256))
SWEEPS = 3
FILERS = 1, 8  # processes that file one task after the other


@dataclass(frozen=True)
class Other:
    """A queue to compare with: what it is installed from, and how others/queue_MODULE.py is called."""

    module: str
    packages: tuple[str, ...]
    target: str = "4x"
    tasks: int | None = None
    filers: tuple[int, ...] = FILERS
    pause: str = ""


OTHERS = {
    "original": Other("original", ("ai-producer==0.3.5",), "10x", pause="0.01"),
    "original-paused": Other("original", ("ai-producer==0.3.5",), "10x", tasks=100, filers=()),
    "huey": Other("huey", ("huey",)),
    "dbos": Other("dbos", ("dbos",)),
    "dramatiq": Other("dramatiq", ("dramatiq[redis]",)),
    "procrastinate": Other("procrastinate", ("procrastinate", "psycopg[binary,pool]")),
}
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
REDIS = shutil.which("redis-server")
LIMIT = 240.0  # seconds for one of the others, all rounds together


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


def other(name: str, environments: Path, root: Path, tasks: int, workers: int, rounds: int) -> dict[str, Any]:
    """What one of the others does; {"error": why} where it cannot be measured."""
    if name == "dramatiq" and not REDIS:
        return {"error": "skipped: no redis-server here"}
    if name == "procrastinate" and not POSTGRES:
        return {"error": "skipped: no PostgreSQL here"}
    one = OTHERS[name]
    try:
        python = installed(one, environments)
        root.mkdir()
        script = HERE / "others" / f"queue_{one.module}.py"
        command = [python, script, "measure", root, one.tasks or tasks, workers, rounds, *one.filers]
        servers = {"BENCH_REDIS": REDIS or "", "BENCH_POSTGRES": str(POSTGRES[-1].parent) if POSTGRES else ""}
        env = {**os.environ, **servers, "BENCH_SCRATCH": str(root), "BENCH_PAUSE": one.pause, "PYTHONPATH": ""}
        words = [str(word) for word in command]
        answer: dict[str, Any] = json.loads(bounded(words, root, env).splitlines()[-1])
        return answer
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no word").strip().splitlines()
        return {"error": f"failed: {lines[-1][:200]}"}
    except (subprocess.TimeoutExpired, OSError, ValueError, IndexError) as error:
        return {"error": f"failed: {str(error)[:200]}"}


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
        drained = [drain(root / f"d{n}", tasks, *best) for n in range(rounds)]
        bulk = [feed(root / f"b{n}", tasks, *best, "bulk") for n in range(rounds)]
        singly = {
            str(filers): [feed(root / f"o{filers}-{n}", tasks // 4, *best, "single", filers) for n in range(rounds)]
            for filers in FILERS
        }
        found = {
            name: other(name, environments, root / name, given.other_tasks, best[0], rounds) for name in given.only
        }
    report(found, drained, singly, f"{best[0]} workers, prefetch {best[1]}, {tasks:,} tasks, {rounds} rounds")
    print(f"Filed in bulk by another process, to the last done: {spread(bulk)} tasks/s.\n", flush=True)


def report(found: dict[str, dict[str, Any]], drained: list[float], singly: dict[str, list[float]], how: str) -> None:
    """The table of them all; targets beside the ratios."""
    us = f"**ai-producer**: synchronous=FULL, {how}"
    rows: list[tuple[object, ...]] = [(us, spread(drained), "5,000/s", *map(spread, singly.values()))]
    for name, answer in found.items():
        if "error" in answer:
            rows.append((name, answer["error"], "", *[""] * len(FILERS)))
            continue
        cells = [beside(singly[filers], answer["feed"].get(filers)) for filers in singly]
        rows.append((answer["settings"], beside(drained, answer["drain"]), OTHERS[name].target, *cells))
    filed = [f"filed one by one by {filers}, to the last done" for filers in FILERS]
    table(("queue", "drain, tasks/s; we are ahead", "target", *filed), rows)


def beside(ours: list[float], theirs: list[float] | None) -> str:
    """Their figure, and how far ours is ahead of it."""
    return f"{spread(theirs)}; **{statistics.median(ours) / statistics.median(theirs):.1f}x**" if theirs else ""


if __name__ == "__main__":
    main()
