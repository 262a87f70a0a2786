"""`producerctl demo` whole, and cut off: what it then says is true, and what it suggests finishes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from driving import Project, end_all, until
from rehearsing import LONG

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture
def demo(project: Project) -> Iterator[Project]:
    """The demo's project, which no test has made yet."""
    made = Project(project.root.parent / "demo", project.env)
    yield made
    left = end_all(made, [])
    assert not left, left


def start(demo: Project) -> subprocess.Popen[str]:
    words = [sys.executable, "-P", "-m", "producer", "demo", "--dir", str(demo.root)]
    return subprocess.Popen(
        words, env=demo.env, cwd=demo.root.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def suggested(said: str) -> list[list[str]]:
    """The words of the commands below `Try next`."""
    lines = said[said.index("Try next") :].splitlines()[1:]
    return [line.split()[1:] for line in lines if line.startswith("  producerctl ")]


def test_a_demo_that_is_cut_off_says_what_is_left_and_how_it_goes_on(demo: Project) -> None:
    process = start(demo)
    try:
        until(lambda: demo.actions("task_completed"), LONG, "a first task that is done")
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    counts = demo.counts()
    assert counts["done"] and counts["pending"] and process.returncode == 1
    assert "not finished" in said and f"{counts['pending']} pending, {counts['done']} done" in said
    go_on, *looks = suggested(said)
    finished = demo.producerctl(*go_on, seconds=LONG)
    assert finished.returncode == 0, finished.stderr
    assert {name: number for name, number in demo.counts().items() if number} == {"done": 9}
    for words in looks:
        done = demo.producerctl(*words)
        assert done.returncode == 0 and done.stdout, words
    demo.books_balance()
