"""From the claim of a task to its first model request: with a process that stood by, without, and by a plain query().

    python benchmarks/warm.py [--rounds 11]

The real supervisor, worker, gateway and claude CLI; a scripted model on loopback. They take turns in one run, so
that what else the machine does hits all of them. `claim` is the moment that the ledger has for the attempt; `request`
is when the model has the whole request. query() is the SDK's, from its call on, with the SDK imported, straight to the
model, with the same tools and options; and once more in the sandbox that the roles have, which it has not by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import yaml
from harness import head
from upstream import running

from producer import reaper
from producer.errors import NoSupervisor, WireError
from producer.ids import from_iso, new_id
from producer.ledger import LedgerClient, Reader
from producer.places import Places
from producer.reaper import PROJECT_MARKER, Family
from producer.sandbox import Ground, Wishes, enclose
from producer.wire.client import Control
from producer.workers.isolation import Containment, write_launcher

TOOLS = ["Read", "Write", "Edit", "Bash"]
PATIENCE = 60.0


def until(condition: object, what: str, every: float = 0.01) -> object:
    """Wait for something true; SystemExit where it does not come about."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come about in {PATIENCE:g} s")
        time.sleep(every)
    return found


class Bench:
    """A project with a warm and a cold role under a running supervisor."""

    def __init__(self, base: Path, url: str, note: Path) -> None:
        self.base, self.url, self.note = base, url, note
        self.root = base / "p"
        self.root.mkdir()
        common = {"daily_cap_usd": 50, "dispatch_reservation_usd": 0.01, "allowed_tools": TOOLS}
        roles = {"warm": common, "cold": {**common, "allowed_tools": [*TOOLS], "warm": False}}
        (self.root / "producer.yaml").write_text(
            yaml.safe_dump({"project_name": "bench", "budget": {"project_ceiling_usd": 100, "agents": roles}})
        )
        self.env = {"HOME": f"{base}/h", "XDG_STATE_HOME": f"{base}/s", "XDG_RUNTIME_DIR": f"{base}/r",
                    "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "sk-bench",
                    "ANTHROPIC_BASE_URL": url}  # fmt: skip
        os.environ.update({name: self.env[name] for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")})
        self.ledger = self.root / "agent-state" / "ledger.db"
        self.places = Places.of(self.ledger)

    def start(self) -> subprocess.Popen[bytes]:
        """The supervisor, once its workers are idle."""
        command = [sys.executable, "-m", "producer", "--config", str(self.root / "producer.yaml"), "run"]
        log = (self.base / "log").open("wb")
        process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)
        until(lambda: self.idle() or process.poll() is not None, "an idle fleet")
        if process.poll() is not None:
            raise SystemExit((self.base / "log").read_text())
        return process

    def idle(self) -> bool:
        """Whether all workers wait."""
        try:
            control = Control(self.places)
            roles = control.ask("status", seconds=2.0).result["roles"].values()
        except (NoSupervisor, WireError):
            return False
        return [worker["state"] for role in roles for worker in role["workers"]] == ["idle", "idle"]

    def standing(self) -> list[psutil.Process]:
        """The claude processes of the project."""
        found = []
        for pid in reaper.marked(PROJECT_MARKER).get(self.places.key, []):
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                found += [process] if Path(process.exe()).name == "claude" else []
        return found

    def rest(self) -> None:
        """Wait until a process stands by, and for the machine to come to rest after its start."""
        until(lambda: len(self.standing()) == 1 and self.idle(), "a process that stands by", 0.2)
        time.sleep(1.0)

    def asked(self, task: str) -> float:
        """When the model had the task's request, in epoch seconds."""
        found = until(lambda: [ln for ln in self.note.read_text().splitlines() if ln.endswith(task)], "the request")
        return int(found[0].split()[0]) / 1e9  # type: ignore[index]

    def task(self, role: str) -> float:
        """Seconds from the claim of a fresh task to its request."""
        self.rest()
        with LedgerClient(self.ledger, actor="bench") as client:
            ident = client.insert_task(agent_owner=role, title="t", description="Say hello.")
            asked = self.asked(ident)
            until(lambda: client.get_task(ident).status == "done", "the task's end")  # type: ignore[union-attr]
        with Reader(self.ledger) as reader:
            return asked - from_iso(reader.show(ident)["attempts"][0]["claimed_at"])

    def launcher(self, own: Path) -> Path:
        """A stand-in for claude that starts it in the role's sandbox, ``own`` being its one private directory."""
        from producer.workers.claude import _executable

        wishes = Wishes("auto", "full", str(self.root), hide=(str(self.ledger.parent),))
        way, words = enclose(wishes, Ground(self.root, None, own, (own,), (Path(_executable()),), os.environ["PATH"]))
        self.way = way.value
        return write_launcher(own / "claude.sh", _executable(), (), Containment.PLAIN, words)

    def query(self, held: bool = False) -> float:
        """Seconds from a call of query() to its request; ``held``: in the sandbox that a role of ours has."""
        import claude_agent_sdk as sdk

        ident = new_id()
        own = self.base / ident
        own.mkdir()
        self.rest()
        options = sdk.ClaudeAgentOptions(
            cwd=self.root, model="claude-sonnet-5-5", tools=TOOLS, allowed_tools=TOOLS, permission_mode="dontAsk",
            cli_path=self.launcher(own) if held else None,
            setting_sources=[], strict_mcp_config=True, skills=[], verbatim_prompts=True,
            env={"CLAUDE_CONFIG_DIR": str(own), "ANTHROPIC_BASE_URL": self.url, "ANTHROPIC_API_KEY": "sk-bench",
                 "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "ENABLE_TOOL_SEARCH": "0"},
        )  # fmt: skip

        async def run() -> float:
            began = time.time()
            async for _ in sdk.query(prompt=f"Task: {ident}\nSay hello.", options=options):
                pass
            return began

        began = asyncio.run(run())
        return self.asked(ident) - began


def line(name: str, seconds: list[float], reference: float) -> str:
    """One row of the table."""
    middle = statistics.median(seconds)
    figures = " | ".join(f"{value * 1000:.0f}" for value in (middle, min(seconds), max(seconds)))
    return f"| {name} | {figures} | {reference / middle:.1f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    head("Warm start")
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="w")))
        note = base / "note"
        note.touch()
        bench = Bench(base, stack.enter_context(running("--note", str(note))), note)
        process = bench.start()
        stack.callback(reaper.end, Family(entries=(f"{PROJECT_MARKER}={bench.places.key}",)))
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        warm, cold, plain, held = [], [], [], []
        for _ in range(given.rounds):
            warm.append(bench.task("warm"))
            plain.append(bench.query())
            cold.append(bench.task("cold"))
            held.append(bench.query(held=True))
        bench.rest()
        (stood,) = bench.standing()
        memory = stood.memory_full_info()
        before = sum(stood.cpu_times()[:2])
        time.sleep(10)
        spent = (sum(stood.cpu_times()[:2]) - before) / 10
    reference = statistics.median(plain)
    print(f"medians of {given.rounds}, milliseconds\n")
    print("| from claim (or call) to the first model request | median | least | most | times faster than query() |")
    print("|---|---:|---:|---:|---:|")
    print(line("a process that stood by (target: 120 ms, 4x)", warm, reference))
    print(line("a role with `warm: false`", cold, reference))
    print(line("plain query(), SDK imported", plain, reference))
    print(line(f"query() in the same sandbox ({bench.way})", held, reference))
    print(f"\na process that stands by: {memory.rss >> 20} MB resident, {memory.uss >> 20} MB its own, "
          f"{spent * 100:.2f} % of a processor")  # fmt: skip


if __name__ == "__main__":
    main()
