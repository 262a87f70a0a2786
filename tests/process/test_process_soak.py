"""Nothing grows: the short form of `make soak`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[2] / "benchmarks/soak.py"


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_thirty_thousand_tasks_leave_nothing_behind(tmp_path: Path) -> None:
    picture = tmp_path / "soak.svg"
    command = [sys.executable, str(SOAK), "--tasks", "30000", "--minutes", "10", "--svg", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=660)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "30,000 tasks in" in done.stdout
    assert picture.read_text().count("<path") == 8
