"""The real claude CLI behind the gateway: the API sees the real credential, the agent never does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from driving import Project
from scripted_api import ScriptedApi, Turn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LOOK = (
    "env; for p in $PPID /proc/[0-9]*; do cat /proc/${p#/proc/}/environ 2>/dev/null | tr '\\0' '\\n'; done; echo DONE"
)
SECRET = "sk-ant-the-real-secret"


def play(body, number):
    asked = any(
        block.get("type") == "tool_result"
        for message in body["messages"]
        for block in (message["content"] if isinstance(message["content"], list) else [])
    )
    return Turn("Seen.") if asked else Turn("Looking.", tools=[("Bash", {"command": LOOK, "description": "look"})])


@pytest.mark.parametrize("way", ["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "login"])
def test_the_api_sees_the_credential_and_the_agent_never_does(project: Project, supervise, way: str) -> None:
    with ScriptedApi(play) as api:
        project.configure(
            {"code": {"allowed_tools": ["Bash"], "sandbox": "none"}}, gateway={"upstream": api.url},
        )  # fmt: skip
        if way == "login":
            file = Path(project.env["HOME"]) / ".claude" / ".credentials.json"
            file.parent.mkdir(parents=True)
            expires = int((time.time() + 7200) * 1000)
            file.write_text(json.dumps({"claudeAiOauth": {"accessToken": SECRET, "expiresAt": expires}}))
            before = file.read_bytes()
        else:
            (project.root / ".env").write_text(f"{way}={SECRET}\n")
        task = project.file_task("look around")
        supervisor = supervise("--once", invoker=None)
        assert supervisor.exits(90) == 0, supervisor.log()
        results = api.results()
    assert project.task(task)["status"] == "done"
    sent = [headers for headers in api.headers if "x-api-key" in headers or "authorization" in headers]
    assert len(sent) >= 2
    for headers in sent:
        if way == "ANTHROPIC_API_KEY":
            assert headers["x-api-key"] == SECRET and "authorization" not in headers
        else:
            assert headers["authorization"] == f"Bearer {SECRET}" and "x-api-key" not in headers
            assert "oauth-2025-04-20" in headers["anthropic-beta"]
    seen = "\n".join(results)
    assert "DONE" in seen and "ANTHROPIC_BASE_URL=http://127.0.0.1" in seen, "the agent saw its environment"
    assert SECRET not in seen
    if way == "login":
        assert file.read_bytes() == before
        assert not list(project.places.state.rglob(".credentials.json"))
    assert project.actions("producer_boot_once")[0]["detail"]["auth"] == (
        "api" if way == "ANTHROPIC_API_KEY" else "subscription"
    )


NEW = "claude-nova-6"
ROW = {"input_per_mtok_usd": 7, "output_per_mtok_usd": 35, "cache_creation_per_mtok_usd": 8.75,
       "cache_read_per_mtok_usd": 0.7}  # fmt: skip
DEARER = {name: 10 * rate for name, rate in ROW.items()}


def test_a_model_without_a_price_is_refused_and_prices_reach_a_running_gateway(project: Project, supervise) -> None:
    with ScriptedApi(lambda body, number: Turn("Done.")) as api:
        upstream = {"upstream": api.url}
        project.configure({"code": None}, gateway=upstream)
        (project.root / ".env").write_text(f"ANTHROPIC_API_KEY={SECRET}\n")
        supervisor = supervise(invoker=None).ready()
        gateway = supervisor.until(lambda: supervisor.status()["gateway"]["pid"])

        project.configure({"code": {"model": NEW}}, gateway=upstream)
        refused = project.producerctl("reload")
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert f"budget.agents.code.model: no price is known for model '{NEW}'" in refused.stderr
        assert project.actions("config_reloaded") == [], "the old configuration stays in force"

        prices = project.root / "new-prices.json"
        prices.write_text(json.dumps({"last_updated": "2026-11-23", "models": {NEW: ROW}}))
        assert project.producerctl("pricing", "update", "--file", str(prices)).returncode == 0
        assert supervisor.until_action("pricing_updated")["actor"].startswith("operator:")
        assert project.producerctl("reload").returncode == 0
        _wait_for_prices(project, supervisor, 1)
        first = supervisor.until_status(project.file_task("first"), "done", "escalated", seconds=60)
        assert (first["status"], first["cost_usd"]) == ("done", "0.0014"), first  # 100 tokens at 7, 20 at 35 a million

        project.configure({"code": {"model": NEW}}, gateway=upstream, pricing={NEW: DEARER})
        assert project.producerctl("reload").returncode == 0
        _wait_for_prices(project, supervisor, 2)
        second = supervisor.until_status(project.file_task("second"), "done", "escalated", seconds=60)
        assert (second["status"], second["cost_usd"]) == ("done", "0.014"), second
        assert supervisor.status()["gateway"]["pid"] == gateway, "it took them over as it ran"
        assert supervisor.stop() == 0


def _wait_for_prices(project: Project, supervisor, times: int) -> None:
    log = project.places.workers / "gateway.log"
    supervisor.until(lambda: log.read_text().count("read anew") >= times, what="the gateway's new prices")
