"""The fault battery: `python tests/chaos/run.py --faults 200 --seed N [--short]`. What it does: docs/chaos.md.

Prints its seed first. Exit code 0 where all faults struck, every kind among them, and all six numbers are zero in every
round; 1 where one is not (the round's files are then kept, and where they are is said), or where time ran out before. With
--tally a long form can be run in pieces: each round that is over is a line of that file, and is not run again. As root it
runs in a mount namespace of its own, so that a disk can be full.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
INSIDE = "AI_PRODUCER_CHAOS_INSIDE"
ALL_KINDS = 100  # faults from which on every kind must have struck

import battle  # noqa: E402
import checker  # noqa: E402
import faults  # noqa: E402


def main() -> int:
    given = _parser().parse_args()
    given.minutes = given.minutes or (10 if given.short else 60)
    if os.environ.get(INSIDE) is None and os.geteuid() == 0 and _can_unshare():
        os.execvpe("unshare", ["unshare", "-m", "--", sys.executable, *sys.argv, *_seeded(given)],
                   {**os.environ, INSIDE: "1"})  # fmt: skip
    mount = os.environ.get(INSIDE) == "1"
    print(f"seed {given.seed}", flush=True)
    clock = _faketime()
    for missing, what in ((not mount, "disk full: by a limit on file sizes (no root, no mount namespace)"),
                          (not clock, "clock jumps: left out (no libfaketime: pip install libfaketime)"),
                          (not shutil.which("strace"), "EIO on fsync: left out (no strace)")):  # fmt: skip
        if missing:
            print(what, flush=True)
    if mount:  # libfaketime leaves a file there for every process that is killed
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "chaos", "/dev/shm"], check=False)
    signal.signal(signal.SIGTERM, _end)
    base = Path(tempfile.mkdtemp(prefix="apc", dir=given.directory))
    return Battery(given, base, mount, clock).run()


def _end(*_: object) -> None:
    """Rounds end all their processes on the way out."""
    for child in multiprocessing.active_children():
        child.terminate()
    sys.exit("ended by SIGTERM")


@dataclass(frozen=True)
class Plan:
    """What a round is, decided by the battery's seed and the round's number alone."""

    number: int
    seed: int
    rehearsed: bool
    count: int


class Battery:
    """All rounds, so many at a time, until enough faults have struck."""

    def __init__(self, given: argparse.Namespace, base: Path, mount: bool, clock: Path | None) -> None:
        self.given, self.base, self.mount, self.clock = given, base, mount, clock
        self.began = time.monotonic()
        self.rounds = _tallied(given.tally, given.seed) if given.tally else []
        self.faults = sum(sum(line["injected"].values()) for line in self.rounds)
        self.kept: list[str] = []
        self.number = 0

    def run(self) -> int:
        """The exit code."""
        if self.rounds:
            print(f"{self.given.tally}: {self.faults} faults in {len(self.rounds)} rounds already", flush=True)
        running: dict[Future[dict[str, Any]], Plan] = {}
        with ProcessPoolExecutor(self.given.jobs, multiprocessing.get_context("fork")) as pool:
            while True:
                while len(running) < self.given.jobs and (plan := self._next(running)):
                    running[pool.submit(partial(fight, self.given, self.base, self.mount, self.clock), plan)] = plan
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    self._over(running.pop(future), future.result())
        short = _table(self.rounds, time.monotonic() - self.began, self._kinds())
        for path in self.kept:
            print(f"kept: {path}")
        if not self.kept:
            shutil.rmtree(self.base, ignore_errors=True)
        if self.faults < self.given.faults:
            print(f"only {self.faults} of {self.given.faults} faults in {self.given.minutes:g} minutes")
        return int(short or self.faults < self.given.faults)

    def _next(self, running: dict[Future[dict[str, Any]], Plan]) -> Plan | None:
        left = self.given.faults - self.faults - sum(plan.count for plan in running.values())
        if left <= 0 or time.monotonic() - self.began > self.given.minutes * 60:
            return None
        over = {line["number"] for line in self.rounds}
        while self.number in over:
            self.number += 1
        number, every = self.number, self.given.rehearse_every
        self.number += 1
        rehearsed = every < 1000 and number % every == every - 1
        seed = random.Random(f"{self.given.seed}/{number}").randrange(2**32)
        return Plan(number, seed, rehearsed, min(self.given.rehearsed_round if rehearsed else self.given.round, left))

    def _over(self, plan: Plan, line: dict[str, Any]) -> None:
        self.rounds.append(line)
        self.faults += sum(line["injected"].values())
        clean = not any(line["wrong"].values())
        phases = " + ".join(f"{name} {seconds:.0f}" for name, seconds in line["phases"].items())
        print(f"round {plan.number} ({'claude' if plan.rehearsed else 'echo'}, seed {plan.seed}): "
              f"{sum(line['injected'].values())} faults, {line['notes']['tasks']} tasks, {line['seconds']:.0f} s "
              f"({phases}), {'clean' if clean else 'WRONG'}", flush=True)  # fmt: skip
        for name, texts in line["wrong"].items():
            for text in texts[:12]:
                print(f"  {name}: {text}", flush=True)
        if line["kept"]:
            self.kept.append(line["kept"])
        if self.given.tally:
            with self.given.tally.open("a") as file:
                file.write(json.dumps({"of": self.given.seed, **line}) + "\n")

    def _kinds(self) -> list[str]:
        """The kinds that must have struck by now."""
        if self.faults < ALL_KINDS:
            return []
        return [
            kind
            for rehearsed in {line["rehearsed"] for line in self.rounds}
            for kind in faults.available(rehearsed=rehearsed, clock=self.clock is not None)
        ]


def fight(given: argparse.Namespace, base: Path, mount: bool, clock: Path | None, plan: Plan) -> dict[str, Any]:
    """One round in a process of its own: what it did and found, as the tally keeps it."""
    fight = battle.Round(base / str(plan.number), plan.seed, plan.count, rehearsed=plan.rehearsed, mount=mount,
                         clock=clock)  # fmt: skip
    done, kept = fight.fight(), ""
    if given.keep or not done.findings.clean:
        where = base / f"kept-{plan.number}"
        where.mkdir()
        fight.keep(where)
        kept = str(where)
    fight.discard()
    return {"number": plan.number, "seed": plan.seed, "rehearsed": plan.rehearsed, "injected": dict(done.injected),
            "struck": dict(done.struck), "missed": dict(done.missed), "notes": dict(done.findings.notes),
            "wrong": done.findings.wrong, "alone": done.left_alone, "seconds": done.seconds, "phases": done.phases,
            "kept": kept}  # fmt: skip


def _tallied(path: Path, seed: int) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if any(line["of"] != seed for line in lines):
        sys.exit(f"{path} is of another seed: give --seed {lines[0]['of']}")
    return lines


def _table(rounds: list[dict[str, Any]], seconds: float, kinds: list[str]) -> bool:
    """Print what all rounds came to; whether anything is wrong with it."""
    total = {name: Counter[str]() for name in ("injected", "struck", "missed", "notes")}
    for line in rounds:
        for name, counter in total.items():
            counter.update(line[name])
    injected, missed = total["injected"], total["missed"]
    print(f"\n{'fault':<24}{'times':>6}{'struck':>8}{'hit nothing, not counted':>26}")
    for name in sorted({*injected, *missed}):
        print(f"{name:<24}{injected[name]:>6}{total['struck'][name]:>8}{missed[name]:>26}")
    spent = sum(line["seconds"] for line in rounds)
    print(
        f"{'all':<24}{injected.total():>6}   in {len(rounds)} rounds of {spent:.0f} s, the last ones in {seconds:.0f} s\n"
    )
    for name, count in sorted(total["notes"].items()):
        print(f"  {name}: {count}")
    print(f"  supervisors that left by themselves: {sum(line['alone'] for line in rounds)}\n")
    wrong = {name: sum(len(line["wrong"][name]) for line in rounds) for name in checker.NUMBERS}
    for name, count in wrong.items():
        print(f"{name:<24}{count:>6}")
    never = sorted({kind for kind in kinds if not injected[kind]})
    if never:
        print(f"never struck: {', '.join(never)}")
    return bool(never or sum(wrong.values()))


def _seeded(given: argparse.Namespace) -> list[str]:
    return [] if any(word.split("=")[0] == "--seed" for word in sys.argv) else ["--seed", str(given.seed)]


def _can_unshare() -> bool:
    return bool(shutil.which("unshare")) and subprocess.run(["unshare", "-m", "true"], check=False).returncode == 0


def _faketime() -> Path | None:
    try:
        import libfaketime
    except ImportError:
        return None
    found = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
    return found if found.exists() else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--short", action="store_true", help="begin no round after 10 minutes")
    parser.add_argument("--minutes", type=float, default=None, help="begin no round after so many minutes")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at the same time")
    parser.add_argument(
        "--tally", type=Path, default=None, help="a file that keeps each round's result; goes on from it"
    )
    parser.add_argument("--round", type=int, default=46, help="faults in a round")
    parser.add_argument("--rehearse-every", type=int, default=5, help="each so-many-th round is one with the real CLI")
    parser.add_argument("--rehearsed-round", type=int, default=22, help="faults in such a round")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="a short path")
    parser.add_argument("--keep", action="store_true", help="keep the files of clean rounds too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
