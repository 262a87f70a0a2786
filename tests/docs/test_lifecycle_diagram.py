"""docs/lifecycle.md is what the transition tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from producer.core.lifecycle import mermaid

ROOT = Path(__file__).parents[2]
MEND = "python -m producer.core.lifecycle > docs/lifecycle.md"


def test_the_diagram_is_fresh():
    page = (ROOT / "docs" / "lifecycle.md").read_text()
    assert page == mermaid() + "\n", f"docs/lifecycle.md is stale: {MEND}"


def test_the_command_that_mends_it_works():
    run = subprocess.run(
        [sys.executable, "-m", "producer.core.lifecycle"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stdout) == (0, mermaid() + "\n"), run.stderr
