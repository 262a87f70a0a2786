from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from config_samples import MINIMAL
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.config import BudgetConfig, RoleConfig, find_config, load_config
from producer.config.warnings import warnings
from producer.errors import ConfigError

Write = Callable[[str], Path]

# Every key that 0.3.x knew, in the ways its users write them.
FROM_03 = """\
project_name: 2048            # a number, and a name all the same
project_root: ./game
kill_switch: agent-state/kill_switch
ledger_db: agent-state/ledger.db
escalations_dir: agent-state/escalations
reports_dir: agent-state
poll_interval_seconds: 2.5
idle_threshold_polls: 12
notifications:
  ntfy_topic:
  subject_prefix: My Game
  idle_wakeup_enabled: yes
  idle_wakeup_cooldown_seconds: 7200
  idle_wakeup_max_consecutive_done: 2
auth:
budget:
  project_ceiling_usd: 200
  soft_cap_ratio: 0.8
  agents:
    producer:
      daily_cap_usd: 5
      dispatch_reservation_usd: 0.05
      allowed_tools: [Read, Glob, Grep, Bash]
      prompt: agents/producer/system_prompt.md
    LevelDesign:
      daily_cap_usd: 1_000.50
      allowed_tools: [Read, Edit, Write, TodoWrite, MultiEdit, "Bash(git log:*)"]
      max_turns: 32
"""


@pytest.fixture
def old(tmp_path: Path, write: Write) -> Path:
    prompt = tmp_path / "game/agents/producer/system_prompt.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("plan")
    return write(FROM_03)


def test_a_file_of_03_loads_as_it_stands(old: Path, tmp_path: Path) -> None:
    config = load_config(old)
    root = tmp_path / "game"
    assert config.project_name == "2048"
    assert config.project_root == root
    assert config.ledger_db == root / "agent-state/ledger.db"
    assert config.escalations_dir == root / "agent-state/escalations"
    assert config.poll_interval_seconds == 2.5
    assert config.notifications.ntfy_topic == ""
    assert config.notifications.idle_wakeup_enabled is True
    assert config.auth.mode == "auto"
    assert list(config.roles) == ["producer", "LevelDesign"]
    assert config.roles["LevelDesign"].daily_cap == 1_000_500_000
    assert config.roles["LevelDesign"].dispatch_reservation == 100_000
    assert config.roles["LevelDesign"].max_turns == 32
    assert config.roles["producer"].max_turns == 16
    assert config.prompt_path("producer") == root / "agents/producer/system_prompt.md"
    assert config.prompt_path("LevelDesign") is None
    assert config.role_caps_dict()["producer"] == {"daily_cap_usd": 5.0}
    assert config.source == old
    assert config.sha256 == hashlib.sha256(FROM_03.encode()).hexdigest()


def test_tools_that_the_cli_no_longer_has_are_left_out_with_a_warning(old: Path) -> None:
    config = load_config(old)
    assert config.roles["LevelDesign"].current_tools == ["Read", "Edit", "Write", "Bash(git log:*)"]
    [line] = [line for line in warnings(config) if "allowed_tools" in line]
    assert "MultiEdit, TodoWrite" in line


@pytest.mark.parametrize("where", ["ipc", "tcp", "tcp://127.0.0.1:7600", "tcp://127.0.0.1:1", "tcp://127.0.0.1:65532"])
def test_how_the_supervisor_is_reached(write: Write, where: str) -> None:
    assert load_config(write(MINIMAL)).sockets == "ipc"
    assert load_config(write(MINIMAL + f"sockets: {where}\n")).sockets == where


def test_defaults_are_those_that_the_reference_names(write: Write) -> None:
    config = load_config(write(MINIMAL))
    role = config.roles["code"]
    assert config.default_model == config.model_of("code") == "claude-opus-5-5"
    assert (role.workers, role.timeout_seconds, role.idle_timeout_seconds, role.prefetch) == (1, 3600, 600, 1)
    assert (role.retry.max, role.retry.base_seconds, role.retry.cap_seconds) == (3, 30, 900)
    assert (role.permission_mode, role.sandbox, role.resume, role.warm) == ("dontAsk", "auto", True, True)
    assert role.max_budget is None
    assert (config.limits.depth, config.limits.filed_per_attempt, config.limits.pending_per_role) == (5, 20, 200)
    assert (config.failure_burst.count, config.failure_burst.window_seconds) == (5, 600)
    assert config.producer_reservation == 50_000
    assert config.budget.project_ceiling == 20_000_000


