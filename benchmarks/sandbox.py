"""What a sandbox costs at the start of an attempt: bubblewrap and Landlock beside none, taken in turns.

    python benchmarks/sandbox.py [--runs 30] [--claude-runs 10]

Two figures: until a trivial program has run, and until the claude CLI has said its version (an attempt starts it;
the process of an attempt then connects, which costs the same in every way). Ratios are of medians, against none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from harness import head, table

from producer.sandbox import Ground, Way, Wishes, choice, enclose


def ground(top: Path, executable: Path) -> tuple[Ground, Path]:
    """A project with the usual things in it, and a task's directories."""
    root, task = top / "project", top / "state" / "task"
    for path in (
        root / "agents",
        root / "agent-state",
        root / "src",
        *(task / name for name in ("claude", "home", "tmp")),
    ):
        path.mkdir(parents=True)
    (root / "producer.yaml").write_text("x")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    own = tuple(task / name for name in ("claude", "home", "tmp"))
    return Ground(root, None, task, own, (executable,), os.environ["PATH"]), root


def command(way: Way, place: Ground, root: Path, top: Path) -> list[str]:
    """The words before the program."""
    hide = (str(root / "agent-state"), str(top / "state"), str(root / ".env"))
    keep = (str(root / "producer.yaml"), str(root / "agents"), str(root / ".claude"))
    return enclose(Wishes(way.value, "full", str(root), hide, keep), place)[1]


def seconds(words: list[str], root: Path, env: dict[str, str]) -> float:
    """How long a command takes."""
    began = time.perf_counter()
    subprocess.run(words, cwd=root, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print the table."""
    import claude_agent_sdk

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--claude-runs", type=int, default=10)
    options = parser.parse_args()
    head("Sandbox")
    claude = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    problems = {Way.BWRAP: choice.bwrap_problem(), Way.LANDLOCK: choice.landlock_problem(), Way.NONE: None}
    with tempfile.TemporaryDirectory(prefix="ap-bench-") as directory:
        top = Path(directory).resolve()
        place, root = ground(top, claude)
        env = {"PATH": os.environ["PATH"], "HOME": str(place.own[1]), "CLAUDE_CONFIG_DIR": str(place.own[0])}
        began = time.perf_counter()
        found = {way: command(way, place, root, top) for way, problem in problems.items() if problem is None}
        made = (time.perf_counter() - began) * 1000
        rows: list[tuple[object, ...]] = []
        for name, program, runs in (
            ("true", ["/bin/true"], options.runs),
            ("claude --version", [str(claude), "--version"], options.claude_runs),
        ):
            taken: dict[Way, list[float]] = {way: [] for way in found}
            for _ in range(runs):
                for way, words in found.items():
                    taken[way].append(seconds([*words, *program], root, env))
            plain = statistics.median(taken[Way.NONE])
            for way, times in taken.items():
                middle = statistics.median(times)
                more = (middle - plain) * 1000
                rows.append((f"`{name}`", way.value, f"{middle * 1000:.1f}", f"{middle / plain:.2f}", f"{more:+.1f}"))
    table(("program", "sandbox", "median, ms", "ratio to none", "more, ms"), rows)
    print(f"{len(found)} command lines were made in {made:.1f} ms.")
    for way, problem in problems.items():
        if problem:
            print(f"{way.value}: {problem}")


if __name__ == "__main__":
    main()
