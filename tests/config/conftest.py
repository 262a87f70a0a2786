from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "producer.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the state of the user who runs it."""
    state = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(state))
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "PRODUCER_CONFIG", "PRODUCER_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
