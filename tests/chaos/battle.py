"""One round: a scratch project, a real supervisor under load, faults at random points, a drain, and the checker.

`rehearsed` rounds run the real claude CLI against the scripted model, which is a process of its own that no fault
touches: its bill is the measure. Other rounds run the echo invoker, for volume.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checker
import faults
import processes

from producer.errors import ProducerError
from producer.places import Places
from producer.wire.client import Control

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
RETRIES = 12
DISK = "48m"
MISSES = 8  # how often a kind is tried again that found no target
SCRIPT = """
defaults: {delay_seconds: 0.1, tokens_per_second: 400}
roles:
  "*":
    - title: "*cut*"
      turns:
        - {text: "This will be said twice, for it breaks off.", output_tokens: 90, cut: 1}
        - {text: "That is all.", output_tokens: 60}
    - turns:
        - text: One decision is to be made.
          tools:
            - name: mcp__ledger__record_decision
              input: {kind: choice, decision_text: "{title}", rationale: "it was to be made"}
          output_tokens: 220
          error: {status: 529, type: overloaded_error, message: Overloaded, retry_after: 0.1, times: 1}
        - text: And a look at the list.
          tools: [{name: mcp__ledger__list_tasks, input: {status: pending}}]
          output_tokens: 190
        - {text: "That is all.", output_tokens: 160}
        # a run that is lost after its last word is resumed, and asked for it again
        - {text: "That is all.", output_tokens: 20}
        - {text: "That is all.", output_tokens: 20}
        - {text: "That is all.", output_tokens: 20}
