"""The fault battery: `python tests/chaos/run.py --faults 200 --seed N [--short]`. What it does: docs/chaos.md.

Prints its seed first. Exit code 0 where all faults were injected and all six numbers are zero in every round; 1 where
one is not (the round's files are then kept, and where they are is said), or where time ran out before. As root it runs in a mount namespace of its own, so that a disk can be full.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
INSIDE = "AI_PRODUCER_CHAOS_INSIDE"

import battle  # noqa: E402
import checker  # noqa: E402


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
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM")
    )  # so that every process is ended on the way out
    base = Path(tempfile.mkdtemp(prefix="apc", dir=given.directory))
    return _all_rounds(given, base, mount, clock)


def _all_rounds(given: argparse.Namespace, base: Path, mount: bool, clock: Path | None) -> int:
    dice, began = random.Random(given.seed), time.monotonic()
    injected, notes, kept = Counter[str](), Counter[str](), list[Path]()
    wrong, number, alone = Counter[str](), 0, 0
    while injected.total() < given.faults and time.monotonic() - began < given.minutes * 60:
        rehearsed = number % given.rehearse_every == given.rehearse_every - 1 and given.rehearse_every < 1000
        seed = dice.randrange(2**32)
        count = min(given.round if not rehearsed else given.rehearsed_round, given.faults - injected.total())
        fight = battle.Round(base / str(number), seed, count, rehearsed=rehearsed, mount=mount, clock=clock)
        done = fight.fight()
        injected += done.injected
        notes += done.findings.notes
        alone += done.left_alone
        wrong.update({name: len(lines) for name, lines in done.findings.wrong.items()})
        print(f"round {number} ({'claude' if rehearsed else 'echo'}, seed {seed}): {done.injected.total()} faults, "
              f"{done.findings.notes['tasks']} tasks, {done.seconds:.0f} s, "
              f"{'clean' if done.findings.clean else 'WRONG'}", flush=True)  # fmt: skip
        if done.findings.clean and not given.keep:
            fight.discard()
        else:
            kept.append(_keep(fight, base / f"kept-{number}"))
            _explain(done.findings)
        number += 1
    _table(injected, notes, wrong, number, alone, time.monotonic() - began)
    for path in kept:
        print(f"kept: {path}")
    if not kept:
        shutil.rmtree(base, ignore_errors=True)
    short = injected.total() < given.faults
    if short:
        print(f"only {injected.total()} of {given.faults} faults in {given.minutes:g} minutes")
    return int(bool(sum(wrong.values())) or short)


def _keep(fight: battle.Round, where: Path) -> Path:
    where.mkdir()
    fight.keep(where)
    fight.discard()
    return where


def _explain(findings: checker.Findings) -> None:
    for name, lines in findings.wrong.items():
        for line in lines[:12]:
            print(f"  {name}: {line}", flush=True)


def _table(
    injected: Counter[str], notes: Counter[str], wrong: Counter[str], rounds: int, alone: int, seconds: float
) -> None:
    print(f"\n{'fault':<24}{'times':>6}")
    for name, count in sorted(injected.items()):
        print(f"{name:<24}{count:>6}")
    print(f"{'all':<24}{injected.total():>6}   in {rounds} rounds, {seconds:.0f} s\n")
    for name, count in sorted(notes.items()):
        print(f"  {name}: {count}")
    print(f"  supervisors that left by themselves: {alone}\n")
    for name in checker.NUMBERS:
        print(f"{name:<24}{wrong[name]:>6}")


def _seeded(given: argparse.Namespace) -> list[str]:
    return [] if "--seed" in sys.argv else ["--seed", str(given.seed)]


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
    parser.add_argument("--short", action="store_true", help="stop after 10 minutes")
    parser.add_argument("--minutes", type=float, default=None, help="begin no round after so many minutes")
    parser.add_argument("--round", type=int, default=46, help="faults in a round")
    parser.add_argument("--rehearse-every", type=int, default=5, help="each so-many-th round is one with the real CLI")
    parser.add_argument("--rehearsed-round", type=int, default=14, help="faults in such a round")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="a short path")
    parser.add_argument("--keep", action="store_true", help="keep the files of clean rounds too")

    return parser


if __name__ == "__main__":
    sys.exit(main())
