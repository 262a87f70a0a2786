"""`init`: what it writes, what it refuses, what it asks, and to whom it hands over."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from producer.cli import init as command
from producer.cli.scaffold import random_topic, scaffold, template
from producer.config import load_config
from producer.config.warnings import warnings
from producer.errors import ConfigError, ProducerError, UsageError

FILES = {
    ".gitignore",
    "ONBOARDING.md",
    "agents/code/system_prompt.md",
    "agents/producer/system_prompt.md",
    "agents/qa/system_prompt.md",
    "agents/wakeup/system_prompt.md",
    "producer.schema.json",
    "producer.yaml",
    "seed_tasks.example.json",
}
DEADLINE = 45


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_a_new_project_is_complete_and_loads(tmp_path: Path) -> None:
    target = tmp_path / "new/shop"
    written = scaffold(target, project_name="Shop: a “test” #1", ntfy_topic="", subject_prefix="it's [shop]")
    assert {str(path.relative_to(target)) for path in written} == FILES
    assert written[-1] == target / "producer.yaml"
    config = load_config(target / "producer.yaml")
    assert config.project_name == "Shop: a “test” #1"
    assert config.notifications.subject_prefix == "it's [shop]"
    assert config.notifications.ntfy_topic == ""
    assert list(config.roles) == ["producer", "code", "qa", "wakeup"]
    assert warnings(config) == []
    assert "Shop: a “test” #1" in config.prompt_path("code").read_text()  # type: ignore[union-attr]
    with sqlite3.connect(config.ledger_db) as ledger:
        assert ledger.execute("SELECT count(*) FROM tasks").fetchone() == (0,)
    assert (target / ".gitignore").read_text().splitlines() == ["agent-state/", ".env"]
    assert not list(target.rglob(".*.??????*.tmp"))
    assert not list(target.rglob("*$project_name*"))


def test_the_seed_tasks_are_for_roles_that_exist(tmp_path: Path) -> None:
    from producer.ledger import LedgerClient

    scaffold(tmp_path, ntfy_topic="")
    roles = load_config(tmp_path / "producer.yaml").roles
    assert {task["agent_owner"] for task in json.loads((tmp_path / "seed_tasks.example.json").read_text())} <= set(
        roles
    )
    ledger = LedgerClient(tmp_path / "agent-state/ledger.db")
    try:
        assert ledger.seed_from_json(tmp_path / "seed_tasks.example.json") == 2
    finally:
        ledger.close()


def test_the_default_topic_has_128_random_bits_and_one_that_ntfy_takes() -> None:
    topics = {random_topic(name) for name in ("shop", "shop", "My game, v2!", "ä" * 80, "")}
    assert len(topics) == 5
    for topic in topics:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", topic)
        assert re.search(r"[0-9a-f]{32}$", topic)


def test_over_an_existing_project_nothing_is_written_without_force(tmp_path: Path) -> None:
    scaffold(tmp_path, project_name="shop")
    (tmp_path / "agents/code/system_prompt.md").write_text("mine")
    (tmp_path / "ONBOARDING.md").unlink()
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=r"producer\.yaml exists: call with --force"):
        scaffold(tmp_path)
    result = CliRunner().invoke(command.init, ["--dir", str(tmp_path), "--non-interactive"])
    assert isinstance(result.exception, ProducerError) and result.exception.exit_code == 2
    assert "  would create ONBOARDING.md\n" in result.output
    lines = len(template("agents/code.md").splitlines())
    assert f"  would overwrite agents/code/system_prompt.md (-1 +{lines} lines)\n" in result.output
    assert "--force does this" in str(result.exception)
    assert "  would leave agents/qa/system_prompt.md\n" in result.output
    assert tree(tmp_path) == before
    scaffold(tmp_path, force=True)
    result = CliRunner().invoke(command.init, ["--dir", str(tmp_path), "--non-interactive"])
    assert "every file is as init writes it" in str(result.exception) and "overwrite" not in result.output


def test_force_overwrites_the_files_and_keeps_the_ledger_and_the_topic(tmp_path: Path) -> None:
    from producer.ledger import LedgerClient

    scaffold(tmp_path, project_name="shop")
    topic = load_config(tmp_path / "producer.yaml").notifications.ntfy_topic
    ledger = LedgerClient(tmp_path / "agent-state/ledger.db")
    task = ledger.insert_task(agent_owner="code", title="t", description="d")
    ledger.close()
    original = (tmp_path / "agents/code/system_prompt.md").read_bytes()
    (tmp_path / "agents/code/system_prompt.md").write_text("mine")
    assert scaffold(tmp_path, force=True) == [tmp_path / "agents/code/system_prompt.md"]
    assert (tmp_path / "agents/code/system_prompt.md").read_bytes() == original
    config = load_config(tmp_path / "producer.yaml")
    assert (config.project_name, config.notifications.ntfy_topic) == ("shop", topic)
    with sqlite3.connect(tmp_path / "agent-state/ledger.db") as db:
        assert db.execute("SELECT id FROM tasks").fetchall() == [(task,)]


def test_files_that_are_there_before_the_project_are_kept(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("build\nagent-state")
    (tmp_path / "ONBOARDING.md").write_text("mine")
    scaffold(tmp_path)
    assert (tmp_path / ".gitignore").read_text() == "build\nagent-state\n.env\n"
    assert (tmp_path / "ONBOARDING.md").read_text() == "mine"


@pytest.mark.parametrize("obstacle", ["agents", "agent-state", "agents/qa"])
def test_a_file_in_the_way_is_refused_before_anything_is_written(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / obstacle).parent.mkdir(exist_ok=True)
    (tmp_path / obstacle).write_text("in the way")
    before = tree(tmp_path)
    with pytest.raises(UsageError, match=f"{obstacle} is not a directory"):
        scaffold(tmp_path)
    assert tree(tmp_path) == before


def test_a_directory_in_a_files_place_and_a_target_that_is_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a/ONBOARDING.md").mkdir(parents=True)
    with pytest.raises(UsageError, match="is a directory"):
        scaffold(tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a directory"):
        scaffold(tmp_path / "file")
    assert set(tree(tmp_path)) == {"file"}


def test_settings_that_cannot_be_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"project_name: 'a\\nb' is not allowed"):
        scaffold(tmp_path, project_name="a\nb")
    assert tree(tmp_path) == {}


def test_without_a_terminal_nothing_is_asked_and_claude_is_left_out(tmp_path: Path) -> None:
    result = CliRunner().invoke(command.init, ["--dir", str(tmp_path / "my shop")])
    assert result.exit_code == 0, result.output
    assert "This is no terminal, so the onboarding chat is left out." in result.output
    name = "claude" if shutil.which("claude") else str(command.find_claude())
    assert f"cd '{tmp_path}/my shop' && {name} \"Read" in result.output, "a command that works here"
    assert load_config(tmp_path / "my shop/producer.yaml").project_name == "my shop"
    quiet = CliRunner().invoke(command.init, ["--dir", str(tmp_path / "b"), "--no-chat"])
    assert quiet.exit_code == 0 and "claude" not in quiet.output


def test_claude_is_the_one_on_path_else_the_one_of_the_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = tmp_path / "claude"
    stub.write_text("#!/bin/sh\n")
    stub.chmod(0o755)
    assert command.find_claude(str(tmp_path)) == stub
    bundled = command.find_claude(str(tmp_path / "none"))
    assert bundled is not None and bundled.parent.name == "_bundled" and os.access(bundled, os.X_OK)
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.find_claude(str(tmp_path / "none")) is None


def test_a_machine_without_claude_is_told_so_kindly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_claude", lambda: None)
    result = CliRunner().invoke(command.init, ["--dir", str(tmp_path)])
    assert result.exit_code == 0
    assert "The claude CLI was not found" in result.output


def at_a_terminal(arguments: list[str], typed: str, env: dict[str, str]) -> tuple[int, str]:
    """Run init on a pseudo-terminal; its exit code and what was on the screen."""
    ours, theirs = pty.openpty()
    code = "from producer.cli.init import init; init()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    screen, end = b"", time.monotonic() + DEADLINE
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # what a pseudo-terminal answers once the other side is gone
                    break
                screen += piece
        return process.wait(timeout=DEADLINE), screen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize("nothing", ["none", " "])
def test_the_wizard_asks_and_hands_over_to_claude_in_the_project(tmp_path: Path, nothing: str) -> None:
    stub = tmp_path / "bin/claude"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\npwd > "$OUT"\nfor word; do echo "$word" >> "$OUT"; done\n')
    stub.chmod(0o755)
    env = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}", "OUT": str(tmp_path / "out"), "TERM": "dumb"}
    target = tmp_path / "game"
    code, screen = at_a_terminal(["--dir", str(target)], f"Chess\nnot a topic!\n{nothing}\n\n", env)
    assert code == 0, screen
    assert "Project name [game]" in screen and "at most 64 letters" in screen
    config = load_config(target / "producer.yaml")
    assert (config.project_name, config.notifications.ntfy_topic) == ("Chess", "")
    assert config.notifications.subject_prefix == "Chess"
    where, *words = (tmp_path / "out").read_text().splitlines()
    assert where == str(target)
    assert "ONBOARDING.md" in words[-1]


def test_cut_off_in_the_wizard_nothing_is_written(tmp_path: Path) -> None:
    code, screen = at_a_terminal(["--dir", str(tmp_path / "game")], "Chess\n\x04", {**os.environ, "TERM": "dumb"})
    assert code != 0, screen
    assert not (tmp_path / "game").exists()


def test_the_scaffold_is_yaml_for_everyone(tmp_path: Path) -> None:
    scaffold(tmp_path, project_name="tab\u00a0 \U0001f680 'quotes\" \\ $x")
    text = (tmp_path / "producer.yaml").read_text()
    assert yaml.safe_load(text)["project_name"] == load_config(tmp_path / "producer.yaml").project_name
