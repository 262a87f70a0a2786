"""Fixtures of the wire's tests: private directories of the test's own, keys, the supervisor's ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wire_rig import Supervisor

from producer.places import Places
from producer.wire.auth import Keys


@pytest.fixture
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The private directories of a ledger that does not exist; short paths, for the sockets."""
    home = tmp_path_factory.mktemp("w")
    env = {"XDG_STATE_HOME": str(home / "s"), "XDG_RUNTIME_DIR": str(home / "r")}
    return Places.of(home / "ledger.db", env).make()


@pytest.fixture
def keys(places: Places) -> Keys:
    """The server's and the operator's keys."""
    made = Keys(places)
    made.ensure()
    return made


@pytest.fixture
def supervisor(places: Places, keys: Keys, over: str) -> Iterator[Supervisor]:
    """A bound set of the supervisor's sockets."""
    made = Supervisor(places, keys, over)
    yield made
    made.close()
