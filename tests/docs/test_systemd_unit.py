"""The shipped unit is one that systemd takes without a remark."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "ai-producer.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_has_no_key_or_value_that_systemd_does_not_know(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    here = UNIT.read_text()
    for path in ("/opt/ai-producer/bin/producerctl",):
        here = here.replace(path, "/bin/true")  # verify wants the program to exist
    unit.write_text(here)
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
