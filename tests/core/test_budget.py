"""Admission, grants and the soft cap, by example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.budget import (
    Cap,
    Granted,
    Refused,
    RoleMoney,
    Share,
    Wait,
    admit,
    fits,
    fitting,
    grant,
    role_money,
    room,
    soft_crossed,
)

ROLE = Cap("code", 1_000_000, spent=300_000, held=200_000)
PROJECT = Cap("project", 600_000, spent=300_000, held=250_000)
FREE = Cap("lineage", None)


def test_room_is_that_of_the_tightest_cap():
    assert room([ROLE]) == 500_000
    assert room([ROLE, PROJECT, FREE]) == 50_000
    assert room([ROLE, PROJECT], own=100_000) == 150_000
    assert room([FREE]) is None
    assert room([]) is None


def test_room_is_never_negative():
    assert room([Cap("code", 10, spent=20)]) == 0


def test_a_hold_is_admitted_up_to_the_last_micro_dollar():
    assert admit([ROLE, PROJECT], 50_000) is None
    assert admit([FREE], 10**12) is None
    refusal = admit([ROLE, PROJECT], 50_001)
    assert refusal is not None and refusal.cap == "project"
    assert refusal.message == "project: $0.30 spent and $0.25 held of $0.60: no room for a hold of $0.050001"


def test_a_spent_cap_admits_not_even_nothing():
    assert admit([Cap("code", 10, spent=10)], 0) is not None
    assert admit([Cap("code", 0)], 0) is not None
    assert admit([Cap("code", 10, spent=9)], 0) is None


@given(st.none() | st.integers(0, 60), st.integers(0, 30), st.integers(0, 30), st.integers(0, 20), st.integers(0, 20))
def test_as_many_claims_fit_as_fit_one_by_one(limit, spent, held, amount, more):
    cap, count = Cap("code", limit, spent, held), 0
    while count < 100 and fits(cap, amount + more):
        cap, count = cap._replace(held=cap.held + amount), count + 1
    assert min(100, fitting(Cap("code", limit, spent, held), amount, amount + more)) == count


def test_a_role_is_capped_by_what_is_spent_not_by_what_is_held():
    assert role_money([Cap("code", 100, spent=50, held=50)], 50) is RoleMoney.OK
    assert role_money([Cap("code", 100, spent=51)], 50) is RoleMoney.CAPPED
    assert role_money([Cap("code", 100, spent=100)], 0) is RoleMoney.CAPPED
    assert role_money([FREE], 50) is RoleMoney.OK


def test_a_lone_attempt_gets_what_it_needs():
    assert grant(80, 10, [Share(Cap("code", 100))], others_open=False) == Granted(80)
    assert grant(180, 10, [Share(Cap("code", 100))], others_open=False) == Granted(100)
    assert grant(180, 10, [Share(FREE)], others_open=False) == Granted(180)
    assert grant(180, 10, [], others_open=False) == Granted(180)


def test_equal_shares_whatever_the_order_of_asking():
    held = 0
    for _ in range(4):
        answer = grant(1000, 5, [Share(Cap("project", 100, held=held), running=4)], others_open=True)
        assert answer == Granted(25)
        held += 25


def test_the_floor_is_given_where_the_share_is_smaller_but_the_money_is_there():
    assert grant(1000, 40, [Share(Cap("project", 100), running=4)], others_open=False) == Granted(40)


def test_what_the_attempt_holds_already_is_its_own():
    cap = Cap("project", 100, held=100)
    assert grant(1000, 5, [Share(cap, running=10, own=30)], others_open=True) == Granted(30)
    assert grant(1000, 5, [Share(cap, running=10, own=30, ahead=500)], others_open=True) == Granted(30)


def test_parallel_requests_of_one_attempt_share_its_share():
    cap = Cap("project", 100, held=20)
    assert grant(1000, 5, [Share(cap, running=4, own=20, busy=20)], others_open=True) == Granted(5)


def test_the_tightest_of_several_caps_decides():
    shares = [Share(Cap("code", 50), running=1), Share(Cap("project", 100), running=4), Share(FREE)]
    assert grant(1000, 5, shares, others_open=False) == Granted(25)


def test_it_waits_while_others_may_give_back_and_is_refused_when_nobody_can():
    shares = [Share(Cap("project", 100, held=90), running=2)]
    assert grant(50, 20, shares, others_open=True) == Wait()
    answer = grant(50, 20, shares, others_open=False)
    assert isinstance(answer, Refused) and answer.cap == "project"
    assert answer.reason == "project: $0.00 spent and $0.00009 held of $0.0001: the request needs at least $0.00002"


def test_it_is_refused_at_once_when_no_return_could_help():
    answer = grant(50, 20, [Share(Cap("code", 100, spent=81))], others_open=True)
    assert isinstance(answer, Refused) and answer.cap == "code"


def test_a_younger_request_leaves_what_an_older_one_waits_for():
    cap = Cap("project", 100, held=50)
    assert grant(10, 10, [Share(cap, running=2, ahead=45)], others_open=True) == Wait()
    assert grant(10, 10, [Share(cap, running=2, ahead=40)], others_open=True) == Granted(10)


def test_a_cap_that_was_lowered_grants_nothing_beyond_itself():
    cap = Cap("project", 100, spent=60, held=60)
    assert grant(30, 10, [Share(cap, running=1, own=25)], others_open=True) == Wait()
    assert grant(30, 0, [Share(Cap("project", 10, spent=60))], others_open=False) != Granted(0)


def test_a_small_request_does_not_ask_for_more_than_it_needs():
    assert grant(3, 1024, [Share(Cap("project", 100))], others_open=False) == Granted(3)


@pytest.mark.parametrize(
    ("before", "after", "crossed"), [(0, 79, False), (79, 80, True), (0, 500, True), (80, 81, False), (81, 70, False)]
)
def test_the_soft_cap_is_crossed_once(before, after, crossed):
    assert soft_crossed(100, 0.8, before, after) is crossed


def test_no_limit_has_no_soft_cap():
    assert soft_crossed(None, 0.8, 0, 10**12) is False


@given(st.integers(0, 10**9), st.floats(0.01, 1), st.lists(st.integers(0, 10**8), max_size=30))
def test_a_rising_spend_crosses_at_most_once(limit, ratio, costs):
    crossings, spent = 0, 0
    for cost in costs:
        crossings += soft_crossed(limit, ratio, spent, spent + cost)
        spent += cost
    assert crossings <= 1
    assert crossings == 1 or spent < limit * ratio + 1 or limit == 0


money = st.integers(0, 1000)
shares = st.builds(
    Share,
    cap=st.builds(Cap, name=st.just("c"), limit=st.one_of(st.none(), money), spent=money, held=money),
    running=st.integers(0, 9),
    own=money,
    busy=money,
    ahead=money,
)


@given(money, money, st.lists(shares, max_size=3), st.booleans())
def test_a_grant_is_useful_wanted_and_within_every_cap(need, floor, shares, others_open):
    answer = grant(need, floor, shares, others_open=others_open)
    if isinstance(answer, Granted):
        assert min(floor, need) <= answer.amount <= need
        for share in shares:
            cap = share.cap
            assert cap.limit is None or cap.spent + cap.held - share.own + share.busy + answer.amount <= cap.limit
    else:
        assert others_open or isinstance(answer, Refused)
