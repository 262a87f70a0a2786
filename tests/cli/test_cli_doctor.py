from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_rig import Project, StandIn

from producer import killswitch


def findings(project: Project, code: int = 0, **env: str) -> dict[str, dict[str, Any]]:
    found = json.loads(project.run("doctor", "--json", code=code, **env).stdout)
    assert found["ok"] is (code == 0)
    assert all(set(check) == {"name", "status", "detail", "mend"} for check in found["checks"])
    assert all(check["mend"] for check in found["checks"] if check["status"] == "warn"), "a warning says how to mend it"
    worst = {"ok": 0, "warn": 1, "fail": 2}
    return {check["name"]: check for check in sorted(found["checks"], key=lambda check: worst[check["status"]])}


def test_a_healthy_project(project: Project) -> None:
    project.add()
    found = findings(project, ANTHROPIC_API_KEY="sk-test-not-a-key")
    for name in ("python", "claude", "config", "prompts", "auth", "models", "pricing", "sockets", "private directories",
                 "ledger", "supervisor", "kill switch", "disk", "git"):  # fmt: skip
        assert name in found
    assert found["auth"]["status"] == "ok" and found["auth"]["detail"].startswith("api; the gateway")
    assert "sk-test" not in json.dumps(found), "a key was shown"
    assert "1 tasks" in found["ledger"]["detail"]


def test_no_way_to_authenticate_is_a_failure_that_says_how_to_mend_it(project: Project) -> None:
    found = findings(project, code=1)
    assert found["auth"]["status"] == "fail" and "ANTHROPIC_API_KEY" in found["auth"]["mend"]
    project.env["PRODUCER_AUTH_MODE"] = "subscription"
    mend = findings(project, code=1)["auth"]["mend"]
    assert "log in with `claude`" in mend and "ANTHROPIC_API_KEY" not in mend, "what would mend this mode"


def test_where_the_gateway_passes_requests_to_is_said(project: Project) -> None:
    project.env |= {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "https://proxy.example/"}
    assert "https://proxy.example;" in findings(project)["auth"]["detail"]
    project.env["ANTHROPIC_BASE_URL"] = "proxy.example"
    assert "ANTHROPIC_BASE_URL" in findings(project, code=1)["auth"]["detail"]


def test_inheriting_from_nothing_is_a_warning(project: Project) -> None:
    project.env["PRODUCER_AUTH_MODE"] = "inherit"
    found = findings(project)["auth"]
    assert found["status"] == "warn" and "no login to inherit" in found["detail"]


def test_a_key_in_the_projects_env_file_is_found(project: Project) -> None:
    (project.path / ".env").write_text("ANTHROPIC_API_KEY=sk-test-not-a-key\n")
    assert findings(project)["auth"]["detail"].startswith("api")


def test_a_broken_config_is_a_failure_and_the_machine_is_still_checked(project: Project) -> None:
    project.config.write_text("budget: [\n")
    found = findings(project, code=1)
    assert found["config"]["status"] == "fail" and "producer.yaml" in found["config"]["detail"]
    assert found["python"]["status"] == "ok" and "ledger" not in found


def test_an_unknown_model_is_a_failure(project: Project) -> None:
    project.config.write_text(project.config.read_text() + "default_model: claude-nobody-knows-1\n")
    assert "claude-nobody-knows-1" in findings(project, code=1, ANTHROPIC_API_KEY="k")["models"]["detail"]


def test_private_directories_that_others_may_enter_are_a_failure(project: Project) -> None:
    project.add()
    project.places.state.chmod(0o755)
    found = findings(project, code=1, ANTHROPIC_API_KEY="k")["private directories"]
    assert found["status"] == "fail" and "chmod 700" in found["mend"]


def test_a_socket_path_that_is_too_long_is_a_failure(project: Project) -> None:
    found = findings(project, code=1, ANTHROPIC_API_KEY="k", XDG_RUNTIME_DIR="/" + "x" * 100)
    assert any("XDG_RUNTIME_DIR" in check["mend"] + check["detail"] for check in found.values())


@pytest.mark.parametrize("where", ["tcp", "tcp://127.0.0.1:7600"])
def test_over_tcp_the_length_of_a_path_is_no_matter(project: Project, tmp_path: Path, where: str) -> None:
    project.config.write_text(project.config.read_text() + f"sockets: {where}\n")
    found = findings(project, ANTHROPIC_API_KEY="k", XDG_RUNTIME_DIR=str(tmp_path / ("x" * 100)))
    assert found["sockets"]["status"] == "ok" and where[:3] in found["sockets"]["detail"]


def test_an_armed_switch_a_stale_table_and_escalations_are_warnings(project: Project) -> None:
    with project.client() as ledger:
        ledger.escalate_task(project.add(), "no idea")
    killswitch.arm(project.switch, "look first")
    table = json.loads(project.out("pricing", "show", "--json"))
    (project.places.state / "pricing.json").write_text(json.dumps(table | {"last_updated": "2020-01-01"}))
    found = findings(project, ANTHROPIC_API_KEY="k")
    for name in ("kill switch", "pricing", "escalations"):
        assert found[name]["status"] == "warn", name
    assert "look first" in found["kill switch"]["detail"]
    assert "days old" in project.run("report").stdout + next(project.ledger.parent.glob("morning-*")).read_text()


def test_a_ledger_that_is_none_is_a_failure_told_once(project: Project) -> None:
    project.ledger.parent.mkdir()
    project.ledger.write_text("no database" * 1000)
    found = findings(project, code=1, ANTHROPIC_API_KEY="k")
    assert {name for name, check in found.items() if check["status"] == "fail"} == {"ledger"}


def test_a_supervisor_that_answers_is_seen(
    project: Project, stand_in: Callable[[], StandIn], some_status: dict[str, Any]
) -> None:
    other = stand_in()
    assert findings(project, code=1, ANTHROPIC_API_KEY="k")["supervisor"]["status"] == "fail"
    other.answers["status"] = some_status
    assert "pid" in findings(project, ANTHROPIC_API_KEY="k")["supervisor"]["detail"]


def test_the_text_form_has_a_line_for_each(project: Project) -> None:
    lines = project.run("doctor", code=1).stdout.splitlines()
    assert all(line.split()[0] in ("ok", "warn", "fail") for line in lines)
    assert any(line.startswith("fail  auth") and "->" in line for line in lines)


@pytest.mark.parametrize("name", ["claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5"])
def test_pricing_show_has_the_models(project: Project, name: str) -> None:
    assert name in project.out("pricing", "show")
    assert json.loads(project.out("pricing", "show", "--json"))["models"][name]["input_per_mtok_usd"] > 0
