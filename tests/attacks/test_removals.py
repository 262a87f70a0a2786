"""The list of defences that prove.py takes away is of this tree: it takes too long to be tried with every change."""

from __future__ import annotations

from pathlib import Path

import pytest
from removals import REMOVALS, Removal

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("removal", REMOVALS, ids=lambda removal: removal.attack.replace(" ", "-"))
def test_the_defence_stands_where_the_list_says_and_has_its_test(removal: Removal) -> None:
    assert (ROOT / removal.file).read_text().count(removal.old) == 1
    file, _, name = removal.test.partition("::")
    assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text()
