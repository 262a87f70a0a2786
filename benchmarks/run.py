"""Runs the benchmarks in turn, each in a process of its own, and prints their Markdown tables: what `make bench` does.

    python benchmarks/run.py [NAME ...]

A benchmark that fails or takes too long says so in its place, and the others go on; the exit code is then 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 1500.0  # seconds for one benchmark
ORDER = (
    "throughput", "latency", "growth", "task_path", "warm", "startup", "gateway", "sandbox", "audit", "memory",
)  # fmt: skip


def main() -> int:
    """Run those named, or all that are there."""
    failed = []
    for name in sys.argv[1:] or ORDER:
        file = HERE / f"{name}.py"
        child = subprocess.Popen([sys.executable, str(file)], cwd=HERE.parent)
        try:
            code: int | str = child.wait(LIMIT)
        except subprocess.TimeoutExpired:
            child.terminate()
            code = f"not done in {LIMIT:g} s"
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if code:
            failed.append(name)
            print(f"\n{name} failed: {code}\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
