"""What a supervisor does with prices and keys: refuses, takes over, replaces its gateway."""

from __future__ import annotations

from pathlib import Path

import httpx
from driving import Project

KEY = {"ANTHROPIC_API_KEY": "sk-test-not-a-key"}
NEW = "claude-nova-6"


def test_a_role_whose_model_has_no_price_is_refused_before_anything_starts(project: Project, supervise) -> None:
    project.configure({"code": {"model": NEW}})
    supervisor = supervise(invoker=None, env=KEY)
    assert supervisor.exits() == 2
    said = supervisor.output.read_text()
    assert f"budget.agents.code.model: no price is known for model '{NEW}'" in said and "Traceback" not in said
    assert not project.places.state.exists() and not project.state.exists()
    assert f"no price is known for model '{NEW}'" in project.producerctl("doctor").stdout


def test_a_gateway_with_another_key_is_replaced_and_one_with_the_same_is_adopted(project: Project, supervise) -> None:
    project.configure({"code": None}, gateway={"upstream": "http://127.0.0.1:9"})
    pids = []
    for key in ("first", "first", "second"):
        supervisor = supervise(invoker=None, env={"ANTHROPIC_API_KEY": f"sk-{key}"})
        supervisor.ready()
        known = list(pids)
        found = supervisor.until(lambda seen=known, by=supervisor: _url(by, seen), what="the gateway")
        pids.append(found["pid"])
        if key == "first":
            supervisor.kill()
    assert pids[0] == pids[1] != pids[2]
    (row,) = project.actions("gateway_replaced")
    assert row["detail"]["pid"] == pids[0]
    state = "".join(path.read_text(errors="replace") for path in project.places.state.rglob("*") if path.is_file())
    assert "sk-first" not in state and "sk-second" not in state
    assert supervisor.stop() == 0


def _url(supervisor, seen):
    found = supervisor.status()["gateway"]
    if len(seen) == 2 and found["pid"] == seen[-1]:
        return None
    try:
        return found if found["url"] and httpx.get(f"{found['url']}/health").status_code == 200 else None
    except httpx.HTTPError:
        return None


def test_who_watches_the_start_is_told_what_inheriting_means(
    project: Project, supervise, environment: dict[str, str]
) -> None:
    (Path(environment["HOME"]) / ".claude").mkdir()
    supervisor = supervise(invoker=None).ready()
    assert "warning     no ANTHROPIC_API_KEY, no CLAUDE_CODE_OAUTH_TOKEN" in supervisor.output.read_text()
    assert supervisor.stop() == 0
