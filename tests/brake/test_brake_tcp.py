"""The brake over loopback tcp."""

from __future__ import annotations

import pytest
from test_brake_odd import (  # noqa: F401
    test_a_burst_is_counted_across_a_crash_of_the_supervisor,
    test_a_switch_that_cannot_be_written_stops_everything_all_the_same,
)
from test_brake_runs import (  # noqa: F401
    run,
    test_a_kill_now_cuts_the_stream_and_the_cut_is_booked_as_the_most_it_can_have_cost,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def over() -> str:
    return "tcp"
