"""Each fault of the battery really happens to the process that it is meant for, and one that hit nothing says so."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faults
import processes
import pytest
import run

SITE = Path(__file__).with_name("site")
VICTIM = """
import os, sys, time
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except OSError as error:
        print(os.strerror(error.errno), flush=True)
"""


class Victim:
    """A process that does what it is told, line by line, and what of a round the faults look at."""

    def __init__(self, site: Path) -> None:
        self.site, self.clock = site, site / "clock"
        shutil.copy(SITE / "sitecustomize.py", site)
        self.clock.write_text("+0\n")
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        if library := run._faketime():
            env |= {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
        self.process = subprocess.Popen([sys.executable, "-c", VICTIM], env=env, text=True, cwd=site,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
        assert self.does("'up'") == "up"
        pid = self.process.pid
        self.battle: Any = SimpleNamespace(
            site=site, clock=self.clock, room=site, own_disk=False, random=random.Random(1), started=float("-inf"),
            supervisor=None, pick=lambda kind: pid, everyone=lambda: [pid],
        )  # fmt: skip

    def does(self, expression: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    victim = Victim(tmp_path)
    yield victim
    victim.process.send_signal(signal.SIGCONT)
    victim.process.kill()
    victim.process.communicate()


def test_a_process_that_is_killed_or_stopped_is(victim: Victim) -> None:
    end = faults.freeze("worker")(victim.battle)
    assert callable(end) and processes.comes_to(victim.process.pid, "T")
    assert end() == 1 and victim.does("1 + 1") == "2"
    assert faults.kill("worker")(victim.battle) == 1 and victim.process.wait(10) == -signal.SIGKILL
    assert faults.kill("worker")(victim.battle) is None, "it was gone"


def test_no_descriptor_is_to_be_had_while_it_lasts(victim: Victim) -> None:
    end = faults.no_descriptors(victim.battle)
    assert victim.does("os.open('/dev/null', 0)") == "Too many open files"
    assert callable(end) and end() == 1
    assert victim.does("os.open('/dev/null', 0)").isdecimal()


@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
def test_every_fsync_fails_while_it_lasts_and_each_is_counted(victim: Victim) -> None:
    sync = "os.fsync(os.open('file', os.O_CREAT | os.O_WRONLY))"
    assert victim.does(sync) == "None"
    end = faults.io_error(victim.battle)
    deadline = time.monotonic() + 20
    failed = 0
    while not failed and time.monotonic() < deadline:  # strace takes a moment to attach
        failed += victim.does(sync) == "Input/output error"
    failed += victim.does(sync) == "Input/output error"
    assert callable(end) and end() == failed == 2
    assert victim.does(sync) == "None"
    end = faults.io_error(victim.battle)
    assert callable(end) and end() == 0, "nothing was synced"


@pytest.mark.parametrize(("kind", "fate"), [("drop", "(0, 0.0)"), ("duplicate", "(2, 0.0)"), ("delay", "(1, 0.")])
def test_frames_meet_their_fate_and_each_is_counted(victim: Victim, kind: str, fate: str) -> None:
    ask = "[__import__('sitecustomize').WEATHER.fate() for _ in range(100)]"
    harm = faults.frames(kind)
    end = harm(victim.battle)
    assert callable(end) and end() == 0, "nothing was sent"
    end = harm(victim.battle)
    time.sleep(0.05)  # it looks every 20 ms
    said = victim.does(ask)
    met = said.count(fate) if kind != "delay" else 100 - said.count("(1, 0.0)")
    assert callable(end) and end() == met > 0
    time.sleep(0.05)
    assert victim.does(ask).count("(1, 0.0)") == 100, "over is over"


@pytest.mark.skipif(run._faketime() is None, reason="no libfaketime")
def test_the_clock_jumps_a_day_and_back(victim: Victim) -> None:
    end = faults.clock_jump(victim.battle)
    assert abs(abs(float(victim.does("time.time()")) - time.time()) - faults.DAY) < 60
    assert callable(end) and end() == 1
    assert abs(float(victim.does("time.time()")) - time.time()) < 60


def test_no_file_grows_where_the_disk_is_full_by_a_limit(victim: Victim) -> None:
    end = faults.disk_full(victim.battle)
    assert victim.does("open('big', 'wb', 0).write(bytes(10_000)) < 10_000 or os.write(1, b'grew')") == "True"
    assert callable(end) and end() == 1


def line(**more: Any) -> dict[str, Any]:
    wrong = {name: [] for name in run.checker.NUMBERS}
    return {"number": 0, "rehearsed": False, "injected": {"disk full": 2}, "struck": {"disk full": 2}, "missed": {},
            "notes": {"tasks": 1}, "wrong": wrong, "seconds": 1.0, "alone": 0, **more}  # fmt: skip


def test_the_verdict_is_wrong_where_a_number_is_not_zero_or_a_kind_never_struck() -> None:
    assert not run._table([line()], 1.0, ["disk full"])
    assert run._table([line(injected={}, missed={"disk full": 5})], 1.0, ["disk full"])
    for name in run.checker.NUMBERS:
        wrong = {**line()["wrong"], name: ["this"]}
        assert run._table([line(), line(wrong=wrong)], 1.0, ["disk full"]), name
