"""A fleet and its clients over loopback tcp."""

from __future__ import annotations

import pytest
from test_process_clients import (  # noqa: F401
    test_a_running_task_can_be_killed_and_escalated_from_outside,
    test_many_clients_at_once_lose_nothing_even_while_the_supervisor_changes,
)
from test_process_fleet import (  # noqa: F401
    test_a_role_is_scaled_up_and_down_and_no_run_is_cut,
    test_status_is_what_its_schema_says_with_and_without_a_supervisor,
)


@pytest.fixture
def over() -> str:
    return "tcp"
