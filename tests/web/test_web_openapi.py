"""The OpenAPI document against the real process: schemathesis makes requests from it, right ones and wrong ones.

A supervisor runs, so that what is asked is really done. Whatever comes, the answer is one that the document names, in
JSON, and never a 5xx. `scale` is asked for once by hand: a document allows 256 workers, and this machine is small.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import pytest
import schemathesis
from driving import Project, Supervisor
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from test_web_live import entered, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance)
EXAMPLES = 30
SLOW_IS_NO_FAULT = list(HealthCheck)
TASKS = cycle(("parser", "replace", "ask", "unwanted", "follows", "careful", "next", "under"))
ROLES = cycle(("code", "qa"))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
def test_every_answer_is_one_that_the_document_names(
    filled: Project, supervise: Callable[..., Supervisor], mode: GenerationMode
) -> None:
    supervise("--workers", "code=0", "--workers", "qa=0").ready(0)
    with served(filled) as link, entered(link) as client:
        schema = schemathesis.openapi.from_dict(client.get("/api/openapi.json").json())
        ours = {"Cookie": "; ".join(f"{name}={value}" for name, value in client.cookies.items()),
                "X-Producer-CSRF": client.headers["x-producer-csrf"]}  # fmt: skip
        base = str(client.base_url)
        answers: Counter[tuple[str, int]] = Counter()
        turn = cycle((False, True))

        def ask(case: schemathesis.Case) -> None:
            if next(turn):
                mean(case)
            kind = {"Content-Type": "application/json"} if case.method == "POST" else {}
            response = case.call(base_url=base, headers={**ours, **kind}, timeout=60)
            answers[f"{case.method} {case.operation.path}", response.status_code] += 1
            case.validate_response(response, checks=list(CHECKS))

        asked = 0
        for found in schema.get_all_operations():
            operation = found.ok()
            if operation.path == "/api/roles/{role}/scale":
                assert client.post("/api/roles/code/scale", json={"workers": 0}).status_code == 200
                continue
            strategy = operation.as_strategy(generation_mode=mode)
            settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=SLOW_IS_NO_FAULT)(
                given(case=strategy)(ask)
            )()
            asked += 1
        assert asked >= 17 and sum(answers.values()) >= 17 * 10, answers
        assert not [key for key in answers if key[1] >= 500]
        done = {path for path, status in answers if path.startswith("POST") and status < 300}
        assert mode is GenerationMode.NEGATIVE or len(done) >= 7, f"most of what can be asked was done: {done}"
        assert client.get("/").status_code == 200, "and it is as well as before"


def mean(case: schemathesis.Case) -> None:
    """Let a request mean what is there: an invented id or role is never more than unknown."""
    for name, known in (("ident", TASKS), ("role", ROLES)):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = next(known)
    if isinstance(case.body, dict):
        for name in ("agent_owner", "role"):
            if name in case.body:
                case.body[name] = next(ROLES)
        if "dependencies" in case.body:
            case.body["dependencies"] = [next(TASKS)]
        if "parent_task_id" in case.body:
            case.body["parent_task_id"] = next(TASKS)


def test_the_token_that_the_document_speaks_of_is_on_every_page(filled: Project) -> None:
    with served(filled) as link, entered(link) as client:
        for path in ("/", "/tasks", "/tasks/new", "/tasks/ask", "/flow", "/money", "/audit", "/reports"):
            token = re.findall(r'<meta name="csrf" content="([^"]+)">', client.get(path).text)
            assert token == [client.headers["x-producer-csrf"]], path
