"""Whose turn it is: idle hands first, roles in turn, nobody starved."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.schedule import Claim, RoleState, RoleView, claimable, claims

NOW = 1000.0


def role(name, *credits, state=RoleState.OK, until=None):
    return RoleView(name, state, until, [(f"{name}{n}", credit) for n, credit in enumerate(credits)])


def test_every_worker_gets_one_task_before_any_gets_two():
    got = claims([role("code", 2, 3), role("qa", 1)], now=NOW)
    assert got == [
        Claim("code", "code1", 1),
        Claim("qa", "qa0", 1),
        Claim("code", "code0", 1),
        Claim("code", "code1", 2),
        Claim("code", "code0", 1),
    ]


def test_the_roles_take_turns_at_beginning():
    roles = [role("a", 1), role("b", 1), role("c", 1)]
    assert [claims(roles, now=NOW, turn=turn)[0].role for turn in range(6)] == ["a", "b", "c"] * 2


def test_nothing_free_nothing_claimed():
    assert claims([], now=NOW, turn=7) == []
    assert claims([role("a"), role("b", 0, 0)], now=NOW) == []


@pytest.mark.parametrize("state", [RoleState.CAPPED, RoleState.FAILED, RoleState.DRAINING])
def test_a_role_that_may_not_work_is_passed_over(state):
    assert claims([role("a", 1, state=state, until=NOW - 1), role("b", 1)], now=NOW) == [Claim("b", "b0", 1)]


def test_a_throttled_role_works_again_when_its_time_has_come():
    assert not claimable(role("a", state=RoleState.THROTTLED, until=NOW + 0.1), NOW)
    assert not claimable(role("a", state=RoleState.THROTTLED), NOW)
    assert claimable(role("a", state=RoleState.THROTTLED, until=NOW), NOW)


def test_a_batch_is_cut_at_its_limit():
    assert claims([role("a", 5), role("b", 5)], now=NOW, limit=4) == [
        Claim("a", "a0", 1),
        Claim("b", "b0", 1),
        Claim("a", "a0", 2),
    ]
    assert claims([role("a", 5)], now=NOW, limit=0) == []


fleets = st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=5).map(
    lambda rows: [role(f"r{n}-", *row) for n, row in enumerate(rows)]
)


@given(fleets, st.integers(0, 100))
def test_all_credit_is_used_and_none_is_passed(roles, turn):
    got = Counter()
    for claim in claims(roles, now=NOW, turn=turn):
        got[claim.worker] += claim.n
    assert got == Counter({worker: credit for r in roles for worker, credit in r.free if credit})


@given(fleets, st.integers(0, 100), st.integers(1, 20))
def test_a_limit_takes_the_beginning(roles, turn, limit):
    whole, cut = claims(roles, now=NOW, turn=turn), claims(roles, now=NOW, turn=turn, limit=limit)
    assert sum(claim.n for claim in cut) == min(limit, sum(claim.n for claim in whole))
    assert [c.worker for c in cut] == [c.worker for c in whole][: len(cut)]


@given(fleets, st.integers(0, 100))
def test_with_room_for_one_task_every_role_is_served_in_one_round_of_turns(roles, turn):
    served = {claim.role for n in range(len(roles)) for claim in claims(roles, now=NOW, turn=turn + n, limit=1)}
    assert served == {r.name for r in roles if any(credit for _, credit in r.free)}
