"""The schedule's decisions: what comes next, what was missed, and the two odd nights of a year."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.cron import AHEAD, Due, Mark, look, next_run, problem_with

BERLIN = ZoneInfo("Europe/Berlin")
DAILY = "0 7 * * *"


def at(text: str, zone: object = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()  # type: ignore[arg-type]


def runs(expression: str, zone: object, after: str, count: int) -> list[str]:
    """The next runs, as UTC shows them."""
    moment, found = at(after), []
    for _ in range(count):
        moment = next_run(expression, zone, moment)  # type: ignore[arg-type,assignment]
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M"))
    return found


def test_working_days_in_berlin_keep_their_time_of_day_over_the_change_to_summer_time() -> None:
    assert runs("0 7 * * 1-5", BERLIN, "2026-03-26T12:00", 2) == ["03-27 06:00", "03-30 05:00"]


def test_a_time_that_the_clocks_jump_over_comes_when_they_have_jumped() -> None:
    assert runs("30 2 * * *", BERLIN, "2026-03-28T12:00", 2) == ["03-29 01:00", "03-30 00:30"]


@pytest.mark.parametrize("after", ["2026-10-24T12:00", "2026-10-25T00:29:59"])
def test_a_time_that_comes_twice_counts_once(after: str) -> None:
    assert runs("30 2 * * *", BERLIN, after, 2) == ["10-25 00:30", "10-26 01:30"]


def test_an_hour_that_comes_twice_is_never_gone_back_to() -> None:
    second_time_quarter_past_two = at("2026-10-25T01:15")
    assert next_run("30 2 * * *", BERLIN, second_time_quarter_past_two) == at("2026-10-26T01:30")


def test_every_hour_goes_by_real_time() -> None:
    assert runs("0 * * * *", BERLIN, "2026-10-24T23:30", 3) == ["10-25 00:00", "10-25 01:00", "10-25 02:00"]


def test_a_new_entry_counts_from_now() -> None:
    assert look(DAILY, UTC, None, at("2026-05-06T07:30"), waiting=False) == (Mark(at("2026-05-06T07:30")), None)


def test_it_is_due_from_its_moment_on_and_once() -> None:
    mark, early, late = Mark(at("2026-05-06T06:00")), at("2026-05-06T06:59:59.9"), at("2026-05-06T07:00:00.2")
    assert look(DAILY, UTC, mark, early, waiting=False) == (mark, None)
    after, due = look(DAILY, UTC, mark, late, waiting=False)
    assert due == Due(at("2026-05-06T07:00")) and after == Mark(late)
    assert look(DAILY, UTC, after, late + 1, waiting=False) == (after, None)


def test_a_week_without_a_supervisor_is_one_run() -> None:
    after, due = look(DAILY, UTC, Mark(at("2026-05-01T08:00")), at("2026-05-08T12:00"), waiting=False)
    assert due == Due(at("2026-05-02T07:00"))
    assert look(DAILY, UTC, after, at("2026-05-08T12:00:01"), waiting=False) == (after, None)


def test_a_clock_that_is_set_back_repeats_nothing() -> None:
    after = Mark(at("2026-05-06T07:00:00.2"))
    assert look(DAILY, UTC, after, at("2026-05-06T06:55"), waiting=False) == (after, None)
    assert look(DAILY, UTC, after, at("2026-05-06T07:00"), waiting=False) == (after, None)
    assert look(DAILY, UTC, after, at("2026-05-07T07:00"), waiting=False)[1] is not None


def test_a_mark_of_a_clock_that_was_years_ahead_does_not_silence_the_entry() -> None:
    now = at("2026-05-06T06:00")
    assert look(DAILY, UTC, Mark(at("2031-01-01T00:00"), "t"), now, waiting=False) == (Mark(now, "t"), None)


def test_nothing_piles_up_behind_a_task_that_was_not_started() -> None:
    now = at("2026-05-06T07:00:01")
    assert look(DAILY, UTC, Mark(now - 10, "t"), now, waiting=True) == (Mark(now, "t"), None)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("* * * *", "4 fields"),
        ("0 0 7 * * *", "6 fields"),
        ("", "0 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("0 7 * * MON-SUN", "bad day-of-week"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("a b c d e", "bad minute"),
        ("*/5 0 1 1 *", None),
        ("0 7 * * 1-5", None),
        ("0 7 LW JAN *", None),
    ],
)
def test_what_an_expression_may_be(expression: str, problem: str | None) -> None:
    assert problem_with(expression) == problem


EXPRESSIONS = st.builds(
    "{} {} * * {}".format,
    st.sampled_from(["0", "30", "*/7", "0,30", "15-45/10"]),
    st.sampled_from(["*", "2", "1-3", "*/6", "0"]),
    st.sampled_from(["*", "1-5", "0"]),
)


@given(
    expression=EXPRESSIONS,
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]),
    start=st.floats(at("2026-01-01T00:00"), at("2026-12-31T00:00")),
    steps=st.lists(st.floats(-AHEAD / 4, 3 * AHEAD), max_size=20),
)
def test_whatever_the_clock_does_no_run_is_filed_twice(
    expression: str, zone: str, start: float, steps: list[float]
) -> None:
    place, now, filed = ZoneInfo(zone), start, []
    mark, _ = look(expression, place, None, now, waiting=False)
    for step in steps:
        now += step
        mark, due = look(expression, place, mark, now, waiting=False)
        if due:
            assert due.run <= now
            filed.append(due.run)
        again, twice = look(expression, place, mark, now, waiting=False)
        assert (twice is None and again == mark) or mark.since > now + AHEAD
    if all(step >= 0 for step in steps):
        assert len(filed) == len(set(filed)) and filed == sorted(filed)


@given(expression=EXPRESSIONS, after=st.floats(at("2026-03-28T00:00"), at("2026-03-30T00:00")))
def test_the_next_run_lies_ahead_on_the_night_of_the_change(expression: str, after: float) -> None:
    for moment in (after, after + at("2026-10-25T00:00") - at("2026-03-29T00:00")):
        found = next_run(expression, BERLIN, moment)
        assert found is not None and found > moment