"""


@dataclass
class Outcome:
    """What a round did and found."""

    findings: checker.Findings
    injected: Counter[str]  # faults that struck, by kind
    struck: Counter[str]  # how often: frames lost, fsyncs spoilt, processes whose clock jumped
    missed: Counter[str]  # faults that hit nothing, and are not counted as any
    seconds: float
    phases: dict[str, float]
    left_alone: int = 0  # how often the supervisor left without having been killed
    log: list[str] = field(default_factory=list)


class Round:
    """``room``: where everything of the round lies; ``own_disk``: it is a small file system of its own."""

    def __init__(self, room: Path, seed: int, count: int, *, rehearsed: bool, mount: bool, clock: Path | None) -> None:
        self.room, self.count, self.rehearsed, self.own_disk = room, count, rehearsed, mount
        self.random = random.Random(seed)
        self.site = room.parent / f"{room.name}-site"  # beside the disk that runs full, not on it
        self.clock = self.site / "clock"
        self._library = clock
        self.injected, self.struck, self.missed = Counter[str](), Counter[str](), Counter[str]()
        self.active: list[tuple[float, str, Callable[[], int]]] = []
        self.phases: dict[str, float] = {}
        self.log: list[str] = []
        self.supervisor: subprocess.Popen[bytes] | None = None
        self.writers: list[tuple[subprocess.Popen[bytes], Path]] = []
        self.model: subprocess.Popen[bytes] | None = None
        self.left_alone = 0
        self._victims: set[int] = set()
        self.started = 0.0
        self._began = time.monotonic()
        self._prepare()

    # ---- the scratch project

    def _prepare(self) -> None:
        self.room.mkdir(mode=0o700)
        if self.own_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "chaos", self.room], check=True)
        shutil.copytree(HERE / "site", self.site, ignore=shutil.ignore_patterns("__pycache__"))
        self.clock.write_text("+0\n")
        root = self.room / "p"
        (root / "agent-state").mkdir(parents=True)
        self.ledger = root / "agent-state" / "ledger.db"
        for name in "hsr":
            (self.room / name).mkdir(mode=0o700)
        self.env = {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(self.room / "h"),
            "XDG_STATE_HOME": str(self.room / "s"), "XDG_RUNTIME_DIR": str(self.room / "r"),
            "PYTHONPATH": f"{self.site}:{SOURCE}", "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.places = Places.of(self.ledger, self.env)
        role = {
            "daily_cap_usd": 5000, "allowed_tools": ["Read"], "dispatch_reservation_usd": 0.01, "timeout_seconds": 20,
            "idle_timeout_seconds": 20, "workers": 1 if self.rehearsed else 2,
            "retry": {"max": RETRIES, "base_seconds": 0.1, "cap_seconds": 1.0},
        }  # fmt: skip
        if self.rehearsed:
            role |= {"timeout_seconds": 60, "idle_timeout_seconds": 30,
                     "env": {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "2000"}}  # fmt: skip
        document = {
            "project_name": "chaos", "default_model": "claude-sonnet-5-5", "shutdown_grace_seconds": 6,
            "poll_interval_seconds": 1, "failure_burst": {"count": 100_000},
            "notifications": {"ntfy_topic": "", "idle_wakeup_enabled": False},
            "limits": {"pending_per_role": 10_000},
            "budget": {"project_ceiling_usd": 9000,
                       "agents": {"alpha": {**role, "prefetch": 1}, "beta": {**role, "prefetch": 4}}},
        }  # fmt: skip
        (root / "producer.yaml").write_text(json.dumps(document, indent=1))  # which is YAML, without anchors
        if self.rehearsed:
            self._start_model()

    def _start_model(self) -> None:
        script = self.site / "script.yaml"
        script.write_text(SCRIPT)
        command = [sys.executable, "-P", "-m", "producer.gateway.rehearsal", str(script), "--bill", str(self.bill)]
        env = {**self.env, "PYTHONPATH": str(SOURCE), "HOME": str(self.site)}
        with (self.site / "model.log").open("wb") as log:
            self.model = subprocess.Popen(command, env=env, cwd=self.site, stdout=subprocess.PIPE, stderr=log)
        assert self.model.stdout
        url = self.model.stdout.readline().decode().strip().split()[-1]
        self.env |= {"ANTHROPIC_API_KEY": "sk-chaos", "ANTHROPIC_BASE_URL": url}

    @property
    def mode(self) -> str:
        """What the writers file."""
        return "claude" if self.rehearsed else "echo"

    @property
    def bill(self) -> Path:
        return self.site / "bill.jsonl"

    def say(self, text: str) -> None:
        self.log.append(f"{time.monotonic() - self._began:7.2f} {text}")
        with (self.site / "round.log").open("a") as file:
            file.write(self.log[-1] + "\n")

    # ---- its processes

    def start_supervisor(self) -> None:
        words = ["--config", str(self.room / "p" / "producer.yaml"), "run"]
        words += [] if self.rehearsed else ["--invoker", "echo"]
        env = dict(self.env)
        if self._library:
            env |= {"LD_PRELOAD": str(self._library), "FAKETIME_TIMESTAMP_FILE": str(self.clock),
                    "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        with (self.site / "supervisor.log").open("ab") as log:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-P", "-m", "producer", *words], env=env, cwd=self.room / "p",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.started = time.monotonic()
        self.say(f"supervisor {self.supervisor.pid}")

    def start_writer(self, at_once: int = 0) -> None:
        number = len(self.writers)
        log = self.site / f"writer-{number}.jsonl"
        log.touch()
        command = [sys.executable, "-P", str(HERE / "writer.py"), str(self.ledger), str(log),
                   str(self.random.randrange(2**32)), str(self.site / "stop"),
                   self.mode, str(at_once)]  # fmt: skip
        env = {**self.env, "PYTHONPATH": str(SOURCE)}
        with (self.site / "writers.log").open("ab") as output:
            process = subprocess.Popen(
                command, env=env, cwd=self.site, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.writers.append((process, log))

    def keep_up(self) -> None:
        """What a service manager and an operator do: start again what has gone."""
        if self.supervisor is not None and self.supervisor.poll() is not None:
            if self.supervisor.pid not in self._victims:
                self.left_alone += 1
                self.say(f"the supervisor left by itself: {self.supervisor.returncode}")
            self.start_supervisor()
        alive = sum(process.poll() is None for process, _ in self.writers)
        if alive < (1 if self.rehearsed else 2) and not (self.site / "stop").exists():
            self.start_writer()

    def pick(self, kind: str) -> int | None:
        """A living process of a kind, None where there is none."""
        if kind == "supervisor":
            return self.supervisor.pid if self.supervisor and self.supervisor.poll() is None else None
        if kind == "writer":
            found = [process.pid for process, _ in self.writers if process.poll() is None]
        else:
            found = sorted(processes.of_project(self.places.key)[kind])
        return self.random.choice(found) if found else None

    def everyone(self) -> list[int]:
        """All of its processes that faults may touch."""
        found = [pid for pids in processes.of_project(self.places.key).values() for pid in pids]
        return [*found, self.supervisor.pid] if self.supervisor and self.supervisor.poll() is None else found

    def ask(self, op: str, seconds: float = 3.0, **arguments: Any) -> Any:
        """A question to the supervisor; None where it does not answer."""
        supervisor = self.supervisor
        try:
            with closing(Control(self.places)) as control:
                reply = control.ask(op, arguments, seconds, lambda: supervisor is None or supervisor.poll() is None)
        except (ProducerError, OSError):
            return None
        return reply.result if reply.ok else None

    def resume(self) -> bool:
        """Release the kill switch, by the supervisor's hand or, where it is not there, by ours."""
        if self.ask("resume", reason="chaos") is not None:
            return True
        switch = self.ledger.parent / "kill_switch"
        with suppress(OSError):
            if switch.exists():
                switch.write_text("0\n")
        return True

    # ---- the course of it

    def fight(self) -> Outcome:
        """Run the round to its end. Whatever happens, no process of it is left."""
        try:
            self.start_supervisor()
            self.keep_up()
            self._settle_in()
            self._seed()
            self._phase("start")
            self._harm()
            self._phase("harm")
            self._calm()
            left = self._drain(240.0 if self.rehearsed else 150.0)
            self._phase("drain")
            self._dismiss()
            living = self._survivors()
            self._phase("stop")
            findings = checker.check(
                self.ledger, head=self.places.state / "audit.head", notes=[log for _, log in self.writers],
                retries=RETRIES, bill=self.bill if self.rehearsed else None, living=living,
            )  # fmt: skip
            for line in left:
                self.say(f"not settled in time: {line}")
        finally:
            self._end_everything()
        self._phase("check")
        return Outcome(findings, self.injected, self.struck, self.missed, time.monotonic() - self._began, self.phases,
                       self.left_alone, self.log)  # fmt: skip

    def _phase(self, name: str) -> None:
        """A part of the round is over."""
        self.phases[name] = time.monotonic() - self._began - sum(self.phases.values())
        self.say(f"---- {name}: {self.phases[name]:.1f} s")

    def _settle_in(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.keep_up()
            if self.ledger.exists() and self.ask("status", 1.0):
                return
            time.sleep(0.1)
        raise RuntimeError(f"no supervisor came up: see {self.site}/supervisor.log")

    def _seed(self) -> None:
        """Enough work from the start that every fault hits some."""
        self.start_writer(at_once=4 if self.rehearsed else self.count)
        self.writers[-1][0].wait(120)
        deadline = time.monotonic() + 60
        while not checker.begun(self.ledger) and time.monotonic() < deadline:
            time.sleep(0.1)

    def _harm(self) -> None:
        """Every kind until it has struck, in any order; then more of them by their weight, until there were enough.

        A short rehearsed round has no time for all: it owes those that only it can have.
        """
        kinds = faults.available(rehearsed=self.rehearsed, clock=self._library is not None)
        names, weights = list(kinds), [row[0] for row in kinds.values()]
        must = list(faults.CLAUDE) if self.rehearsed else names
        owed, misses = self.random.sample(must, len(must)), Counter[str]()
        low, high = (0.5, 3.0) if self.rehearsed else (0.1, 0.8)
        deadline = time.monotonic() + self.count * 8 + 60
        while self.injected.total() < self.count and time.monotonic() < deadline:
            time.sleep(self.random.uniform(low, high))
            for missed in self._end(time.monotonic()):
                owed.append(missed)
            self.keep_up()
            if self.injected.total() + len(self.active) >= self.count:
                continue
            name = owed.pop(0) if owed else self.random.choices(names, weights)[0]
            if any(kind == name for _, kind, _ in self.active):
                continue  # the same thing twice at once is one
            if not self._inject(name, *kinds[name][1:]) and misses[name] < MISSES:
                misses[name] += 1
                owed.append(name)

    def _inject(self, name: str, shortest: float, longest: float, deed: Callable[[Round], faults.Struck]) -> bool:
        """Do one; False where there was nothing to do it to."""
        victim = self.supervisor
        struck = deed(self)
        if struck is None:
            return False
        if name == "SIGKILL supervisor" and victim:
            self._victims.add(victim.pid)
        self.say(name)
        if callable(struck):
            self.active.append((time.monotonic() + self.random.uniform(shortest, longest), name, struck))
        else:
            self._count(name, struck)
        return True

    def _count(self, name: str, struck: int) -> None:
        self.struck[name] += struck
        (self.injected if struck else self.missed)[name] += 1

    def _end(self, now: float) -> list[str]:
        """End the faults whose time is over; those that had hit nothing."""
        missed = []
        due = [row for row in self.active if row[0] <= now]
        self.active = [row for row in self.active if row[0] > now]
        for _, name, end in due:
            struck = end()
            self._count(name, struck)
            self.say(f"  over: {name}, struck {struck}")
            if not struck:
                missed.append(name)
        return missed

    def _calm(self) -> None:
        """Nothing goes wrong any more; nobody files any more."""
        self._end(float("inf"))
        for pid in self.everyone():
            processes.tell(pid, signal.SIGCONT)
        (self.site / "stop").touch()
        self.keep_up()
        self.resume()
        for process, _ in self.writers:
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                self.say("a writer hangs")
                process.kill()
                process.wait()

    def _drain(self, seconds: float) -> list[str]:
        """Wait until nothing is left to do; what is left when the deadline has passed."""
        deadline = time.monotonic() + seconds
        while True:
            self.keep_up()
            left = checker.unsettled(self.ledger)
            if not left or time.monotonic() > deadline:
                self.say("drained" if not left else f"{len(left)} left")
                return left
            time.sleep(0.3)

    def _dismiss(self) -> None:
        assert self.supervisor
        for _ in range(3):  # one that just came up may have to be told once more
            if self.supervisor.poll() is not None:
                self.start_supervisor()
                self._settle_in()
            self.supervisor.send_signal(signal.SIGTERM)
            try:
                code = self.supervisor.wait(60)
            except subprocess.TimeoutExpired:
                self.say("the supervisor did not stop")
                return
            self.say(f"stopped: {code}")
            if code == 0:
                return

    def _survivors(self) -> list[str]:
        """Processes that carry the project's mark, or an attempt's of this ledger, three seconds after the end."""
        ours = {row["id"] for row in checker.Ledger(self.ledger).attempts}
        deadline = time.monotonic() + 3
        while True:
            living = [
                f"{pid} {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}"
                for pid, project, attempt, command, _ in processes.look()
                if project == self.places.key or attempt in ours
            ]
            if not living or time.monotonic() > deadline:
                return living
            time.sleep(0.1)

    def _end_everything(self) -> None:
        for _, _, end in self.active:
            with suppress(OSError):
                end()
        for process in (self.supervisor, self.model, *(process for process, _ in self.writers)):
            if process and process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        processes.end_all(self.places.key)

    def keep(self, where: Path) -> None:
        """Copy what the round wrote to a place that stays."""
        for path in (self.room, self.site):
            shutil.copytree(path, where / path.name, symlinks=True, ignore_dangling_symlinks=True, ignore=_sockets)

    def discard(self) -> None:
        """Remove what the round wrote."""
        if self.own_disk:
            subprocess.run(["umount", "-l", self.room], check=False)
        for path in (self.room, self.site):
            shutil.rmtree(path, ignore_errors=True)


def _sockets(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if not (Path(directory) / name).is_file() and not (Path(directory) / name).is_dir()}
