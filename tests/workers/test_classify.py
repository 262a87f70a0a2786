"""The table of endings, without a process."""

from __future__ import annotations

import pytest

from producer.workers.classify import Ending, classify

NOW = 1_800_000_000.0
API = Ending(subtype="success", is_error=True, terminal_reason="api_error", text="API Error")


def api(status: int | None = None, word: str | None = None, text: str = "API Error", **more: object) -> Ending:
    fields = {"subtype": "success", "is_error": True, "terminal_reason": "api_error", "productive": True}
    return Ending(**(fields | {"status": status, "word": word, "text": text} | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (Ending(subtype="success", productive=True, terminal_reason="completed"), "succeeded"),
        (Ending(subtype="success", productive=False), "failed"),
        (Ending(subtype="success", productive=True, terminal_reason="hook_stopped"), "failed"),
        (Ending(subtype="error_max_turns", is_error=True, productive=True), "failed"),
        (Ending(subtype="error_max_budget_usd", is_error=True, productive=True), "budget"),
        (Ending(subtype="error_during_execution", is_error=True), "failed"),
        (api(400, "unknown"), "permanent"),
        (api(401, "authentication_failed"), "permanent"),
        (api(402, "billing_error"), "permanent"),
        (api(403, "authentication_failed"), "permanent"),
        (api(404, "model_not_found"), "permanent"),
        (api(413, terminal_reason="image_error"), "permanent"),
        (api(None, "authentication_failed"), "permanent"),
        (api(None, None, terminal_reason="prompt_too_long"), "permanent"),
        (api(408), "failed"),
        (api(409), "failed"),
        (api(429, "rate_limit"), "throttled"),
        (api(529, "server_error"), "throttled"),
        (api(None, "rate_limit"), "throttled"),
        (api(None, None, limited=True), "throttled"),
        (api(500, "server_error"), "failed"),
        (api(502, "server_error"), "failed"),
        (api(None, "server_error"), "failed"),
        (api(403, "authentication_failed", "API Error: 403 ai-producer:budget: the cap is reached"), "budget"),
        (api(429, "rate_limit", "Request rejected (429) · ai-producer:kill-switch: armed"), "cancelled"),
        (api(400, "unknown", "ai-producer:unknown-model: nope"), "permanent"),
        (Ending(exception="CLINotFoundError", text="not found"), "permanent"),
        (Ending(exception="CLIConnectionError", text="Working directory does not exist: /x"), "permanent"),
        (Ending(exception="OSError", text="Failed to start Claude Code: [Errno 24] Too many open files"), "failed"),
        (Ending(exception="CLIConnectionError", text="Cannot write to terminated process (exit code: 1)"), "failed"),
        (Ending(exception="ProcessError", exit_code=-9), "failed"),
        (Ending(exception="ProcessError", exit_code=1, text="cannot be used with root/sudo privileges"), "permanent"),
        (Ending(exception="CLIJSONDecodeError", text="bad"), "failed"),
        (Ending(), "failed"),
    ],
)
def test_every_ending_has_one_meaning(ending: Ending, outcome: str) -> None:
    verdict = classify(ending, NOW)
    assert verdict.outcome == outcome
    assert (verdict.error is None) == (outcome == "succeeded")
    assert verdict.error is None or (verdict.error and "\n" not in verdict.error)
    assert verdict.until is None or outcome == "throttled"


def test_a_throttle_lasts_until_the_time_that_is_named() -> None:
    assert classify(api(429), NOW).until is None
    assert classify(api(429, retry_after=90.0), NOW).until == NOW + 90
    assert classify(api(429, retry_after=90.0, resets_at=NOW + 500.0), NOW).until == NOW + 500
    assert classify(api(429, text=f"slow down ai-producer:retry-at:{NOW + 42}"), NOW).until == NOW + 42


def test_errors_are_one_bounded_line_that_says_what_happened() -> None:
    long = classify(api(500, text="line one\nline two " + "x" * 10_000), NOW).error
    assert long is not None and long.startswith("line one line two") and len(long) == 2000
    assert "killed by signal 9" in (classify(Ending(exception="ProcessError", exit_code=-9), NOW).error or "")
    assert "16 turns" in (classify(Ending(subtype="error_max_turns", is_error=True, max_turns=16), NOW).error or "")
    budget = classify(api(403, text="API Error: 403 ai-producer:budget: role code is at its cap"), NOW)
    assert budget.error == "role code is at its cap"
