"""The git lane: carries out what was ordered for a finished task's branch, off the loop, one order after the other.

An order may be carried out twice, see producer/worktree.py. What git refuses (a file in the way, a lock that somebody
holds) is tried again later and later, and a person is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from producer import worktree
from producer.core.money import MicroUSD, format_usd
from producer.core.workspace import Kind
from producer.errors import WorkspaceError
from producer.ledger.records import Pending
from producer.supervisor.kernel import Kernel
from producer.supervisor.told import Told
from producer.worktree import Author, Conflict, Place, Warded

HELD_SECONDS = 1.0
LONGEST_WAIT = 60.0
APPROVAL = """\
Record your verdict with mcp__ledger__record_decision, kind `review`: a decision_text that begins with `approve` merges
the branch; any other gives it back to the role {role}, with your rationale. Small mistakes you may correct yourself."""
INSTRUCTIONS = {
    "conflict": """\
The branch {branch} cannot be merged into {target}: both changed the same places. Your working directory has that merge
begun, with git's conflict markers in these files:
{files}
Resolve every conflict so that both sides' purpose is kept, and leave no marker. A file without markers was changed by
one side and deleted by the other, or is not text: decide. Nothing has to be committed; we finish the merge.""",
    "revision": """\
The reviewer gave the branch {branch} back:
{words}
Revise it. Your working directory has the branch checked out.""",
    "review": """\
Review the branch {branch} before it is merged into {target}. Your working directory has it checked out; with git at
hand, `git diff {target}...{branch}` shows what it changes.
""" + APPROVAL,
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What came of an order. ``removed``: the worktree is gone; ``files``: of a conflict, or that are warded."""

    what: Literal["merged", "left", "warded", "cleaned", "conflict", "revision", "review"]
    commit: str | None = None
    removed: bool = True
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stuck:
    """It cannot be done now."""

    why: str

    def told(self, entry: Pending, then: Callable[[Kernel], None]) -> Told:
        """Try again."""
        return Told(entry.id, "again", time.time() + min(LONGEST_WAIT, 2.0 ** min(entry.tries, 10)), self.why, then)


def later(entry: Pending) -> Told:
    """Not while the kill switch is armed."""
    return Told(entry.id, "later", time.time() + HELD_SECONDS)


def carry_out(entry: Pending) -> Outcome | Stuck:
    """Do what an order says."""
    try:
        return _carry_out(entry.body, Place.of(entry.body["fact"]))
    except (WorkspaceError, OSError) as error:
        return Stuck(str(error))


def _carry_out(body: Mapping[str, Any], place: Place) -> Outcome:
    if body["mode"] == "clean":
        return Outcome("cleaned", removed=_removed(place))
    author = Author(str(body["role"]), _trailers(body))
    conflict = worktree.commit(place, str(body["title"]), author)
    if conflict:
        return Outcome("conflict", files=conflict.files)
    match body["mode"]:
        case "review":
            return Outcome("review")
        case "revise":
            return Outcome("revision")
        case "branch" | "undecided":
            return Outcome("left", removed=_removed(place))
    merged = worktree.merge(place, f"Merge {body['about']}", author, body.get("warded", ()))
    if isinstance(merged, Warded):
        return Outcome("warded", files=merged.files, removed=_removed(place))
    if isinstance(merged, Conflict):
        return Outcome("conflict", files=merged.files)
    return Outcome("merged", commit=merged.commit, removed=_removed(place))


def _removed(place: Place) -> bool:
    """Whether the worktree could be removed. What stands against it shall not hold up who waits for the branch."""
    try:
        return worktree.remove(place)
    except (WorkspaceError, OSError):
        return False


def _trailers(body: Mapping[str, Any]) -> dict[str, str]:
    return {
        "Producer-Task": str(body["task"]),
        "Producer-Attempt": str(body["attempt"]),
        "Producer-Role": str(body["role"]),
        "Producer-Cost-USD": format_usd(MicroUSD(body["cost_micros"])),
    }


def instructions(kind: Kind, fact: Mapping[str, Any], files: Sequence[str], words: str, description: str) -> str:
    """What a follow-up task is told, above the task that it follows."""
    listed = "\n".join(f"- {name}" for name in files) or "- (see `git status`)"
    told = INSTRUCTIONS[kind].format(
        branch=fact["branch"], target=fact["target"], role=fact["work"]["role"], files=listed, words=words
    )
    return f"{told}\n\nThe task was:\n\n{description}"
