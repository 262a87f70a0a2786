"""Commands outside a system service find the directories that systemd made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer import places
from producer.places import Places


def test_the_directories_of_a_service_are_found_without_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger.db"
    env = {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": "/run/user/0"}
    usual = Places.of(ledger, env)
    monkeypatch.setattr(places, "SYSTEM_STATE", tmp_path / "lib")
    monkeypatch.setattr(places, "SYSTEM_RUNTIME", tmp_path / "run")
    assert Places.of(ledger, env) == usual, "no service has this ledger"
    (tmp_path / "lib" / usual.key).mkdir(parents=True)
    found = Places.of(ledger, env)
    assert (found.state, found.runtime) == (tmp_path / "lib" / usual.key, tmp_path / "run" / usual.key)
