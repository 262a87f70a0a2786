"""Attacks from an agent's shell: each fails inside the sandbox, and succeeds where there is none."""

from __future__ import annotations

import pytest
from siege import ATTACKS, FILES, ROOT, SHELL, UNANSWERED, Attack, Fallen, kept

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
NAMES = [attack.name for attack in ATTACKS]


def place(attack: Attack) -> int:
    return ATTACKS.index(attack)


@pytest.mark.parametrize("attack", ATTACKS, ids=NAMES)
def test_bubblewrap_stops_it(fallen: Fallen, attack: Attack) -> None:
    run = fallen.runs["bwrap", "code"]
    assert not run.won(place(attack)), run.answers[place(attack)]


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.walls], ids=[a.name for a in ATTACKS if a.walls])
def test_landlock_stops_it(fallen: Fallen, attack: Attack) -> None:
    if ("landlock", "code") not in fallen.runs:
        pytest.skip("no Landlock here")
    run = fallen.runs["landlock", "code"]
    assert not run.won(place(attack)), run.answers[place(attack)]


@pytest.mark.parametrize("attack", [a for a in ATTACKS if not a.free], ids=[a.name for a in ATTACKS if not a.free])
def test_without_a_sandbox_it_succeeds(fallen: Fallen, attack: Attack) -> None:
    """So it is the sandbox that stops it, and an agent without one can do it: docs/sandbox.md says so."""
    if attack.root and not ROOT:
        pytest.skip("only root can")
    run = fallen.runs["none", "code"]
    assert run.won(place(attack)), run.answers[place(attack)]


def test_every_attack_was_tried(fallen: Fallen) -> None:
    for (_, role), run in fallen.runs.items():
        assert run.task["status"] == "done", run.log
        assert run.answers and UNANSWERED not in run.answers
        assert role != "code" or len(run.answers) == len(SHELL) + len(FILES)


def test_nothing_that_is_kept_has_changed(fallen: Fallen) -> None:
    before, after = fallen.before["bwrap"], kept(fallen.runs["bwrap", "code"].project)
    assert after == before
