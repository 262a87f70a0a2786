"""What becomes of a finished task's branch: merge it, leave it, have it reviewed, or have somebody go on with it.

1. A task that is done is committed and then merged, left as a branch, or handed to a reviewer, as its role says.
2. A reviewer's decision of the kind `review` that begins with `approve` merges the branch; any other one gives it back
   to the role that wrote it, with the reviewer's words. No decision at all is a person's to make.
3. A conflict is a follow-up task of the role that wrote the branch, in the same worktree. Solving it merges.
4. ROUNDS times; after that the branch is left and a person is told: two sides that never agree would cost without end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ROUNDS = 3
Mode = Literal["merge", "branch", "review", "revise", "clean", "undecided"]
Kind = Literal["task", "conflict", "revision", "review"]


@dataclass(frozen=True)
class Work:
    """A worktree's purpose. ``role``: who wrote the branch; ``round``: how often it was given back already."""

    kind: Kind
    role: str
    on_done: str
    reviewer: str | None = None
    round: int = 0


def mode(work: Work, decision: str | None) -> Mode:
    """What is to be done now that the task is done. ``decision``: of a reviewer."""
    if work.kind == "review":
        if decision is None:
            return "undecided"
        return "merge" if decision.strip().lower().startswith("approve") else "revise"
    if work.kind == "conflict" or work.on_done == "merge":
        return "merge"
    return "review" if work.on_done == "review" else "branch"


def go_on(work: Work, kind: Kind) -> Work | None:
    """The work of a follow-up task; None where there were enough of them."""
    if kind == "review":
        return Work(kind, work.role, work.on_done, work.reviewer, work.round)
    if work.round >= ROUNDS:
        return None
    return Work(kind, work.role, work.on_done, work.reviewer, work.round + 1)
