"""What the README of 0.3.x promises, heading by heading, by the program as a user calls it. Named after its headings.

The escalations have a file of their own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from driving import SOURCE, Project

SECTIONS = ("Mission", "What you must read first", "Hard rules", "Output discipline", "Ledger discipline",
            "Queue self-replenishment", "Stop condition")  # fmt: skip
API = (
    "AuditLogger, AuditRow, AuthConfig, BudgetConfig, BudgetExceeded, BudgetTracker, ClaudeAgentInvoker,"
    " InvocationResult, KillSwitchWatcher, LedgerClient, LedgerError, NotificationsConfig, Producer, ProducerConfig,"
    " RoleConfig, Task, TaskClaimRace, load_config, AUDIT_GENESIS_PREV_HASH, new_id, utc_iso_now, utc_today,"
    " __version__"
)


def program(where: Path, env: dict[str, str], *words: str, code: int = 0, stdin: str = "") -> str:
    """Call the program in a directory; its stdout."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "producer", *words], cwd=where, env=env, input=stdin, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + (done.stderr if code else "")


@pytest.fixture
def scaffold(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A project as `init` leaves it."""
    program(tmp_path, environment, "init", "--dir", "game", "--non-interactive", "--no-chat")
    return tmp_path / "game"


def test_install(tmp_path: Path, environment: dict[str, str]) -> None:
    scripts = tomllib.loads(Path(SOURCE, "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["producer"] == scripts["producerctl"], "they are one program"
    module, name = scripts["producer"].split(":")
    assert callable(getattr(import_module(module), name))
    assert re.search(r"\d", program(tmp_path, environment, "--version"))


def test_quickstart(scaffold: Path, environment: dict[str, str]) -> None:
    made = {str(path.relative_to(scaffold)) for path in scaffold.rglob("*") if path.is_file()}
    roles = ("producer", "code", "qa", "wakeup")
    prompts = {f"agents/{role}/system_prompt.md" for role in roles}
    assert made >= {"producer.yaml", "agent-state/ledger.db", "seed_tasks.example.json", "ONBOARDING.md"} | prompts
    words = ("task", "add", "--agent", "code", "--title", "First task", "--description", "...")
    task = program(scaffold, environment, *words).strip()
    assert program(scaffold, environment, "task", "list").strip() == f"{task}  p3  [code]  First task"
    program(scaffold, environment, "run", "--once", "--invoker", "echo")
    assert task in program(scaffold, environment, "task", "list", "--status", "done")
    seed = json.loads((scaffold / "seed_tasks.example.json").read_text())
    assert f"{len(seed)} tasks filed" in program(scaffold, environment, "task", "import", "seed_tasks.example.json")


def test_init_flags(tmp_path: Path, scaffold: Path, environment: dict[str, str]) -> None:
    task = program(scaffold, environment, "task", "add", "--agent", "qa", "--title", "t", "--description", "d").strip()
    config = scaffold / "producer.yaml"
    config.write_text(config.read_text() + "# mine\n")
    before = config.read_text()
    told = program(scaffold, environment, "init", "--non-interactive", code=2)
    assert "would" in told and "--force" in told and config.read_text() == before
    program(scaffold, environment, "init", "--force", "--non-interactive", "--no-chat")
    assert "# mine" not in config.read_text(), "overwritten"
    assert yaml.safe_load(config.read_text())["project_name"] == "game", "derived from the directory"
    assert task in program(scaffold, environment, "task", "list"), "the ledger is never overwritten"
    told = program(tmp_path, environment, "init", "--dir", "other", "--non-interactive")
    assert "onboarding chat is left out" in told and "ONBOARDING.md" in told, "a friendly skip"
    topics = [yaml.safe_load((path / "producer.yaml").read_text())["notifications"]["ntfy_topic"]
              for path in (scaffold, tmp_path / "other")]  # fmt: skip
    assert topics[0] != topics[1] and min(map(len, topics)) >= 22, "a random suffix"


def test_configuration_reference(tmp_path: Path, environment: dict[str, str]) -> None:
    readme = """\
project_name: my-project       # used in dispatch prompts + report headers
project_root: .                # paths below resolve relative to this
kill_switch: agent-state/kill_switch
ledger_db: agent-state/ledger.db
escalations_dir: agent-state/escalations
reports_dir: agent-state
poll_interval_seconds: 10
idle_threshold_polls: 12       # 12 x 10s = 2 min idle before notifying
notifications:
  ntfy_topic: ""               # "" disables ntfy (file marker still written)
  subject_prefix: MyProject
budget:
  project_ceiling_usd: 200     # hard ceiling on total project spend per day
  soft_cap_ratio: 0.8          # per-agent soft warning threshold
  agents:
    producer:
      daily_cap_usd: 5
      dispatch_reservation_usd: 0.05    # pre-flight reservation per dispatch
      allowed_tools: [Read, Glob, Grep, Bash]
      prompt: agents/producer/system_prompt.md   # path under project_root
    code:
      daily_cap_usd: 20
      dispatch_reservation_usd: 0.20
      allowed_tools: [Read, Edit, Write, Glob, Grep, Bash]
      prompt: agents/code/system_prompt.md
"""
    for role in ("producer", "code"):
        (tmp_path / "agents" / role).mkdir(parents=True)
        (tmp_path / "agents" / role / "system_prompt.md").write_text(f"You are {role}.")
    (tmp_path / "producer.yaml").write_text(readme)
    words = ("task", "add", "--agent", "code", "--title", "t", "--description", "d")
    task = program(tmp_path, environment, *words).strip()
    program(tmp_path, environment, "run", "--once", "--invoker", "echo")
    assert task in program(tmp_path, environment, "task", "list", "--status", "done")


def test_kill_switch(project: Project, supervise) -> None:
    supervisor = supervise().ready()
    assert project.producerctl("kill", "deploy in progress, freeze all agents").returncode == 0
    switch, reason = project.state / "kill_switch", project.state / "kill_switch.reason"
    assert switch.exists() and "deploy in progress, freeze all agents" in reason.read_text()
    task = project.file_task("held")
    supervisor.until(lambda: supervisor.status()["kill_switch"]["armed"])
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(task, "done")
    assert not switch.exists(), "so that touching it arms it again"
    switch.touch()
    supervisor.until(lambda: len(project.actions("kill_switch_observed")) == 2)
    held = project.file_task("held by a touched file")
    supervisor.until(lambda: supervisor.status()["kill_switch"]["armed"])
    assert project.task(held)["attempts"] == []
    switch.unlink()
    supervisor.until_status(held, "done")


def test_kill_switch_arms_itself_after_five_failures_within_ten_minutes(project: Project, supervise) -> None:
    for number in range(5):
        project.file_task(f"t{number}", payload={"fail": True})
    supervisor = supervise().ready()
    supervisor.until_action("kill_switch_armed_by_producer")
    assert (project.state / "kill_switch").exists()
    assert len(project.actions("task_failed")) == 5


def test_morning_report(project: Project, supervise) -> None:
    task = project.file_task("Ship it")
    assert supervise("--once").exits() == 0
    today = time.strftime("%Y-%m-%d", time.gmtime())
    done = project.producerctl("report", "--date", today)
    path = project.state / f"morning-report-{today.replace('-', '')}.md"
    assert done.returncode == 0 and Path(done.stdout.strip()).resolve() == path.resolve()
    text = path.read_text()
    for section in ("Shipped", "Awaiting your sign-off", "Spend", "Assets registered", "Anomalies"):
        assert section in text, section
    assert "Ship it" in text or task in text
    old = project.producerctl("report", "--date", "2026-05-06")
    assert old.returncode == 0 and (project.state / "morning-report-20260506.md").exists()
    refused = project.producerctl("report", "--date", "tomorrow")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1


def test_idle_detection(project: Project, supervise) -> None:
    quiet = {"idle_wakeup_enabled": False}
    project.configure({"code": None}, poll_interval_seconds=0.1, idle_threshold_polls=3, notifications=quiet)
    project.file_task("the last one")
    supervisor = supervise().ready()
    supervisor.until_count("done", 1)
    supervisor.until(lambda: "idle" in project.attention().lower(), what="a notice of idleness")
    project.file_task("work again")
    supervisor.until(lambda: "back online" in project.attention().lower(), what="a notice that work resumed")


def auth_of(project: Project) -> dict[str, str]:
    done = project.producerctl("doctor", "--json")
    return next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "auth")


def test_subscription_auth(project: Project) -> None:
    credentials = Path(project.env["HOME"]) / ".claude" / ".credentials.json"
    credentials.parent.mkdir()
    expires = int((time.time() + 3600) * 1000)
    credentials.write_text(json.dumps({"claudeAiOauth": {"accessToken": "sk-ant-oat", "expiresAt": expires}}))
    found = auth_of(project)
    assert found["detail"].startswith("subscription; the gateway") and str(credentials) in found["detail"]
    (project.root / ".env").write_text("ANTHROPIC_API_KEY=sk-test\n")
    assert auth_of(project)["detail"].startswith("api; the gateway"), "API auth is the default"
    assert "sk-" not in json.dumps(found)


def test_subscription_auth_pricing(project: Project) -> None:
    shown = json.loads(project.producerctl("pricing", "show", "--json").stdout)
    assert len(shown["models"]) > 5
    honest = project.producerctl("pricing", "update")
    assert honest.returncode == 2 and "not as JSON" in honest.stderr and "--url" in honest.stderr
    stale = project.root / "table.json"
    row = {f"{name}_per_mtok_usd": 1 for name in ("input", "output", "cache_creation", "cache_read")}
    stale.write_text(json.dumps({"last_updated": "2026-01-01", "models": {"claude-nova-6": row}}))
    preview = project.producerctl("pricing", "update", "--file", str(stale), "--dry-run")
    assert preview.returncode == 0 and "claude-nova-6" in preview.stdout
    assert "claude-nova-6" not in project.producerctl("pricing", "show").stdout
    assert project.producerctl("pricing", "update", "--file", str(stale)).returncode == 0
    assert "claude-nova-6" in project.producerctl("pricing", "show").stdout


def test_subscription_auth_a_table_over_ninety_days_old_is_told_of(project: Project, supervise) -> None:
    stale = project.root / "table.json"
    row = {f"{name}_per_mtok_usd": 1 for name in ("input", "output", "cache_creation", "cache_read")}
    stale.write_text(json.dumps({"last_updated": "2026-01-01", "models": {"claude-nova-6": row}}))
    assert project.producerctl("pricing", "update", "--file", str(stale)).returncode == 0
    supervisor = supervise().ready()
    supervisor.until_action("pricing_stale")
    supervisor.until(lambda: "pricing update" in project.attention(), what="the notice")


def test_inherit_mode(project: Project) -> None:
    (Path(project.env["HOME"]) / ".claude").mkdir()
    found = auth_of(project)
    assert (found["status"], found["detail"].split(";")[0]) == ("warn", "inherit"), "auto falls back, with a warning"
    assert "plugins" in found["detail"]
    project.configure({"code": None}, auth={"mode": "inherit"})
    assert auth_of(project)["detail"].startswith("inherit; no gateway")
    project.configure({"code": None})
    project.env["PRODUCER_AUTH_MODE"] = "inherit"
    assert auth_of(project)["detail"].startswith("inherit; no gateway")


def test_writing_an_agent_prompt(scaffold: Path) -> None:
    template = Path(SOURCE) / "producer" / "templates" / "agent_prompt_template.md"
    prompts = [scaffold / "agents" / role / "system_prompt.md" for role in ("producer", "code", "qa", "wakeup")]
    for path in (template, *prompts):
        text = path.read_text()
        at = [text.find(section) for section in SECTIONS]
        assert -1 not in at and at == sorted(at), f"{path}: {dict(zip(SECTIONS, at, strict=True))}"


def test_public_api(tmp_path: Path, environment: dict[str, str]) -> None:
    script = f"""
from producer import {API}
from producer import LedgerClient

ledger = LedgerClient(db_path="agent-state/ledger.db")
task = ledger.insert_task(
    agent_owner="qa",
    title="Validate the new etching",
    description="Per spec X §3, run a focused balance pass.",
    payload={{"feature": "etching_drip"}},
    priority=4,
)
ledger.record_decision(
    task_id=task,
    agent_owner="code",
    kind="implementation",
    decision_text="Implemented Y at path Z",
    rationale="Per spec §2.",
)
print(ledger.get_task(task).title, len(AUDIT_GENESIS_PREV_HASH))
ledger.close()
"""
    (tmp_path / "agent-state").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", script], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "Validate the new etching 64"
