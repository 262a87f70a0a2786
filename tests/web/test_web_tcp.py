"""The dashboard's stream over loopback tcp, to supervisors that come and go."""

from __future__ import annotations

import pytest
from test_web_live import test_a_stream_of_the_real_process, test_the_dashboard_outlives_supervisors  # noqa: F401


@pytest.fixture
def over() -> str:
    return "tcp"
