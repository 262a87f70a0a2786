"""The runaway guards: what they let through, what they refuse, and what they tell the agent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.guards import (
    Burst,
    Limits,
    burst,
    check_depth,
    check_duplicate,
    check_filed,
    check_payload,
    check_pending,
    check_title,
    is_near_duplicate,
    similar,
)
from producer.errors import LimitReached

LIMITS = Limits()
PAGE = (
    "Read the outline in the project folder, keep the tone of the earlier parts, use short sentences, name your "
    "sources and run the spell checker before you hand the text over for review, then file a task for the reviewer"
)


@pytest.mark.parametrize(
    ("check", "allowed", "refused", "words"),
    [
        (lambda n: check_depth(n, LIMITS), 5, 6, "limits.depth"),
        (lambda n: check_filed(n, LIMITS), 19, 20, "limits.filed_per_attempt"),
        (lambda n: check_pending("qa", n, LIMITS), 199, 200, "role qa has 200 tasks waiting"),
        (lambda n: check_title("x" * n, LIMITS), 200, 201, "the title has 201 bytes and may have 200"),
        (lambda n: check_payload("x" * n, LIMITS), 65536, 65537, "write the data to a file"),
    ],
)
def test_each_limit_is_exact_and_says_what_to_do(check, allowed, refused, words):
    check(allowed)
    with pytest.raises(LimitReached, match=words):
        check(refused)


def test_titles_are_measured_in_bytes_and_odd_text_does_not_break_the_check():
    with pytest.raises(LimitReached, match="201 bytes"):
        check_title("é" * 100 + "x", LIMITS)
    check_title("\ud800", LIMITS)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (("Fix the login bug", ""), ("fix  the LOGIN bug!", "")),
        (("Fix the login bug", PAGE), ("Fix login bug", PAGE)),
        (("Fix the login bug again", PAGE), ("Fix the login bug", PAGE)),
        (("Write a part", PAGE), ("Write a part", PAGE.replace("spell", "grammar"))),
        (("Fix README.md", "See README.md."), ("fix readme.md", "(see README.MD)")),
    ],
)
def test_the_same_again_is_a_duplicate(new, old):
    assert is_near_duplicate(new, [("Something else", PAGE), old])


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (("Write chapter three", PAGE), ("Write chapter four", PAGE)),
        (("Write a chapter", PAGE + " for chapter 3"), ("Write a chapter", PAGE + " for chapter 4")),
        (("Write tests", PAGE + " for src/a.py"), ("Write tests", PAGE + " for src/b.py")),
        (("Write tests", PAGE + " for parseUsd"), ("Write tests", PAGE + " for formatUsd")),
        (("Write tests", PAGE), ("Write tests", "for the parser, with all its corner cases, in the house style")),
    ],
)
def test_tasks_that_name_different_things_are_different(new, old):
    assert not is_near_duplicate(new, [old])


def test_beyond_a_page_only_equal_texts_are_duplicates():
    long = PAGE * 40
    assert similar(("Write", long), ("write", long)) == 1.0
    assert similar(("Write", long), ("Write", long + " please")) == 0.0


def test_the_refusal_names_the_task_that_says_the_same():
    with pytest.raises(LimitReached, match="task 01JOLD says the same"):
        check_duplicate(("Fix it", PAGE), [("01JNEW", ("Break it", PAGE)), ("01JOLD", ("fix it", PAGE))])
    check_duplicate(("Fix it", PAGE), [])


words = st.lists(st.sampled_from(["fix", "the", "login", "a.py", "b.py", "3", "Now", "…", "fooBar"]), max_size=8)
drafts = st.tuples(words.map(" ".join), words.map("  ".join))


@given(drafts, drafts)
def test_similarity_is_a_symmetric_share_and_one_of_itself(a, b):
    assert 0 <= similar(a, b) <= 1
    assert similar(a, b) == similar(b, a)
    assert similar(a, a) == 1.0
    assert similar(a, (a[0].upper(), a[1].upper())) == 1.0


@given(st.tuples(st.text(max_size=200), st.text(max_size=200)))
def test_any_text_is_the_same_as_itself(draft):
    assert similar(draft, draft) == 1.0


def test_five_failures_in_ten_minutes_are_a_burst():
    moments = (0.0, 100.0, 200.0, 300.0, 600.0)
    assert burst(moments, 600.0, Burst())
    assert not burst(moments[1:], 600.0, Burst())
    assert not burst((*moments[:4], 601.0), 601.0, Burst())
    assert burst((5.0,), 5.0, Burst(count=1))


def test_failures_that_lie_in_the_future_are_no_burst():
    assert not burst((1000.0,) * 9, 10.0, Burst())
