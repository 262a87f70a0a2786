"""What the attacks share: projects that are attacked by the real CLI, each once for all tests (see siege.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from siege import Fallen, besiege

from producer.sandbox import choice


@pytest.fixture(scope="session")
def fallen(private: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fallen]:
    """What came of the attacks, by the way in which the attacker was held."""
    if problem := choice.bwrap_problem():
        pytest.skip(problem)
    with besiege(private, tmp_path_factory.mktemp("siege")) as found:
        yield found
