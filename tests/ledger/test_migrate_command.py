"""`producerctl migrate` as a person meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from old_ledger import OldLedger, beside, content, full

import producer

SOURCE = str(Path(producer.__file__).resolve().parents[1])
CONFIG = """\
project_name: game
ledger_db: ledger.db
budget:
  project_ceiling_usd: 10
  agents:
    code: {daily_cap_usd: 5, allowed_tools: [Read]}
"""


class Command:
    """A project in a directory, and the program run in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.ledger = root, root / "ledger.db"
        (root / "producer.yaml").write_text(CONFIG)

    def __call__(self, *words: str, code: int = 0) -> str:
        """What it prints: the result, or the one line with which it refuses."""
        env = {**os.environ, "PYTHONPATH": SOURCE, "LANG": "C.UTF-8"}
        command = [sys.executable, "-P", "-m", "producer", *words]
        done = subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done
        assert not code or (done.stderr.startswith("error: ") and done.stderr.count("\n") == 1)
        return done.stderr if code else done.stdout


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_it_says_what_it_did_and_a_second_time_that_it_is_done(command: Command) -> None:
    full(command.ledger).close()
    said = command("migrate")
    for expected in (
        "tasks              7",
        "running was in progress and is pending",
        "audit log of 0.3: 7 rows, whole",
        "0.0000036",
        "is migrated; the old one is",
    ):
        assert expected in said
    again = command("migrate")
    assert "needs no migration" in again and ".bak" in again


def test_a_dry_run_says_the_same_and_changes_nothing(command: Command) -> None:
    full(command.ledger).close()
    before, files = content(command.ledger), beside(command.ledger)
    said = command("migrate", "--dry-run")
    assert "running was in progress" in said and said.endswith("can be migrated; nothing was changed\n")
    assert content(command.ledger) == before and beside(command.ledger) == files


def test_as_json_it_names_everything_that_changed(command: Command) -> None:
    old = OldLedger(command.ledger)
    old.task("../../evil", priority=9)
    old.task("waits", ["gone"])
    old.close()
    found = json.loads(command("migrate", "--json"))
    assert set(found) == {
        "state", "ledger", "backup", "rows", "money", "audit", "restarted", "escalated", "renamed", "changed",
    }  # fmt: skip
    assert found["escalated"] == {"waits": "depends on gone, which does not exist"}
    assert found["renamed"][0]["before"] == "../../evil"
    assert found["changed"][0] | {"id": ""} == {
        "table": "tasks", "id": "", "column": "priority", "problem": "9 is not a whole number from 0 to 5: 5 now",
    }  # fmt: skip
    assert json.loads(command("migrate", "--json")) == {
        "state": "already", "ledger": str(command.ledger), "backup": found["backup"],
    }  # fmt: skip


def test_what_it_refuses_is_one_line_with_an_exit_code(command: Command) -> None:
    assert "nothing to migrate" in command("migrate", code=2)
    command.ledger.write_text("no database at all" * 100)
    assert "it was not touched" in command("migrate", code=2)


def test_other_commands_name_it_and_work_afterwards(command: Command) -> None:
    full(command.ledger).close()
    for words in (["task", "list"], ["status"], ["budget"]):
        assert "run `producerctl migrate` first" in command(*words, code=2)
    command("migrate")
    assert "running" in command("task", "list")
    assert "and 7 of 0.3" in command("audit", "verify")
