"""What keeps a fleet that files its own work from running away.

1. Every check raises LimitReached with words for the agent that hit it: which limit, and what it can do instead.
2. Depth is counted from the lineage's root (0), so that a chain of single follow-ups ends too.
3. A near-duplicate is a text that says the same again: the share of word pairs that two texts have in common (L. Dice,
   "Measures of the amount of ecologic association between species", 1945), case, spaces and punctuation aside. At the
   usual threshold of 0.9 that is one changed word in twenty.
4. It errs towards letting work through, for the counts above bound what slips by. Ten chapters may share a page of
   instructions: two tasks whose titles each have a word, or whose texts each have a name (`a.py`, `step_2`, `3`), that
   the other lacks are different tasks, however alike the rest.
5. A burst is many failures of one role in a short time: the fault is then not the task's, and someone must look.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from producer.core.idle import WAKEUP
from producer.core.restart import recent
from producer.errors import LimitReached

Draft: TypeAlias = tuple[str, str]  # title, description

_EDGES = string.punctuation + "“”‘’«»…—–"
_NAME = re.compile(r"[\d./:_]|[a-z][A-Z]")
RECORDED_PER_ATTEMPT = 500  # decisions and assets; each has a size, so this bounds what one run adds to the ledger
_LONG = 4096  # characters; beyond, only equal texts are duplicates: 200 comparisons already take a fifth of a second


@dataclass(frozen=True)
class Limits:
    """The bounds of a lineage, an attempt, a role's queue and a single task; sizes in bytes of UTF-8."""

    depth: int = 5
    filed_per_attempt: int = 20
    pending_per_role: int = 200
    title_bytes: int = 200
    payload_bytes: int = 65536


@dataclass(frozen=True)
class Burst:
    """``count`` failures of one role within ``window_seconds``."""

    count: int = 5
    window_seconds: float = 600.0


def check_depth(depth: int, limits: Limits) -> None:
    """``depth`` of the new task: its parent's plus one, a root's being 0."""
    if depth > limits.depth:
        raise LimitReached(
            f"this task would be follow-up number {depth} in its line and at most {limits.depth} are allowed "
            "(limits.depth): finish the work in this task, or escalate"
        )


def check_filed(filed: int, limits: Limits) -> None:
    """``filed``: how many tasks this attempt has filed already."""
    if filed >= limits.filed_per_attempt:
        raise LimitReached(
            f"this run has filed {filed} tasks and may file {limits.filed_per_attempt} (limits.filed_per_attempt): "
            "put what is left into fewer tasks, or say it in your answer"
        )


def check_recorded(recorded: int) -> None:
    """``recorded``: how many decisions and assets this attempt has recorded already."""
    if recorded >= RECORDED_PER_ATTEMPT:
        raise LimitReached(
            f"this run has recorded {recorded} decisions and assets and may record {RECORDED_PER_ATTEMPT}: "
            "write what is left to one file and name its path in your answer"
        )


def check_pending(role: str, pending: int, limits: Limits) -> None:
    """``pending``: how many tasks of ``role`` wait already."""
    if pending >= limits.pending_per_role:
        raise LimitReached(
            f"role {role} has {pending} tasks waiting and may have {limits.pending_per_role} "
            "(limits.pending_per_role): file no more for it until some are done"
        )


def check_wakeup(lineage: Iterable[str]) -> None:
    """``lineage``: the roles of the tasks that a task for the role `wakeup` would come from."""
    if WAKEUP in lineage:
        raise LimitReached("a wake-up files no wake-up: file the missing work for another role, or say there is none")


def check_title(title: str, limits: Limits) -> None:
    """A title is one line on a screen; details belong into the description."""
    _check_size("title", title, limits.title_bytes, "limits.title_bytes", "move the details to the description")


def check_payload(payload: str, limits: Limits) -> None:
    """``payload``: the JSON text as it would be stored."""
    advice = "write the data to a file and name its path"
    _check_size("payload", payload, limits.payload_bytes, "limits.payload_bytes", advice)


def check_duplicate(new: Draft, olds: Iterable[tuple[str, Draft]], threshold: float = 0.9) -> None:
    """``olds``: (id, draft) of the open tasks of the same role that ``new`` could repeat."""
    for ident, old in olds:
        if similar(new, old) >= threshold:
            raise LimitReached(
                f"task {ident} says the same: wait for it, or say in title and description what is different"
            )


def is_near_duplicate(new: Draft, olds: Iterable[Draft], threshold: float = 0.9) -> bool:
    """Whether one of ``olds`` is as similar to ``new`` as ``threshold`` (0..1) or more."""
    return any(similar(new, old) >= threshold for old in olds)


def similar(a: Draft, b: Draft) -> float:
    """How much of the two drafts is the same, 0..1; 0 where they name different things."""
    title_a, title_b = _words(a[0].casefold()), _words(b[0].casefold())
    if _differ(title_a, title_b):
        return 0.0
    if max(len(a[1]), len(b[1])) > _LONG:
        return float(title_a == title_b and a[1] == b[1])
    words_a, words_b = _words(a[1]), _words(b[1])
    if _differ(words_a, words_b, _NAME):
        return 0.0
    pairs_a, pairs_b = _pairs(title_a + words_a), _pairs(title_b + words_b)
    both = len(pairs_a) + len(pairs_b)
    return 2 * len(pairs_a & pairs_b) / both if both else 1.0


def burst(history: tuple[float, ...], now: float, policy: Burst) -> bool:
    """Whether the moments of a role's failures, the newest included, make a burst at ``now``."""
    return len(recent(history, now, policy.window_seconds)) >= policy.count


def _check_size(what: str, text: str, limit: int, key: str, advice: str) -> None:
    size = len(text.encode(errors="surrogatepass"))
    if size > limit:
        raise LimitReached(f"the {what} has {size} bytes and may have {limit} ({key}): {advice}")


def _words(text: str) -> list[str]:
    return [word for part in text.split() if (word := part.strip(_EDGES))]


def _differ(a: list[str], b: list[str], kind: re.Pattern[str] = re.compile("")) -> bool:
    """Whether each has a word of this kind that the other lacks: more than an addition."""
    only_a, only_b = set(a) - set(b), set(b) - set(a)
    names_a = {word.casefold() for word in only_a if kind.search(word)}
    names_b = {word.casefold() for word in only_b if kind.search(word)}
    return not (names_a <= names_b or names_b <= names_a)


def _pairs(words: list[str]) -> set[tuple[str, str]]:
    """Each word with the one before it, the first with none."""
    words = " ".join(words).casefold().split()
    return set(zip(["", *words], words, strict=False))
