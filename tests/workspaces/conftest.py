"""A repository and a private place for worktrees."""

from __future__ import annotations

from pathlib import Path

import pytest
from workspace_rig import repository


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"
