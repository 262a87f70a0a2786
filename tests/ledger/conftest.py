"""Fixtures of the ledger's tests: private directories of the test's own, a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_rig import Desk
from old_ledger import OldLedger


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the private directories of this test lie; short, for the sockets."""
    directory = tmp_path_factory.mktemp("h")
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(directory / "s"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory / "r"))
    return directory


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A fresh ledger."""
    store = Desk(tmp_path)
    yield store
    store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of a migration test lies; nothing else is in its directory."""
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def old(path: Path) -> OldLedger:
    """An empty ledger of 0.3."""
    return OldLedger(path)