def test_times_names_and_texts_are_taken_as_they_are_written(write: Write) -> None:
    text = MINIMAL.replace("shop", "yes") + "report:\n  time: 10:30\nnotifications:\n  quiet_hours: 22:00-07:00\n"
    config = load_config(write(text))
    assert config.project_name == "yes"
    assert config.report.time == "10:30"
    assert config.notifications.quiet_hours == "22:00-07:00"


def test_null_means_none_where_the_reference_says_so(write: Write) -> None:
    config = load_config(write(MINIMAL + "report:\n  time: null\nretention_days: ~\n"))
    assert config.report.time is None
    assert config.retention_days is None


def test_mcp_servers_and_prices_come_out_as_plain_dicts(write: Write) -> None:
    text = MINIMAL + (
        "      mcp_servers:\n        tracker: {command: tracker-mcp, args: [-v, 3], env: {LEVEL: 2}}\n"
        "        search: {type: http, url: https://search.example/mcp/}\n"
        "      allowed_tools: [mcp__tracker__list, mcp__search, mcp__ledger__insert_task]\n"
        "pricing:\n  my-model: {input_per_mtok_usd: 3, output_per_mtok_usd: 15,"
        " cache_creation_per_mtok_usd: 3.75, cache_read_per_mtok_usd: 0.3}\n"
    )
    config = load_config(write(text))
    assert config.roles["code"].mcp_servers == {
        "tracker": {"command": "tracker-mcp", "args": ["-v", "3"], "env": {"LEVEL": "2"}},
        "search": {"type": "http", "url": "https://search.example/mcp"},
    }
    assert config.pricing["my-model"]["cache_creation_per_mtok_usd"] == 3.75


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.decimals(0, 10**9, allow_nan=False, allow_infinity=False, places=9))
def test_amounts_are_exact_and_rounded_up_to_the_micro_dollar(write: Write, amount: Decimal) -> None:
    text = f"{amount:f}"
    config = load_config(write(MINIMAL.replace("daily_cap_usd: 5", f"daily_cap_usd: {text}")))
    assert config.roles["code"].daily_cap == int((amount * 10**6).to_integral_value(ROUND_CEILING))


def test_a_config_can_be_built_and_changed_in_code(write: Write) -> None:
    assert BudgetConfig(200).soft_cap_ratio == 0.8
    role = RoleConfig("code", 20, ["Read"], 0.2, None, 8)
    assert (role.name, role.allowed_tools, role.max_turns, role.dispatch_reservation) == ("code", ["Read"], 8, 200_000)
    assert dataclasses.replace(role, workers=4).workers == 4
    with pytest.raises(ValueError, match="whole number from 0 to 256"):
        dataclasses.replace(role, workers=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config(write(MINIMAL)).roles["code"].workers = 2  # type: ignore[misc]


def test_which_file_is_read() -> None:
    env = {"PRODUCER_CONFIG": "elsewhere/producer.yaml"}
    assert find_config("mine.yaml", env) == Path("mine.yaml")
    assert find_config(None, env) == Path("elsewhere/producer.yaml")
    assert find_config(None, {}) == Path("producer.yaml")
    assert find_config(None, {"PRODUCER_CONFIG": ""}) == Path("producer.yaml")


def test_the_root_is_relative_to_the_file_and_not_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/producer.yaml").write_text(MINIMAL + "project_root: ./b\n")
    monkeypatch.chdir(tmp_path)
    assert load_config("a/producer.yaml").kill_switch == tmp_path / "a/b/agent-state/kill_switch"


def test_a_link_may_not_lead_a_prompt_out_of_the_project(write: Write, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.md"
    outside.write_text("secret")
    (tmp_path / "prompt.md").symlink_to(outside)
    with pytest.raises(ConfigError, match=r":7: budget\.agents\.code\.prompt: prompt\.md .* must lie inside"):
        load_config(write(MINIMAL + "      prompt: prompt.md\n"))
    (tmp_path / "prompt.md").unlink()
    (tmp_path / "real.md").write_text("plan")
    (tmp_path / "prompt.md").symlink_to("real.md")
    assert load_config(tmp_path / "producer.yaml").prompt_path("code") == tmp_path / "prompt.md"


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("", "no `producer` role"),
        ("notifications: {ntfy_topic: my.game}\n", "nothing will arrive"),
        ("notifications: {ntfy_topic: game}\n", "guesses the topic"),
        ("      dispatch_reservation_usd: 6\n", "no task can start"),
        ("      permission_mode: bypassPermissions\n", "do anything"),
        ("      sandbox: none\n", "sandbox: none"),
    ],
)
def test_what_is_probably_not_meant_is_said(write: Write, extra: str, said: str) -> None:
    assert any(said in line for line in warnings(load_config(write(MINIMAL + extra))))
