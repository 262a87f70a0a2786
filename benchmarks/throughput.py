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
from collections.abc import Callable
from pathlib import Path

from harness import HERE, machine, project, scratch, spread, table, until

SWEEP = ((1, 64), (1, 256), (2, 64), (2, 256))
OTHERS = {
    "original": ["ai-producer==0.3.5"],
    "huey": ["huey"],
    "dbos": ["dbos"],
    "dramatiq": ["dramatiq[redis]"],
    "procrastinate": ["procrastinate", "psycopg[binary,pool]"],
}
POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
REDIS = shutil.which("redis-server")
LIMIT = 150.0  # seconds for one of the others, all rounds together


def drain(root: Path, tasks: int, workers: int, prefetch: int) -> float:
    """The queue was filled before: from the first claim to the last settlement."""
    made = project(root, workers, prefetch)
    made.bulk(tasks)
    made.once()
    first, last = made.window(tasks)
    return tasks / (last - first)


def feed(root: Path, tasks: int, workers: int, prefetch: int, how: str) -> float:
    """A process files while the supervisor runs: from its first insertion to the last settlement."""
    made = project(root, workers, prefetch)
    with made.supervisor():
        files = made.insert(how, tasks)
        try:
            assert files.stdout is not None
            began = float(files.stdout.readline())
            until(lambda: made.done() == tasks, what=f"{tasks} tasks done")
            files.wait(30)
        finally:
            files.kill()
            files.wait(30)
    return tasks / (made.window(tasks)[1] - began)


def other(name: str, environments: Path, root: Path, tasks: int, workers: int, rounds: int) -> dict[str, object]:
    """What one of the others does; {"error": why} where it cannot be measured."""
    if name == "dramatiq" and not REDIS:
        return {"error": "skipped: no redis-server here"}
    if name == "procrastinate" and not POSTGRES:
        return {"error": "skipped: no PostgreSQL here"}
    try:
        python = installed(name, environments)
        root.mkdir()
        command = [python, HERE / "others" / f"queue_{name}.py", "measure", root, tasks, workers, rounds]
        servers = {"BENCH_REDIS": REDIS or "", "BENCH_POSTGRES": str(POSTGRES[-1].parent) if POSTGRES else ""}
        env = {**os.environ, **servers, "BENCH_SCRATCH": str(root), "PYTHONPATH": ""}
        words = [str(word) for word in command]
        answer: dict[str, object] = json.loads(bounded(words, root, env).splitlines()[-1])
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


def installed(name: str, environments: Path) -> Path:
    """The interpreter of an environment with a queue in it, made where it is missing."""
    where = environments / name
    python = where / "bin" / "python"
    if not (where / "complete").exists():
        beside = Path(sys.executable).with_name("uv")
        uv = str(beside) if beside.exists() else "uv"
        for words in (
            ["venv", "--clear", "--python", sys.executable, str(where)],
            ["pip", "install", "--python", str(python), *OTHERS[name]],
        ):
            subprocess.run([uv, *words], check=True, capture_output=True, text=True, timeout=300)
        (where / "complete").touch()
    return python


def repeat(rounds: int, measure: Callable[[int], float]) -> list[float]:
    """One measurement, several times."""
    return [measure(number) for number in range(rounds)]


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
    print(f"### Throughput\n\n{machine()}\n")
    with scratch() as root:
        sweep = {(w, p): drain(root / f"s{w}-{p}", tasks, w, p) for w, p in SWEEP}
        workers, prefetch = max(sweep, key=lambda pair: sweep[pair])
        table(("workers", "prefetch", "tasks/s, one round"), [(*pair, f"{rate:,.0f}") for pair, rate in sweep.items()])
        drained = repeat(rounds, lambda n: drain(root / f"d{n}", tasks, workers, prefetch))
        bulk = repeat(rounds, lambda n: feed(root / f"b{n}", tasks, workers, prefetch, "bulk"))
        single = repeat(rounds, lambda n: feed(root / f"o{n}", tasks // 4, workers, prefetch, "single"))
        found = {
            name: other(name, environments, root / name, given.other_tasks, workers, rounds) for name in given.only
        }
    report(found, drained, bulk, single, f"{workers} workers, prefetch {prefetch}, {tasks:,} tasks, {rounds} rounds")


def report(found: dict[str, dict[str, object]], drained: list[float], bulk: list[float], single: list[float],
           how: str) -> None:  # fmt: skip
    """The table of them all; targets beside the ratios."""
    ours, fed = statistics.median(drained), statistics.median(single)
    us = f"**ai-producer**: synchronous=FULL, {how}"
    rows: list[tuple[object, ...]] = [(us, spread(drained), "", spread(single), "", "5,000/s")]
    for name, answer in found.items():
        if "error" in answer:
            rows.append((name, answer["error"], "", "", "", ""))
            continue
        theirs, slowly = answer["drain"], answer["feed"]
        assert isinstance(theirs, list) and isinstance(slowly, list)
        ratios = [f"{ours / statistics.median(theirs):.1f}x", f"{fed / statistics.median(slowly):.1f}x"]
        target = "10x" if name == "original" else "4x"
        rows.append((answer["settings"], spread(theirs), ratios[0], spread(slowly), ratios[1], target))
    head = ("queue", "drain, tasks/s", "we are ahead", "filed one by one, to the last done", "we are ahead", "target")
    table(head, rows)
    print(f"Filed in bulk by another process, to the last done: {spread(bulk)} tasks/s.\n", flush=True)


if __name__ == "__main__":
    main()
