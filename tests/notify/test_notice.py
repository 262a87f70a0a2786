"""What is pushed, how loudly, and when it is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.config.blocks import EventsConfig
from producer.core.notice import (
    BYTES,
    LONGEST_WAIT,
    LONGEST_WISH,
    MANNERS,
    REPEATS,
    TITLE,
    WINDOW,
    Push,
    Told,
    answered,
    manner,
    message,
    repeat,
    retry_after,
    try_again,
)
from producer.supervisor.idle import WORDS

TEXT = st.text(max_size=300)


def push(title: str = "idle", text: str = "nothing", event: str = "idle") -> Push:
    return Push(event, title, text, 0.0)


def test_a_push_names_the_project_the_priority_and_a_tag() -> None:
    found = message([push("role code is parked", "5 exits", "role_parked")], topic="t", prefix="Shop", click="http://x")
    assert found == {
        "topic": "t", "title": "Shop: role code is parked", "message": "5 exits", "priority": 4,
        "tags": ["construction"], "click": "http://x",
    }  # fmt: skip


def test_an_event_without_a_priority_of_its_own_takes_the_configured_one() -> None:
    assert message([push()], topic="t", priority="low")["priority"] == 2
    assert message([push(event="kill_switch")], topic="t", priority="low")["priority"] == 5
    assert "click" not in message([push()], topic="t")


def test_every_switch_belongs_to_an_event_and_every_event_to_a_switch_that_exists() -> None:
    switches = set(EventsConfig.__dataclass_fields__)
    assert {how.switch for how in MANNERS.values()} - {None} == switches
    assert manner("something new").switch is None


def test_the_page_names_every_event_with_its_priority_and_its_switch() -> None:
    page = (Path(__file__).parents[2] / "docs/notifications.md").read_text(encoding="utf-8")
    for event, how in MANNERS.items():
        ending = f"| {how.priority or '`priority`'} | {f'`{how.switch}`' if how.switch else 'always'} |"
        assert any(line.startswith(f"| `{event}` |") and line.endswith(ending) for line in page.splitlines()), event
    for reason in ("cooldown", *WORDS):
        assert f"`{reason}`" in page


def test_titles_keep_their_letters_and_lose_their_line_ends() -> None:
    title = message([push("Überfällig\r\nX-Evil: 1 \x1b[31m日本")], topic="t", prefix="Ж\n")["title"]
    assert title == "Ж : Überfällig X-Evil: 1 \\x1b[31m日本"


def test_several_pushes_are_one_message_that_counts_them() -> None:
    found = message([push(f"t{n}", f"id{n}") for n in range(3)], topic="t")
    assert found["title"] == "t2 (and 2 more)"
    assert found["message"] == "t0: id0\nt1: id1\nt2: id2"


def test_a_storm_is_one_message_that_says_how_much_it_leaves_out() -> None:
    found = message([push(f"title {n} " + "x" * 150, f"{n:026}") for n in range(500)], topic="t")
    lines = found["message"].splitlines()
    assert lines[-1] == f"and {500 - len(lines) + 1} more"
    assert len(found["message"].encode()) <= BYTES


@given(st.lists(st.builds(push, TEXT, st.text(max_size=6000)), min_size=1, max_size=60), TEXT)
def test_no_message_is_an_attachment_and_no_title_has_two_lines(pushes: list[Push], prefix: str) -> None:
    found = message(pushes, topic="t", prefix=prefix)
    assert 0 < len(found["message"].encode()) <= 4096
    assert len(found["title"]) <= TITLE
    assert len(found["title"].splitlines()) <= 1
    assert not any(ord(letter) < 32 for letter in found["title"])


@pytest.mark.parametrize(
    ("status", "what"),
    [(200, "sent"), (204, "sent"), (301, "never"), (400, "never"), (401, "never"), (403, "never"), (404, "never")]
    + [(status, "again") for status in (408, 425, 429, 500, 502, 503, 507, 599)],
)
def test_what_a_status_means(status: int, what: str) -> None:
    assert answered(status) == what


def test_a_server_says_how_long_in_seconds_or_by_a_date() -> None:
    assert retry_after("120", 1000.0) == 120
    assert retry_after("Wed, 06 May 2026 07:00:00 GMT", 1_778_050_790.0) == 10
    assert retry_after("Wed, 06 May 2026 07:00:00 GMT", 1_778_050_900.0) == 0
    for useless in (None, "", "soon", "-5", "1e3", "9" * 5000, "9" * 400, "Wed, 99 May"):
        assert retry_after(useless, 0.0) is None


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_wait_grows_to_its_bound_and_never_to_nothing(tries: int, jitter: float) -> None:
    wait = try_again(1000.0, tries, jitter) - 1000.0
    assert 1.0 <= wait <= LONGEST_WAIT
    assert tries < 10 or wait >= LONGEST_WAIT / 2


@given(st.floats(0, 1e12), st.floats(0, 1), st.integers(0, 50))
def test_what_the_server_asks_for_counts_within_reason(wish: float, jitter: float, tries: int) -> None:
    wait = try_again(0.0, tries, jitter, wish)
    assert min(wish, LONGEST_WISH) <= wait <= LONGEST_WISH + 1


def test_the_same_notice_is_told_a_few_times_and_then_counted() -> None:
    memory, told = Told(), []
    for minute in range(30):
        memory, admitted = repeat(memory, minute * 60.0)
        told.append(admitted)
    assert told == [True] * REPEATS + [False] * (30 - REPEATS)
    assert memory.left_out == 30 - REPEATS
    again, admitted = repeat(memory, 30 * 60.0 + WINDOW)
    assert admitted and again.left_out == 0


@given(st.lists(st.floats(0, 10 * WINDOW), max_size=60))
def test_no_window_holds_more_than_the_few(moments: list[float]) -> None:
    memory, told = Told(), []
    for now in sorted(moments):
        memory, admitted = repeat(memory, now)
        if admitted:
            told.append(now)
    assert all(later - first > WINDOW for first, later in zip(told, told[REPEATS:], strict=False))
