"""A git repository for the tests, and git as a person would run it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from producer.worktree import Author, Place

AUTHOR = Author("code", {"Producer-Task": "T1", "Producer-Cost-USD": "0.01"})


def git(directory: Path, *words: str) -> str:
    """Run git; what it printed. A failure fails the test."""
    identity = ["-c", "user.name=Person", "-c", "user.email=person@example.invalid"]
    ran = subprocess.run(
        ["git", *identity, *words], cwd=directory, capture_output=True, text=True, timeout=30,
        env={"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"},
    )  # fmt: skip
    assert ran.returncode == 0, f"git {words}: {ran.stderr}"
    return ran.stdout.strip()


def repository(directory: Path, **files: str) -> Path:
    """A repository with one commit on main."""
    directory.mkdir(parents=True, exist_ok=True)
    git(directory, "init", "-q", "-b", "main")
    for name, text in {"shared.txt": "one\ntwo\nthree\n", **files}.items():
        (directory / name).write_text(text)
    git(directory, "add", "-A")
    git(directory, "commit", "-q", "-m", "Begin")
    return directory


def place(repository: Path, state: Path, task: str = "T1", **more: object) -> Place:
    """Where a task of the repository works."""
    return Place(str(repository), str(state / "worktrees" / task), f"producer/{task}", "main", **more)  # type: ignore[arg-type]


def merges(directory: Path) -> list[str]:
    """The subjects of main's merges, newest first."""
    return git(directory, "log", "--merges", "--format=%s", "main").splitlines()
