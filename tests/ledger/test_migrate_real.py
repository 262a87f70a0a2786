"""The real thing: ai-producer 0.3.5 from the index, in an environment of its own, and the project that it made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from old_ledger import OTHERS, beside, content, hash_of, rows

import producer
from producer.ids import is_id
from producer.ledger import LedgerClient, Reader
from producer.places import Places

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
VERSION = "0.3.5"
SCRIPT = Path(__file__).with_name("old_producer.py")
SOURCE = str(Path(producer.__file__).resolve().parents[1])
TABLES = ("tasks", *OTHERS)


@pytest.fixture(scope="session")
def bin_of_old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment with 0.3.5 in it; skipped where the index cannot be reached."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        pytest.skip("uv is not installed")
    place = tmp_path_factory.mktemp("old") / "venv"
    for words in (["venv", "--python", sys.executable, str(place)],
                  ["pip", "install", "--python", str(place / "bin/python"), f"ai-producer=={VERSION}"]):  # fmt: skip
        done = subprocess.run([uv, *words, "--quiet"], capture_output=True, text=True, timeout=540, check=False)
        if done.returncode:
            pytest.skip(f"ai-producer {VERSION} cannot be installed here: {done.stderr.strip()[-300:]}")
    return place / "bin"


@dataclass
class OldProject:
    """A project of 0.3.5 and both programs."""

    bin: Path
    root: Path
    env: dict[str, str]

    @property
    def ledger(self) -> Path:
        return self.root / "agent-state/ledger.db"

    def old(self, *words: str) -> str:
        """A command of 0.3.5."""
        return self._run([str(self.bin / "producer"), *words], {})

    def script(self, *words: str) -> str:
        return self._run([str(self.bin / "python"), str(SCRIPT), *words], {})

    def new(self, *words: str, code: int = 0) -> str:
        """A command of this version; its output, or its error."""
        return self._run([sys.executable, "-P", "-m", "producer", *words], {"PYTHONPATH": SOURCE}, code)

    def _run(self, command: list[str], more: dict[str, str], code: int = 0) -> str:
        done = subprocess.run(
            command, cwd=self.root, env={**self.env, **more}, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
        return done.stderr if code else done.stdout


@pytest.fixture(scope="session")
def made(bin_of_old: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `producer init` of 0.3.5 makes, and the same with everything in it that 0.3.5 can put there: to be copied."""
    room = tmp_path_factory.mktemp("made")
    home = {name: str(room / name) for name in ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")}
    env = {**home, "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "sk-ant-none"}
    empty, full = room / "empty" / "game", room / "full" / "game"
    empty.mkdir(parents=True)
    OldProject(bin_of_old, empty, env).old("init", "--dir", ".", "--non-interactive", "--no-chat")
    config = empty / "producer.yaml"
    lines = config.read_text().splitlines()
    quiet = [f'{line.split(":")[0]}: ""' if "ntfy_topic:" in line else line for line in lines]
    config.write_text("\n".join(quiet) + "\n")
    shutil.copytree(empty, full)
    project = OldProject(bin_of_old, full, env)
    project.script("fill", "producer.yaml")
    project.old("task", "add", "--agent", "code", "--title", "from the command line", "--description", "d",
                "--payload", '{"a": 1}', "--priority", "0")  # fmt: skip
    project.old("kill", "just so")
    project.old("resume")
    project.old("report")
    found = [path for path in room.rglob("*") if path.is_file() and str(room).encode() in path.read_bytes()]
    said = {path.suffix for path in found}  # prompts, and an audit row that says where tasks were read from
    assert said <= {".md", ".db"}, f"a copy is not what it was: {found}"
    return {"empty": empty, "full": full}


def copied(made: dict[str, Path], which: str, bin_of_old: Path, tmp_path: Path) -> OldProject:
    root = tmp_path / "game"
    shutil.copytree(made[which], root)
    for path in root.rglob("*.md"):  # the prompts name the place; nothing else does
        path.write_text(path.read_text().replace(str(made["empty"]), str(root)))
    names = ("HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "PATH")
    env = {name: os.environ[name] for name in names} | {"LANG": "C.UTF-8", "ANTHROPIC_API_KEY": "sk-ant-none"}
    return OldProject(bin_of_old, root, env)


@pytest.fixture
def empty(made: dict[str, Path], bin_of_old: Path, tmp_path: Path) -> OldProject:
    """A project as 0.3.5 begins it."""
    return copied(made, "empty", bin_of_old, tmp_path)


@pytest.fixture
def project(made: dict[str, Path], bin_of_old: Path, tmp_path: Path) -> OldProject:
    """One with everything in it."""
    return copied(made, "full", bin_of_old, tmp_path)


def columns(path: Path, table: str) -> list[str]:
    return [str(row[1]) for row in rows(path, f"PRAGMA table_info({table})")]


def test_the_project_holds_what_it_is_meant_to(project: OldProject) -> None:
    states = {state for (state,) in rows(project.ledger, "SELECT DISTINCT status FROM tasks")}
    assert states == {"pending", "in_progress", "done", "failed", "escalated", "killed"}
    actions = {action for (action,) in rows(project.ledger, "SELECT DISTINCT action FROM audit_log")}
    assert {"schema_init", "task_inserted", "dispatch", "cost", "task_completed", "task_failed"} <= actions
    assert all(rows(project.ledger, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES if table != "prompts")


def test_everything_is_taken_over_and_equal(project: OldProject) -> None:
    names = {table: columns(project.ledger, table) for table in TABLES}
    before = {table: rows(project.ledger, f"SELECT {', '.join(names[table])} FROM {table}") for table in TABLES}
    report = json.loads(project.new("migrate", "--json"))
    assert report["state"] == "migrated" and report["rows"] == {table: len(found) for table, found in before.items()}
    renamed = {row["before"]: row["after"] for row in report["renamed"]}
    assert list(renamed) == ["../../evil"] and is_id(renamed["../../evil"])
    assert report["restarted"] == ["LEFT-1"]
    assert set(report["escalated"]) == {"W", "THIS", "THAT"}
    differing = set()
    for table, found in before.items():
        key = {"audit_log": "row_hash", "prompts": "hash"}.get(table, "id")
        now = {
            row[names[table].index(key)]: row
            for row in rows(project.ledger, f"SELECT {', '.join(names[table])} FROM {table}")
        }
        for was in found:
            ident = was[names[table].index(key)]
            here = now[renamed.get(ident, ident) if table == "tasks" else ident]
            for name, left, right in zip(names[table], was, here, strict=True):
                if table != "audit_log" and name.endswith("_usd") and left is not None:
                    assert 0 <= right - left < 1.1e-6, (table, ident, name)
                elif left != right:
                    differing.add((table, ident, name))
    escalation = ("status", "finished_at", "escalation_reason")
    assert differing == {
        ("tasks", "LEFT-1", "status"), ("tasks", "../../evil", "id"), ("tasks", "../../evil", "priority"),
        ("decisions", next(row[0] for row in before["decisions"] if row[1] == "../../evil"), "task_id"),
        *(("tasks", ident, name) for ident in ("W", "THIS", "THAT") for name in escalation),
    }  # fmt: skip


def test_the_sums_of_the_budget_differ_by_rounding_alone(project: OldProject) -> None:
    asked = "SELECT agent_owner, date, spent_usd, hard_cap_usd, soft_cap_usd FROM budget ORDER BY 1, 2"
    before = rows(project.ledger, asked)
    money = json.loads(project.new("migrate", "--json"))["money"]
    for was, now in zip(before, rows(project.ledger, asked), strict=True):
        assert was[:2] == now[:2]
        for left, right in zip(was[2:], now[2:], strict=True):
            assert 0 <= right - left < 1.1e-6
    assert float(money["budget.spent_usd"]["difference"]) < 1e-6 * len(before)
    assert float(money["budget.spent_usd"]["before"]) == pytest.approx(sum(row[2] for row in before))


def test_the_old_log_verifies_by_its_own_rule_and_by_ours(project: OldProject) -> None:
    count = rows(project.ledger, "SELECT count(*) FROM audit_log")[0][0]
    project.new("migrate")
    previous = "0" * 64
    kept = rows(project.ledger, "SELECT agent_owner, task_id, action, detail, cost_usd, timestamp, prev_hash, row_hash"
                f" FROM audit_log ORDER BY id LIMIT {count}")  # fmt: skip
    for *told, prev, own in kept:
        assert prev == previous and hash_of(previous, *told) == own
        previous = own
    found = json.loads(project.new("audit", "verify", "--json"))
    assert found["ok"] and found["rows_0_3"] == count > 40
    assert f"and {count} of 0.3" in project.new("audit", "verify")


def test_the_project_works_on_with_its_old_configuration(project: OldProject) -> None:
    project.new("migrate")
    ready = project.new("task", "list", "--status", "pending")
    assert "LEFT-1  p3  [code]  left in progress" in ready and "from the command line" in ready
    task = project.new("task", "add", "--agent", "code", "--title", "new", "--description", "d").strip()
    assert json.loads(project.new("task", "show", task, "--json"))["title"] == "new"
    assert json.loads(project.new("audit", "verify", "--json"))["ok"]
    status = json.loads(project.new("status", "--json"))
    assert status["queue"]["escalated"] == 5, "two of 0.3's own, three that would have waited for ever"


def test_tasks_with_ids_of_035_run_and_release_those_that_wait(empty: OldProject) -> None:
    empty.script("few", str(empty.ledger))
    empty.new("migrate")
    empty.new("run", "--once", "--invoker", "echo")
    found = json.loads(empty.new("task", "list", "--status", "done", "--json"))
    assert {task["title"] for task in found} == {"first", "second", "third"}


def test_the_backup_goes_back_and_035_reads_it_as_before(project: OldProject) -> None:
    before, tables = json.loads(project.script("read", str(project.ledger))), content(project.ledger)
    backup = Path(json.loads(project.new("migrate", "--json"))["backup"])
    assert content(backup) == tables
    project.new("task", "add", "--agent", "code", "--title", "lost with the return", "--description", "d")
    project.new("audit", "head")
    for suffix in ("", "-wal", "-shm"):
        project.ledger.with_name(project.ledger.name + suffix).unlink(missing_ok=True)
    shutil.copy(backup, project.ledger)
    assert json.loads(project.script("read", str(project.ledger))) == before
    assert "from the command line" in project.old("task", "list")
    project.old("task", "add", "--agent", "code", "--title", "after the return", "--description", "d")
    assert json.loads(project.new("migrate", "--json"))["rows"]["tasks"] == len(before["tasks"]) + 1
    assert json.loads(project.new("audit", "verify", "--json"))["ok"]


def test_a_second_run_and_a_rehearsal_change_nothing(project: OldProject) -> None:
    before = content(project.ledger)
    assert "can be migrated; nothing was changed" in project.new("migrate", "--dry-run")
    assert content(project.ledger) == before
    project.new("migrate")
    after = content(project.ledger)
    assert "needs no migration" in project.new("migrate")
    assert content(project.ledger) == after and len([name for name in beside(project.ledger) if "0.3" in name]) == 1


def test_until_it_is_migrated_every_command_names_the_way(project: OldProject) -> None:
    for words in (["task", "list"], ["status"], ["run", "--once"], ["audit", "verify"]):
        assert "producerctl migrate" in project.new(*words, code=2)
    found = subprocess.run(
        [sys.executable, "-P", "-m", "producer", "doctor", "--json"], cwd=project.root, capture_output=True, text=True,
        env={**project.env, "PYTHONPATH": SOURCE}, check=False,
    )  # fmt: skip
    ledger = next(check for check in json.loads(found.stdout)["checks"] if check["name"] == "ledger")
    assert ledger["status"] == "fail" and "producerctl migrate" in ledger["mend"]


@pytest.fixture
def running(empty: OldProject) -> Iterator[subprocess.Popen[str]]:
    """`producer run` of 0.3.5, waiting for work."""
    command = [str(empty.bin / "producer"), "run"]
    child = subprocess.Popen(
        command, cwd=empty.root, env=empty.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not rows(empty.ledger, "SELECT 1 FROM audit_log WHERE action = 'producer_boot'"):
        assert child.poll() is None and time.monotonic() < deadline, "0.3.5 did not start"
        time.sleep(0.05)
    yield child
    child.kill()
    child.wait()


def test_while_a_producer_of_035_runs_nothing_is_taken_from_it(empty: OldProject, running: Any) -> None:
    for words in (["migrate"], ["migrate", "--dry-run"]):
        refused = empty.new(*words, code=1)
        assert "is open in another program" in refused
        if Path("/proc/locks").exists():
            assert f"pid {running.pid}" in refused
    empty.old("task", "add", "--agent", "code", "--title", "meanwhile", "--description", "d")
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert json.loads(empty.new("migrate", "--json"))["rows"]["tasks"] == 1


def test_an_idle_client_of_035_is_noticed_too(project: OldProject) -> None:
    command = [str(project.bin / "python"), str(SCRIPT), "hold", str(project.ledger)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=project.env) as idle:
        assert idle.stdout and idle.stdout.readline() == "ready\n"
        assert "is open in another program" in project.new("migrate", code=1)
        idle.communicate("")
    assert "is migrated" in project.new("migrate")


def test_035_refuses_the_new_ledger_and_harms_nothing(project: OldProject) -> None:
    project.new("migrate")
    before = {table: rows(project.ledger, f"SELECT * FROM {table}") for table in TABLES}
    for words in (["task", "list"], ["task", "add", "--agent", "code", "--title", "t", "--description", "d"]):
        done = subprocess.run([str(project.bin / "producer"), *words], cwd=project.root, env=project.env,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode != 0
    assert {table: rows(project.ledger, f"SELECT * FROM {table}") for table in TABLES} == before
    assert json.loads(project.new("audit", "verify", "--json"))["ok"]


def test_an_unused_ledger_is_taken_over_as_well(empty: OldProject) -> None:
    assert json.loads(empty.new("migrate", "--json"))["rows"]["audit_log"] == 1
    with LedgerClient(empty.ledger) as client, Reader(empty.ledger) as reader:
        client.insert_task(agent_owner="code", title="t", description="d")
        assert reader.counts()["pending"] == 1
    assert Places.of(empty.ledger).state.joinpath("audit.head").exists()
    assert sqlite3.connect(empty.ledger).execute("SELECT action FROM audit_log WHERE id = 1").fetchone() == (
        "schema_init",
    )
