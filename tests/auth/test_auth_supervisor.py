"""What a supervisor does with prices and keys: refuses, takes over, replaces its gateway."""

from __future__ import annotations

import json

import httpx
from driving import Project
from rehearsing import shell, write_script

KEY = {"ANTHROPIC_API_KEY": "sk-test-not-a-key"}
NEW = "claude-nova-6"
ROW = {"input_per_mtok_usd": 7, "output_per_mtok_usd": 35, "cache_creation_per_mtok_usd": 8.75,
       "cache_read_per_mtok_usd": 0.7}  # fmt: skip


def publish(project: Project) -> str:
    path = project.root / "new-prices.json"
    path.write_text(json.dumps({"last_updated": "2026-11-23", "models": {NEW: ROW}}))
    return str(path)


def test_a_role_whose_model_has_no_price_is_refused_before_anything_starts(project: Project, supervise) -> None:
    project.configure({"code": {"model": NEW}})
    supervisor = supervise(invoker=None, env=KEY)
    assert supervisor.exits() == 2
    said = supervisor.output.read_text()
    assert f"budget.agents.code.model: no price is known for model '{NEW}'" in said and "Traceback" not in said
    assert not project.places.state.exists() and not project.state.exists()
    assert f"no price is known for model '{NEW}'" in project.producerctl("doctor").stdout


def test_a_reload_to_a_model_without_a_price_is_refused_until_there_is_one(project: Project, supervise) -> None:
    project.configure({"code": None})
    script = write_script(project, {"code": {"*": [shell("true"), {"text": "Done."}]}})
    supervisor = supervise("--rehearse", str(script), invoker=None).ready()
    project.configure({"code": {"model": NEW, "allowed_tools": ["Bash"], "sandbox": "none"}})
    refused = project.producerctl("reload")
    assert refused.returncode == 2 and f"no price is known for model '{NEW}'" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert supervisor.status()["roles"]["code"]["state"] == "ok"
    assert project.producerctl("pricing", "update", "--file", publish(project)).returncode == 0
    row = supervisor.until_action("pricing_updated")
    assert row["actor"].startswith("operator:")
    assert project.producerctl("reload").returncode == 0
    gateway = supervisor.status()["gateway"]["pid"]
    log = project.places.workers / "gateway.log"
    supervisor.until(lambda: "read anew" in log.read_text(), what="the gateway's new prices")
    task = project.file_task("with the new model")
    after = supervisor.until_status(task, "done", "escalated", seconds=60)
    assert after["status"] == "done", after["attempts"]
    ((model, cost),) = project.rows("SELECT model, sum(cost_micros) FROM meter GROUP BY model")
    assert model == NEW and cost > 0
    assert supervisor.status()["gateway"]["pid"] == gateway, "it took the prices over as it ran"
    assert supervisor.stop() == 0


def test_prices_of_the_configuration_reach_a_running_gateway(project: Project, supervise) -> None:
    project.configure({"code": None})
    script = write_script(project, {"code": {"*": [{"text": "Done."}]}})
    supervisor = supervise("--rehearse", str(script), invoker=None).ready()
    project.configure({"code": {"model": NEW}}, pricing={NEW: ROW})
    assert project.producerctl("reload").returncode == 0
    override = project.places.state / "pricing.override.json"
    supervisor.until(lambda: NEW in override.read_text(), what="the gateway's prices")
    after = supervisor.until_status(project.file_task("priced by the configuration"), "done", "escalated", seconds=60)
    assert after["status"] == "done", after["attempts"]
    assert supervisor.stop() == 0


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
