"""The short form of the fault battery, as continuous integration runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_faults_lose_double_leak_and_leave_nothing() -> None:
    command = [sys.executable, str(RUN), "--faults", "200", "--short", "--jobs", "2"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1400)
    print(done.stdout)  # the seed, the table, and what was kept where something was wrong
    assert done.returncode == 0, done.stdout[-6000:]
