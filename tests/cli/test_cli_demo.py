"""What the demo writes; that it runs is an end-to-end test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_rig import Project

from producer.cli import execute
from producer.cli.demo import scaffold
from producer.cli.run import SCRIPT
from producer.config import load_config
from producer.config.warnings import warnings
from producer.gateway import script
from producer.ledger.client import read_seed


@pytest.mark.parametrize(("held", "warned"), [("bwrap", 0), ("refused", 3)], ids=["held", "not held"])
def test_the_demos_project_is_valid_and_its_script_plays_every_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str, warned: int
) -> None:
    monkeypatch.setattr("producer.cli.demo.in_force", lambda setting: held)  # whether this machine has bubblewrap
    target = scaffold(tmp_path / "demo")
    config = load_config(target / "producer.yaml")
    assert set(config.roles) == {"design", "code", "qa"}
    assert all(path is not None and path.is_file() for path in map(config.prompt_path, config.roles))
    told = [line for line in warnings(config) if "producer` role" not in line]
    assert len(told) == warned and all("sandbox: none" in line for line in told)
    play = script.load(SCRIPT)
    for task in read_seed(target / "seed_tasks.json"):
        assert task["agent_owner"] in config.roles
        assert play.find(task["agent_owner"], task["title"]), task["title"]
    for role, scenarios in play.roles.items():
        needed = {tool.name for scenario in scenarios for turn in scenario.turns for tool in turn.tools}
        granted = {rule.partition("(")[0] for rule in config.roles[role].allowed_tools}
        assert {name for name in needed if not name.startswith("mcp__")} <= granted, role


def test_a_directory_with_something_in_it_is_refused(project: Project) -> None:
    (project.path / "full").mkdir()
    (project.path / "full" / "mine.txt").write_text("mine")
    assert "not empty" in project.refused("demo", "--dir", "full")
    assert [path.name for path in (project.path / "full").iterdir()] == ["mine.txt"]


def test_cut_off_before_anything_ran_it_says_where_it_is_and_how_it_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut(*args: object, **options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("producer.cli.demo.serve", cut)
    assert execute(["demo", "--dir", str(project.path / "new")]) == 130
    said = capsys.readouterr().out
    assert "not finished" in said and "3 pending" in said and f"cd {project.path / 'new'}" in said
    assert "producerctl run --once --rehearse" in said


@pytest.mark.parametrize("name", ["seed_tasks.json", "producer.yaml"])
def test_the_demos_files_say_nothing_of_machines(tmp_path: Path, name: str) -> None:
    text = (scaffold(tmp_path / "demo") / name).read_text()
    assert str(tmp_path) not in text and (name.endswith("yaml") or json.loads(text))
