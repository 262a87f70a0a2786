"""What the end of a claude run means: an outcome, one line of error, and for a throttle the time it ends.

1. An API failure is never output: it comes as a "successful" result with is_error, and is told by that flag, by its
   status and by the synthetic message's error word.
2. Our own gateway says why it refused by a marker in the error text; a marker counts before any status.
3. permanent: no retry will help (key, request, model, size, billing, missing CLI). throttled: the same will work later.
   failed: worth a retry. budget: a cap. cancelled: we stopped it.
4. Pure: no clock and no SDK; the caller fills an Ending from the SDK's messages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from producer.wire.messages import Outcome

BUDGET_MARKER = "ai-producer:budget:"
KILL_MARKER = "ai-producer:kill-switch:"
MODEL_MARKER = "ai-producer:unknown-model:"
CLOSED_MARKER = "ai-producer:closed:"
RETRY_AT_MARKER = "ai-producer:retry-at:"

MARKERS: dict[str, Outcome] = {
    BUDGET_MARKER: "budget",
    KILL_MARKER: "cancelled",
    MODEL_MARKER: "permanent",
    CLOSED_MARKER: "failed",  # whoever closed it knows better, and does not take this result
}
_RETRY_AT = re.compile(r"\s*\(?" + re.escape(RETRY_AT_MARKER) + r"\s*(\d+(?:\.\d+)?)\)?")
PERMANENT_WORDS = frozenset({"authentication_failed", "billing_error", "model_not_found", "invalid_request"})
PERMANENT_REASONS = frozenset({"prompt_too_long", "image_error"})
PERMANENT_EXCEPTIONS = frozenset({"CLINotFoundError", "CLIConnectionError", "SandboxMissing"})
PROCESS_GONE = (
    "Cannot write to ",
    "Failed to write to ",
    "ProcessTransport is not ready",
    "Not connected",
)  # it had begun
PERMANENT_TEXTS = ("cannot be used with root",)
TRANSIENT_STATUSES = frozenset({408, 409, 425})
THROTTLE_STATUSES = frozenset({429, 529})
UNFINISHED_REASONS = frozenset({"hook_stopped", "aborted_tools", "aborted_streaming"})
MISSING_SESSION = "No conversation found"
SESSION_IN_USE = "already in use"
LONGEST_ERROR = 2000


@dataclass(frozen=True)
class Ending:
    """What is known of a run's end.

    subtype, is_error, terminal_reason and status are the result message's (subtype None: there was none); word is the
    error word of the synthetic assistant message; text is the error's prose; exception and exit_code tell how the
    CLI ended; retry_after (seconds) and resets_at (epoch) are the last times the API named; productive is whether
    the agent wrote or did anything.
    """

    subtype: str | None = None
    is_error: bool = False
    terminal_reason: str | None = None
    status: int | None = None
    word: str | None = None
    text: str = ""
    exception: str | None = None
    exit_code: int | None = None
    retry_after: float | None = None
    resets_at: float | None = None
    limited: bool = False
    productive: bool = False
    max_turns: int = 0


@dataclass(frozen=True)
class Verdict:
    """outcome as on the wire; error None exactly for succeeded; until in epoch seconds, only for throttled."""

    outcome: Outcome
    error: str | None = None
    until: float | None = None


def classify(ending: Ending, now: float) -> Verdict:
    """The meaning of a run's end. ``now`` is in epoch seconds."""
    for marker, outcome in MARKERS.items():
        if marker in ending.text:
            return Verdict(outcome, _line(ending.text.split(marker, 1)[1]) or marker.split(":")[1])
    if ending.subtype == "success" and not ending.is_error:
        return _finished(ending)
    if ending.subtype == "error_max_turns":
        return Verdict("failed", f"the agent used all of its {ending.max_turns} turns (max_turns) without finishing")
    if ending.subtype == "error_max_budget_usd":
        return Verdict("budget", "the task reached its own budget (max_budget_usd)")
    if ending.limited or ending.status in THROTTLE_STATUSES or ending.word in ("rate_limit", "overloaded"):
        text = _line(_RETRY_AT.sub("", ending.text)) or "the model API asked us to wait"
        return Verdict("throttled", text, _until(ending, now))
    return Verdict("permanent" if _is_permanent(ending) else "failed", _explain(ending))


def _finished(ending: Ending) -> Verdict:
    if ending.terminal_reason in UNFINISHED_REASONS:
        return Verdict("failed", f"the run was broken off ({ending.terminal_reason})")
    if not ending.productive:
        return Verdict("failed", "the run ended with no text and no tool call")
    return Verdict("succeeded")


def _is_permanent(ending: Ending) -> bool:
    if ending.word in PERMANENT_WORDS or ending.terminal_reason in PERMANENT_REASONS:
        return True
    if ending.status is not None:
        return 400 <= ending.status < 500 and ending.status not in TRANSIENT_STATUSES
    if ending.exception in PERMANENT_EXCEPTIONS:
        return not ending.text.startswith(PROCESS_GONE)
    return any(text in ending.text for text in PERMANENT_TEXTS)


def _until(ending: Ending, now: float) -> float | None:
    if named := _RETRY_AT.search(ending.text):
        return float(named[1])
    if ending.resets_at is not None:
        return ending.resets_at
    return None if ending.retry_after is None else now + ending.retry_after


def _explain(ending: Ending) -> str:
    text = _line(ending.text)
    if ending.subtype is not None or ending.word is not None:
        return text or f"the run ended with {ending.terminal_reason or ending.subtype or ending.word}"
    if ending.exit_code is not None:
        how = f"killed by signal {-ending.exit_code}" if ending.exit_code < 0 else f"exit code {ending.exit_code}"
        return f"claude ended early ({how})" + (f": {text}" if text else "")
    return text or "the run ended without a result"


def _line(text: str) -> str:
    """One bounded line of an error's prose."""
    return " ".join(text.split())[:LONGEST_ERROR]
