"""The attacks of test_attack_worker.py over loopback tcp."""

from __future__ import annotations

import pytest
from test_attack_worker import (  # noqa: F401
    test_a_flood_leaves_room_for_an_operator,
    test_a_greeting_that_names_a_process_which_is_no_worker,
    test_a_greeting_with_anothers_role_or_name,
    test_a_result_for_an_attempt_of_ones_own_role_is_a_forgery_too,
    test_a_result_for_anothers_attempt_is_a_forgery,
    test_a_tool_called_in_the_name_of_anothers_attempt,
    test_a_worker_says_what_only_the_gateway_an_operator_or_the_supervisor_may,
    test_a_worker_that_asks_for_the_whole_queue,
    test_a_workers_key_opens_no_operators_socket,
    test_frames_in_any_number_and_order,
    test_one_result_a_thousand_times_counts_once,
    test_progress,
    test_progress_in_the_name_of_anothers_attempt_leaves_no_row,
    test_results,
    test_the_gateways_key_is_no_workers_and_no_operators,
    test_tokens_that_no_ledger_takes_are_not_kept_for_the_runs_end,
    test_who_never_reads_does_not_hold_up_the_others,
    test_words_on_the_tasks_socket,
)


@pytest.fixture(scope="module")
def transport() -> str:
    return "tcp"
