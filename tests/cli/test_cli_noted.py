"""Commands take where things are from a supervisor's note of producer.yaml, and only while the file is the noted one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_rig import CONFIG, Project, StandIn

from producer import killswitch
from producer.cli.app import App
from producer.config import load_config
from producer.project import FILE, guess, note, noted
from producer.project import Project as Known

HEAVY = {"pydantic", "yaml", "asyncio", "importlib.metadata", "importlib.resources"}


@pytest.fixture
def told(project: Project) -> Project:
    """A project whose producer.yaml a supervisor has read."""
    note(load_config(project.config), project.places.make())
    return project


def imported(project: Project, *words: str) -> set[str]:
    """The modules that a command imports, which must succeed."""
    code = "import sys; from producer.cli import execute; assert execute(sys.argv[1:]) == 0; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, *words], cwd=project.path, env=project.env, capture_output=True,
                         text=True, check=True)  # fmt: skip
    return set(ran.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("task", "list"), ("logs",), ("scale", "code=2")])
def test_a_command_does_not_read_what_the_supervisor_has(
    told: Project, stand_in: Callable[[], StandIn], some_status: dict[str, Any], words: tuple[str, ...]
) -> None:
    supervisor = stand_in()
    supervisor.answers |= {"status": some_status, "scale": {"desired": {"code": 2}}}
    assert not HEAVY & imported(told, *words)
    told.config.write_text(CONFIG + "\n")
    assert "pydantic" in imported(told, *words), "it has changed, if not much"


def test_what_was_noted_is_what_the_file_says(told: Project) -> None:
    config = load_config(told.config)
    assert noted(told.config) == Known.of(config)
    assert noted(told.config).ledger_db == config.ledger_db  # type: ignore[union-attr]


def test_the_noted_switch_is_the_one_that_is_armed(told: Project) -> None:
    told.run("kill", "from the note")
    assert killswitch.read(told.switch).reason == "from the note"


def test_a_file_that_broke_after_the_start_is_refused_with_its_line(
    told: Project, stand_in: Callable[[], StandIn]
) -> None:
    stand_in()
    told.config.write_text(CONFIG + "colour: red\n")
    for words in (("status",), ("task", "list"), ("scale", "code=2")):
        assert "producer.yaml:8" in told.refused(*words, code=2)
    told.config.unlink()
    assert "no such file" in told.refused("status", code=2)


def test_with_no_supervisor_the_whole_file_is_read(told: Project) -> None:
    told.add("One")
    found = json.loads(told.out("status", "--json"))
    assert found["roles"]["code"]["desired"] == 2 and found["budget"]["project"]["cap_usd"] == "10.00"


@pytest.mark.parametrize("key", ["source", "sha256", "project_root", "version", "project"])
def test_a_note_of_something_else_is_passed_over(told: Project, key: str) -> None:
    file = told.places.state / FILE
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, key: "another"}))
    assert noted(told.config) is None
    file.write_text(json.dumps({name: value for name, value in content.items() if name != key}))
    assert noted(told.config) is None
    file.write_text(json.dumps(content))
    assert noted(told.config) is not None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"project": []}', '{"project": {"roles": 1}}', "\udcff" * 3])
def test_a_note_that_is_none_is_passed_over(told: Project, text: str) -> None:
    told.add("One")
    (told.places.state / FILE).write_text(text, errors="surrogateescape")
    assert noted(told.config) is None
    assert "One" in told.out("task", "list")


def test_a_copy_of_the_file_elsewhere_is_not_the_noted_one(
    told: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other") / "producer.yaml"
    text = CONFIG + f"ledger_db: {told.ledger}\nproject_root: {told.path}\n"
    for file in (told.config, other):
        file.write_text(text)
    note(load_config(told.config), told.places)
    assert noted(told.config) is not None and noted(other) is None


def test_a_ledger_that_the_lines_do_not_show_is_found_by_reading(told: Project) -> None:
    told.config.write_text(CONFIG + '"ledger_db": elsewhere/ledger.db\n')
    config = load_config(told.config)
    assert guess(told.config, told.config.read_text())["ledger_db"] != config.ledger_db
    note(config, told.places)  # even where the note lies, by accident, where it is looked for
    assert noted(told.config) is None
    app = App()
    app.config_file = str(told.config)
    assert app.project == Known.of(config)


@pytest.mark.parametrize("lines", [
    "ledger_db: here/l.db # one\nproject_root: '..'\n", 'kill_switch: "off"\n', "ledger_db: 'a/b.db'\n", "ledger_db: /tmp/x/l.db\n",
])  # fmt: skip
def test_what_is_guessed_is_what_is_read(project: Project, lines: str) -> None:
    project.config.write_text(CONFIG + lines)
    config = load_config(project.config)
    found = guess(project.config, project.config.read_text())
    assert found == {name: getattr(config, name) for name in ("project_root", "ledger_db", "kill_switch")}


def test_a_note_that_cannot_be_written_stops_nobody(project: Project) -> None:
    places = project.places.make()
    (places.state / FILE).mkdir()
    note(load_config(project.config), places)
    assert noted(project.config) is None
    assert Path(places.state / FILE).is_dir()
