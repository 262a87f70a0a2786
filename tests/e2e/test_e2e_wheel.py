"""What is published works without this repository: the wheel, in an environment of its own, runs the demo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


def run(*words: object, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env=os.environ | env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not UV.exists(), reason="there is no uv in this environment")
def test_the_wheel_runs_the_demo_in_an_environment_of_its_own(tmp_path: Path, private: Path) -> None:
    run(UV, "build", "--quiet", "--wheel", "--out-dir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("ai_producer-*.whl")
    run(UV, "venv", "--quiet", "--python", sys.executable, "own", cwd=tmp_path)
    python = tmp_path / "own/bin/python"
    run(UV, "pip", "install", "--quiet", "--python", python, wheel, cwd=tmp_path)
    outside = run(python, "-c", "import producer; print(producer.__file__)", cwd=tmp_path).strip()
    assert outside.startswith(str(tmp_path / "own"))
    places = {"XDG_STATE_HOME": str(private / "ws"), "XDG_RUNTIME_DIR": str(private / "wr"), "TMPDIR": str(tmp_path)}
    shown = run(tmp_path / "own/bin/producerctl", "demo", cwd=tmp_path, **places)
    assert "$0.00" in shown and "producerctl" in shown
    assert run(tmp_path / "own/bin/producer", "--version", cwd=tmp_path)
