"""Taking a 0.3 ledger over: nothing lost, nothing changed without a word, and nothing at all where it fails."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ledger_rig import process
from old_ledger import OTHERS, OldLedger, beside, content, full, rows, status, take, untouched

import producer
from producer.errors import LedgerBusy, LedgerError, LedgerUnusable, SupervisorRunning
from producer.ledger import LedgerClient, Reader
from producer.ledger.lock import Holder, Lock
from producer.ledger.migrate import Options, migrate
from producer.places import Places

HERE = Path(__file__).parent
SOURCE = str(Path(producer.__file__).resolve().parents[1])


# ---- everything arrives


def test_every_row_arrives_and_reads_the_same_under_the_old_names(path: Path) -> None:
    old = full(path)
    names = {
        table: [column[1] for column in old.db.execute(f"PRAGMA table_info({table})")] for table in ("tasks", *OTHERS)
    }
    before = {table: old.db.execute(f"SELECT * FROM {table}").fetchall() for table in names}
    report = take(old)
    changed = {"running": ("status", "pending")}
    money = {name for table in names.values() for name in table if name.endswith("_usd")} - {"actual_cost_usd"}
    for table, columns in names.items():
        mine = rows(path, f"SELECT {', '.join(columns)} FROM {table}" + (" LIMIT 7" if table == "audit_log" else ""))
        assert len(mine) == len(before[table]), table
        for was, now in zip(sorted(before[table], key=str), sorted(mine, key=str), strict=True):
            for name, left, right in zip(columns, was, now, strict=True):
                if name in money and table != "audit_log":
                    assert 0 <= right - left < 1e-6, (table, name)
                elif (name, right) != changed.get(was[0]):
                    assert right == left and type(right) is type(left), (table, was[0], name)
    counts = {table: len(found) for table, found in before.items()}
    assert report.found.rows == counts
    assert counts == {"tasks": 7, "decisions": 1, "asset_registry": 1, "budget": 4, "audit_log": 7, "prompts": 1}


def test_a_task_in_progress_is_pending_again_and_can_be_claimed(path: Path) -> None:
    report = take(full(path))
    assert report.done and report.done.notes.restarted == ["running"]
    with LedgerClient(path) as client:
        assert "running" in [task.id for task in client.list_ready_tasks()]
        assert client.claim_task("running", "code").retry_count == 1


def test_lineage_and_causes_are_known(path: Path) -> None:
    take(full(path))
    found = rows(
        path, "SELECT id, depth, root_task_id FROM tasks WHERE id IN ('child', 'leaf', 'killed') ORDER BY depth"
    )
    root = rows(path, "SELECT id FROM tasks WHERE status = 'done'")[0][0]
    assert found == [("killed", 0, "killed"), ("child", 1, root), ("leaf", 2, root)]
    assert rows(path, "SELECT id, caused_by_task_id FROM tasks WHERE caused_by_task_id IS NOT NULL") == [
        ("child", root)
    ]


def test_age_keeps_its_order_and_the_reader_sees_it_all(old: OldLedger) -> None:
    old.task("late", created_at="2026-05-07T00:00:00Z")
    old.task("early", created_at="2026-05-05T00:00:00Z")
    old.task("early-too", created_at="2026-05-05T00:00:00Z")
    take(old)
    with Reader(old.path) as reader:
        assert [task["id"] for task in reader.list()] == ["early", "early-too", "late"]


def test_what_lies_in_the_log_of_a_producer_that_was_killed_is_migrated_too(path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from old_ledger import full;"
        " full(Path(sys.argv[2])); os.kill(os.getpid(), 9)"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(HERE), str(path)], check=False, env={**os.environ, "PYTHONPATH": SOURCE}
    )
    assert path.with_name("ledger.db-wal").stat().st_size > path.stat().st_size, "the log was to hold the rows"
    assert migrate(path).found.rows["tasks"] == 7
    assert len(status(path)) == 7


def test_ledgers_from_before_the_later_columns_and_tables_are_taken_over(path: Path) -> None:
    old = OldLedger(path, later=False, without=("prompts", "asset_registry"))
    old.task("a", status="done", cost_usd=1.0)
    report = take(old)
    assert report.found.rows["tasks"] == 1 and report.found.rows["prompts"] == 0
    assert rows(path, "SELECT cost_usd, actual_cost_usd, config_isolation FROM tasks") == [(1.0, None, None)]


def test_the_new_file_keeps_its_mode_and_a_link_to_it_stays_a_link(path: Path, tmp_path: Path) -> None:
    full(path).close()
    path.chmod(0o640)
    link = tmp_path / "linked.db"
    link.symlink_to(path)
    migrate(link)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert len(status(link)) == 7


# ---- money


def test_dollars_are_rounded_up_to_micro_dollars_and_the_difference_is_reported(path: Path) -> None:
    shown = take(full(path)).as_json()["money"]
    assert rows(path, "SELECT cost_micros, actual_micros FROM tasks WHERE status = 'done'") == [(300_001, 250_000)]
    assert shown["budget.spent_usd"] == {"before": "4.0000004", "after": "4.000004", "difference": "0.0000036"}
    assert shown["asset_registry.cost_usd"]["difference"] == "0.0000009"
    assert shown["tasks.actual_cost_usd"] == {"before": "0.25", "after": "0.25", "difference": "0.00"}


@pytest.mark.parametrize("figure", [-1.0, float("inf"), 1e300, "much"])
def test_what_is_no_amount_of_money_becomes_nothing_and_is_said(old: OldLedger, figure: Any) -> None:
    old.task("a", cost_usd=figure)
    old.add("budget", agent_owner="code", date="2026-05-06", spent_usd=1.0, hard_cap_usd=figure, soft_cap_usd=0.5)
    report = take(old)
    assert report.done
    assert [(note.table, note.column) for note in report.done.notes.changed] == [
        ("tasks", "cost_usd"), ("budget", "hard_cap_usd"),
    ]  # fmt: skip
    assert rows(old.path, "SELECT cost_micros FROM tasks") == [(0,)]
    assert rows(old.path, "SELECT spent_micros, hard_cap_micros FROM budget") == [(1_000_000, 0)]


# ---- dependencies


def test_dependencies_become_edges_with_counts(path: Path) -> None:
    take(full(path))
    assert rows(path, "SELECT id, open_dependencies FROM tasks WHERE dependencies != '[]' ORDER BY id") == [
        ("child", 0), ("leaf", 1),
    ]  # fmt: skip
    assert len(rows(path, "SELECT * FROM dependency")) == 3
    with LedgerClient(path) as client:
        assert {task.id for task in client.list_ready_tasks()} == {"child", "running"}
        client.claim_task("child", "code")
        client.complete_task("child")
        assert "leaf" in {task.id for task in client.list_ready_tasks()}


@pytest.mark.parametrize(
    ("needs", "escalated"),
    [
        ({"a": ["gone"]}, {"a"}),
        ({"a": ["gone"], "b": ["a"]}, {"a"}),
        ({"a": ["a"]}, {"a"}),
        ({"a": ["b"], "b": ["a"], "c": ["a"]}, {"a", "b"}),
        ({"a": ["b"], "b": ["c"], "c": ["a", "d"], "d": ["c"]}, {"a", "b", "c", "d"}),
        ({"a": [7, None]}, {"a"}),
    ],
)
def test_a_task_that_would_wait_for_ever_is_escalated_with_the_reason(
    old: OldLedger, needs: dict[str, list[Any]], escalated: set[str]
) -> None:
    for ident, items in needs.items():
        old.task(ident, items)
    report = take(old)
    assert report.done and set(report.done.notes.escalated) == escalated
    assert {ident for ident, state in status(old.path).items() if state == "escalated"} == escalated
    for ident, reason, text in rows(old.path, "SELECT id, escalation_reason, dependencies FROM tasks"):
        assert json.loads(text) == [str(item) for item in needs[ident]], "the text keeps them"
        assert (reason is None) == (ident not in escalated)
    files = rows(old.path, "SELECT body FROM outbox WHERE kind = 'escalation'")
    assert {json.loads(body)["task"] for (body,) in files} == escalated, "a file for the human"
    assert len(rows(old.path, "SELECT * FROM audit_log WHERE action = 'escalation'")) == len(escalated)


def test_a_cycle_through_a_task_that_is_done_holds_nobody_up(old: OldLedger) -> None:
    old.task("a", ["b"], status="done")
    old.task("b", ["c"])
    old.task("c", ["a"])
    report = take(old)
    assert report.done and not report.done.notes.escalated
    assert rows(old.path, "SELECT id, open_dependencies FROM tasks ORDER BY id") == [("a", 0), ("b", 1), ("c", 0)]


def test_a_task_that_is_over_keeps_its_state_whatever_it_depended_on(old: OldLedger) -> None:
    for state in ("done", "failed", "escalated", "killed"):
        old.task(state, ["gone"], status=state)
    before = content(old.close())["tasks"]
    report = migrate(old.path)
    assert status(old.path) == {state: state for state in ("done", "failed", "escalated", "killed")}
    assert report.done and len(report.done.notes.changed) == 4 and not report.done.notes.escalated
    assert [row[0] for row in before] == [note.id for note in report.done.notes.changed]


def test_a_task_that_waits_for_a_killed_one_is_shown_as_blocked_by_it(old: OldLedger) -> None:
    old.task("dead", status="killed")
    old.task("waits", ["dead"])
    take(old)
    with Reader(old.path) as reader:
        assert [blocker["id"] for blocker in reader.blocked_by("waits")] == ["dead"]


def test_a_circle_of_parents_ends_somewhere(old: OldLedger) -> None:
    old.db.execute("PRAGMA foreign_keys = OFF")
    old.task("a", parent_task_id="b")
    old.task("b", parent_task_id="a")
    old.task("c", parent_task_id="gone")
    take(old)
    found = {ident: (root, depth) for ident, root, depth in rows(old.path, "SELECT id, root_task_id, depth FROM tasks")}
    assert found == {"b": ("b", 0), "a": ("b", 1), "c": ("c", 0)}


# ---- the backup, and a second run


def test_the_backup_is_private_complete_and_beside_the_ledger(path: Path) -> None:
    old = full(path)
    before = {table: old.db.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in ("tasks", *OTHERS)}
    report = take(old)
    assert report.backup == path.with_name("ledger.db.0.3-20260921T141320Z.bak")
    assert stat.S_IMODE(report.backup.stat().st_mode) == 0o600
    assert {table: found for table, found in content(report.backup).items() if table in before} == before
    assert beside(path) == ["ledger.db", report.backup.name]


def test_a_second_run_says_that_it_is_done_and_changes_nothing(path: Path) -> None:
    first = take(full(path))
    before = path.read_bytes()
    again = migrate(path)
    assert path.read_bytes() == before
    assert (again.state, again.backup, again.done) == ("already", first.backup, None)


def test_a_ledger_made_by_this_version_needs_no_migration(path: Path) -> None:
    LedgerClient(path).close()
    before = path.read_bytes()
    assert migrate(path).state == "already"
    assert path.read_bytes() == before


def test_a_ledger_that_a_supervisor_serves_needs_none_either(path: Path) -> None:
    LedgerClient(path).close()
    with process("hold", path, "supervisor"):
        assert migrate(path).state == "already"


def test_a_rehearsal_does_it_all_and_leaves_nothing(path: Path) -> None:
    old = full(path)
    old.close()
    with untouched(path):
        report = migrate(path, Options(rehearse=True))
    assert report.state == "rehearsed" and report.found.rows["tasks"] == 7 and report.backup
    assert not report.backup.exists()
    assert migrate(path).as_json()["rows"] == report.as_json()["rows"]


# ---- refusals


def test_a_ledger_that_another_program_has_open_is_refused_with_its_pid(path: Path) -> None:
    full(path).close()
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA journal_mode = WAL').fetchone();"
        " c.execute('SELECT count(*) FROM tasks').fetchone(); print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as idle:
        assert idle.stdout and idle.stdout.readline() == "ready\n"
        before = path.read_bytes()
        for options in (Options(), Options(rehearse=True)):
            with pytest.raises(LedgerBusy, match="is open in another program") as refused:
                migrate(path, options)
            if Path("/proc/locks").exists():
                assert f"pid {idle.pid}" in str(refused.value)
        assert path.read_bytes() == before
        idle.communicate("")
    assert migrate(path).state == "migrated"


@pytest.mark.parametrize(("kind", "error"), [("supervisor", SupervisorRunning), ("client", LedgerBusy)])
def test_a_ledger_whose_lock_is_held_is_refused(path: Path, kind: str, error: type[Exception]) -> None:
    full(path).close()
    with process("hold", path, kind), untouched(path), pytest.raises(error):
        migrate(path)


def test_the_lock_is_given_back_whatever_happened(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full(path).close()
    with monkeypatch.context() as patch:
        patch.setattr("producer.ledger.migrate.transfer", _fail)
        with pytest.raises(LedgerUnusable):
            migrate(path)
    lock = Lock(Places.of(path).lock)
    assert lock.acquire(Holder("client", os.getpid(), 0.0, "test"))
    lock.release()
    assert migrate(path).state == "migrated"


def _fail(*_: Any) -> Any:
    raise LedgerError("no")


@pytest.mark.parametrize("kind", ["text", "foreign", "damaged", "typed", "not UTF-8"])
def test_what_is_damaged_or_no_ledger_is_refused_untouched(path: Path, kind: str) -> None:
    old = full(path)
    if kind == "typed":
        old.db.execute("UPDATE tasks SET title = x'00ff' WHERE id = 'leaf'")
    if kind == "not UTF-8":
        old.db.execute("UPDATE tasks SET title = CAST(x'41ff' AS TEXT) WHERE id = 'leaf'")
    if kind == "foreign":
        old.db.execute("DROP TABLE tasks")
    if kind == "damaged":
        old.db.execute("CREATE INDEX wrong ON tasks (title)")
        old.db.execute("PRAGMA writable_schema = ON")
        old.db.execute("UPDATE sqlite_master SET sql = 'CREATE INDEX wrong ON tasks (status)' WHERE name = 'wrong'")
    old.close()
    if kind == "text":
        path.write_text("these are not the pages of a database" * 100)
    with untouched(path), pytest.raises(LedgerUnusable) as refused:
        migrate(path)
    assert refused.value.exit_code == 2 and str(path.name) in str(refused.value)


def test_pages_that_were_overwritten_are_noticed(path: Path) -> None:
    full(path).close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = os.urandom(4096)
    path.write_bytes(data)
    with untouched(path), pytest.raises(LedgerUnusable):
        migrate(path)


def test_where_there_is_no_ledger_there_is_nothing_to_migrate_and_none_is_made(path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="nothing to migrate"):
        migrate(path)
    path.parent.mkdir()
    path.touch()
    with untouched(path), pytest.raises(LedgerUnusable, match="nothing to migrate"):
        migrate(path)
