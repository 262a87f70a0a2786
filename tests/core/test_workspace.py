"""What becomes of a finished task's branch."""

from __future__ import annotations

import pytest

from producer.core.workspace import ROUNDS, Work, go_on, mode


@pytest.mark.parametrize(
    ("work", "decision", "expected"),
    [
        (Work("task", "code", "merge"), None, "merge"),
        (Work("task", "code", "branch"), None, "branch"),
        (Work("task", "code", "review", "qa"), None, "review"),
        (Work("revision", "code", "review", "qa", 1), None, "review"),
        (Work("review", "code", "review", "qa"), "Approved, with pleasure", "merge"),
        (Work("review", "code", "review", "qa"), " approve", "merge"),
        (Work("review", "code", "review", "qa"), "I do not approve", "revise"),
        (Work("review", "code", "review", "qa"), "", "revise"),
        (Work("review", "code", "review", "qa"), None, "undecided"),
        (Work("conflict", "code", "review", "qa", 1), None, "merge"),
        (Work("conflict", "code", "merge", None, 1), None, "merge"),
    ],
)
def test_what_is_to_be_done(work: Work, decision: str | None, expected: str) -> None:
    assert mode(work, decision) == expected


def test_a_branch_is_given_back_a_few_times_and_then_is_a_persons() -> None:
    work: Work | None = Work("task", "code", "review", "qa")
    rounds = 0
    while work is not None:
        review = go_on(work, "review")
        assert review is not None and (review.kind, review.role, review.round) == ("review", "code", work.round)
        work = go_on(review, "revision")
        rounds += work is not None
    assert rounds == ROUNDS
    assert go_on(Work("conflict", "code", "merge", None, ROUNDS), "conflict") is None
