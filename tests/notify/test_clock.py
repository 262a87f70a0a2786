"""Times of day and quiet hours, over the days on which the clocks are changed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.clock import next_time, quiet_until

BERLIN = ZoneInfo("Europe/Berlin")
UTC = ZoneInfo("UTC")
CLOCKS = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
MOMENTS = st.floats(1_700_000_000, 1_900_000_000, allow_nan=False)


def at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


def test_a_time_that_has_passed_today_comes_tomorrow() -> None:
    assert next_time(at("2026-05-06T06:59:59"), "07:00", BERLIN) == at("2026-05-06T07:00")
    assert next_time(at("2026-05-06T07:00"), "07:00", BERLIN) == at("2026-05-07T07:00")


def test_a_time_that_the_spring_jumps_over_comes_after_the_jump() -> None:
    found = next_time(at("2026-03-28T12:00"), "02:30", BERLIN)
    assert datetime.fromtimestamp(found, BERLIN).isoformat() == "2026-03-29T03:30:00+02:00"


def test_a_time_that_the_autumn_shows_twice_counts_once() -> None:
    first = next_time(at("2026-10-24T12:00"), "02:30", BERLIN)
    assert datetime.fromtimestamp(first, BERLIN).isoformat() == "2026-10-25T02:30:00+02:00"
    assert next_time(first, "02:30", BERLIN) == at("2026-10-26T02:30")
    assert next_time(first + 3600, "02:30", BERLIN) == at("2026-10-26T02:30")


@given(MOMENTS, CLOCKS, ZONES)
def test_every_time_of_day_comes_within_a_day_and_its_jump(now: float, clock: str, zone: str) -> None:
    found = next_time(now, clock, ZoneInfo(zone))
    assert now < found <= now + 25 * 3600


@pytest.mark.parametrize(
    ("moment", "end"),
    [
        ("2026-05-06T22:00", "2026-05-07T07:00"),
        ("2026-05-06T23:59", "2026-05-07T07:00"),
        ("2026-05-07T00:00", "2026-05-07T07:00"),
        ("2026-05-07T06:59:59", "2026-05-07T07:00"),
        ("2026-05-07T07:00", None),
        ("2026-05-07T21:59:59", None),
    ],
)
def test_quiet_hours_run_over_midnight(moment: str, end: str | None) -> None:
    assert quiet_until(at(moment), "22:00-07:00", BERLIN) == (end and at(end))


def test_quiet_hours_within_a_day_none_and_those_of_no_length() -> None:
    assert quiet_until(at("2026-05-06T13:30"), "13:00-14:00", BERLIN) == at("2026-05-06T14:00")
    assert quiet_until(at("2026-05-06T14:30"), "13:00-14:00", BERLIN) is None
    assert quiet_until(at("2026-05-06T14:30"), None, BERLIN) is None
    assert quiet_until(at("2026-05-06T14:30"), "14:00-14:00", BERLIN) is None


def test_the_zone_decides() -> None:
    moment = at("2026-05-06T21:00", UTC)  # 23:00 in Berlin
    assert quiet_until(moment, "22:00-07:00", BERLIN) is not None
    assert quiet_until(moment, "22:00-07:00", UTC) is None


@given(MOMENTS, CLOCKS, CLOCKS, ZONES)
def test_a_moment_is_quiet_by_one_pair_of_hours_or_by_the_other(now: float, a: str, b: str, zone: str) -> None:
    one, other = (quiet_until(now, hours, ZoneInfo(zone)) for hours in (f"{a}-{b}", f"{b}-{a}"))
    if a == b:
        assert one is None and other is None
    else:
        assert (one is None) != (other is None) or next_time(now, a, ZoneInfo(zone)) == next_time(
            now, b, ZoneInfo(zone)
        )
