"""Usage limits: the role waits until the time that the API names, no retry is spent, the others go on."""

from __future__ import annotations

import time

import pytest
from driving import Project
from rehearsing import LONG, billed, equal_bills, rehearse, requests, shell, with_shell

from producer.gateway import limits

NOW = 1_800_000_000.0


@pytest.mark.e2e
@pytest.mark.timeout(600)
@pytest.mark.parametrize("status", [429, pytest.param(529, marks=pytest.mark.slow)])
def test_a_limited_role_waits_and_goes_on_where_it_was(project: Project, supervise, status: int) -> None:
    project.configure(
        {"code": with_shell(env={"CLAUDE_CODE_MAX_RETRIES": "0"}), "qa": with_shell()}, gateway={"record": True}
    )
    limit = {"status": status, "type": "rate_limit_error", "message": "slow down", "retry_after": 20, "times": 1}
    work = [shell("true"), shell("true", error=limit), {"text": "Done."}]
    supervisor = rehearse(supervise, project, {"code": {"*": work}, "qa": {"*": [{"text": "Done."}]}})
    task = project.file_task("limited")
    supervisor.until(lambda: supervisor.status()["roles"]["code"]["state"] == "throttled", LONG, "a throttled role")
    fault = next(line for line in billed(project) if line["fault"] == "error")
    ((until,),) = project.rows("SELECT until FROM roles WHERE role = 'code'")
    assert abs(until - (fault["at"] + 20)) < 2, "not the time that the API named"
    role = supervisor.status()["roles"]["code"]
    assert role["until"] and "slow down" in role["reason"] and "ai-producer" not in role["reason"]
    other = project.file_task("of another role", "qa")
    supervisor.until_status(other, "done", seconds=LONG)
    assert project.task(task)["status"] == "pending" and project.task(task)["retry_count"] == 0
    supervisor.until_status(task, "done", seconds=LONG)
    assert time.time() >= until, "it was tried again too early"
    first, second = project.task(task)["attempts"]
    assert (first["state"], second["state"], second["resumed"]) == ("throttled", "succeeded", 1)
    assert len(requests(project, task)) == 3 and project.task(task)["retry_count"] == 0
    equal_bills(project)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "90"}, NOW + 90),
        ({"retry-after": "Fri, 15 Jan 2027 08:01:00 GMT"}, NOW + 60),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"anthropic-ratelimit-unified-reset": str(NOW + 18_000)}, NOW + 18_000),
        ({"anthropic-ratelimit-unified-reset": str(NOW + 1e9)}, None),
        ({"retry-after": "20", "anthropic-ratelimit-unified-reset": str(NOW + 18_000)}, NOW + 18_000),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:30Z",
                "anthropic-ratelimit-input-tokens-remaining": "100",
                "anthropic-ratelimit-input-tokens-reset": "2027-01-15T08:05:00Z",
            },
            NOW + 30,
        ),
    ],
)
def test_the_end_of_a_limit_is_what_the_headers_say(headers: dict[str, str], expected: float | None) -> None:
    assert limits.ends_at(headers, NOW) == expected


def test_an_error_that_is_not_of_the_apis_shape_stays_as_it_is() -> None:
    for body in (b"", b"busy", b"[]", b'{"error": "busy"}', b'{"error": {}}', b"\xff"):
        assert limits.marked(body, NOW) == body
    assert limits.marked(b'{"error": {"message": "busy"}}', NOW) == (
        b'{"error": {"message": "busy (ai-producer:retry-at:1800000000)"}}'
    )
