"""Stand-in ntfy servers that are gone after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ntfy_stand_in import Ntfy


@pytest.fixture
def serve() -> Iterator[Callable[..., Ntfy]]:
    """Starts stand-ins."""
    running: list[Ntfy] = []

    def start(**more: Any) -> Ntfy:
        running.append(Ntfy(**more))
        return running[-1]

    yield start
    for server in running:
        server.close()


@pytest.fixture
def ntfy(serve: Callable[..., Ntfy]) -> Ntfy:
    """A stand-in that does as it should until it is told otherwise."""
    return serve()
