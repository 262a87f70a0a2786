"""How long it takes to start: the command line, the supervisor, and a fleet of 32 workers.

    python benchmarks/startup.py [--rounds 7] [--workers 32]

Each beside a bare `python -c pass` of the same run, so that a figure means something on another machine. READY is what
the service manager hears (sd_notify); the fleet is ready when `status` shows every worker idle. CPU is that of the
measured process and its children that have ended.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness import head

from producer.errors import NoSupervisor, WireError
from producer.places import Places
from producer.wire.client import Control

PATIENCE = 120.0
CONFIG = """
project_name: startup
budget:
  project_ceiling_usd: 10
  agents:
    code: {{daily_cap_usd: 5, allowed_tools: [Read], workers: {workers}}}
"""


class Bench:
    """A scratch project."""

    def __init__(self, base: Path, workers: int) -> None:
        self.config = base / "producer.yaml"
        self.config.write_text(CONFIG.format(workers=workers))
        self.env = {"HOME": str(base), "XDG_STATE_HOME": f"{base}/s", "XDG_RUNTIME_DIR": f"{base}/r",
                    "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "sk-bench",
                    "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}  # fmt: skip
        os.environ |= {name: self.env[name] for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
        self.ledger = base / "agent-state" / "ledger.db"
        self.places = Places.of(self.ledger)
        self.notify = base / "notify"

    def command(self, *words: str) -> list[str]:
        """producerctl with these words."""
        return [sys.executable, "-m", "producer", "--config", str(self.config), *words]

    def start(self, *words: str) -> tuple[subprocess.Popen[bytes], float]:
        """A supervisor, and the seconds until it said READY."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            self.notify.unlink(missing_ok=True)
            ear.bind(str(self.notify))
            ear.settimeout(PATIENCE)
            began = time.perf_counter()
            process = subprocess.Popen(
                self.command("run", *words), env={**self.env, "NOTIFY_SOCKET": str(self.notify)},
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            while b"READY=1" not in ear.recv(4096):
                pass
            return process, time.perf_counter() - began

    def workers(self) -> list[dict[str, object]]:
        """The workers as `status` shows them; none where nobody answers."""
        control = Control(self.places)
        try:
            found: list[dict[str, object]] = control.ask("status", {"brief": True}, 10.0).result["roles"]["code"][
                "workers"
            ]
            return found
        except (NoSupervisor, WireError):
            return []
        finally:
            control.close()

    def idle(self) -> int:
        """How many workers are ready."""
        return sum(worker["state"] == "idle" for worker in self.workers())

    def pids(self) -> list[int]:
        """The pids of the workers."""
        return [int(str(worker["pid"])) for worker in self.workers()]

    def gateway(self) -> int:
        """The pid of the gateway."""
        return int(json.loads((self.places.workers / "gateway").read_text())["pid"])

    def fleet(self, workers: int, invoker: str) -> float:
        """Seconds from the supervisor's start until all of its workers are ready."""
        began = time.perf_counter()
        process, _ = self.start("--invoker", invoker)
        try:
            while self.idle() < workers:
                if time.perf_counter() - began > PATIENCE:
                    raise SystemExit(f"{workers} workers were not ready in {PATIENCE:g} s")
                time.sleep(0.1)
            return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait(30)


def measured(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of the seconds and of the CPU seconds that something takes."""
    wall, cpu = [], []
    for _ in range(rounds):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        found = work()
        wall.append(found if isinstance(found, float) else time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=32)
    given = parser.parse_args()
    head("Starting")
    rows: list[tuple[str, str, float, float]] = []
    with tempfile.TemporaryDirectory(prefix="s") as scratch:
        base = Path(scratch)
        (base / "one").mkdir()
        one = Bench(base / "one", 1)

        def run(*command: str) -> object:
            return subprocess.run(command, env=one.env, stdout=subprocess.DEVNULL, check=True)

        def ready() -> float:
            process, seconds = one.start("--invoker", "echo")
            process.terminate()
            process.wait(30)
            return seconds

        rows.append(("python -c pass", "", *measured(lambda: run(sys.executable, "-c", "pass"), given.rounds)))
        rows.append(("producerctl --help", "200 ms", *measured(lambda: run(*one.command("--help")), given.rounds)))
        supervisor, _ = one.start("--invoker", "echo")
        rows.append(("producerctl status", "200 ms", *measured(lambda: run(*one.command("status")), given.rounds)))
        supervisor.terminate()
        supervisor.wait(30)
        wall, _ = measured(ready, given.rounds)
        rows.append(("supervisor to READY", "500 ms", wall, 0.0))
        for invoker in ("echo", "claude"):
            (base / invoker).mkdir()
            fleet = Bench(base / invoker, given.workers)
            seconds, _ = measured(lambda fleet=fleet, invoker=invoker: fleet.fleet(given.workers, invoker), 5)  # type: ignore[misc]
            rows.append((f"{given.workers} workers ready ({invoker})", "5000 ms", seconds, 0.0))
    print("| start of | target | median, ms | CPU, ms | times `python -c pass` |\n|---|---:|---:|---:|---:|")
    for name, target, wall, cpu in rows:
        spent = f"{cpu * 1000:.0f}" if cpu else ""
        print(f"| {name} | {target} | {wall * 1000:.0f} | {spent} | {wall / rows[0][2]:.1f} |")


if __name__ == "__main__":
    main()
