"""The file as others see it: the 0.3.x names, the pragmas that make a commit durable, the index behind a claim."""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files
from pathlib import Path

import apsw
import pytest
from ledger_rig import Desk

from producer.core.money import MicroUSD
from producer.errors import LedgerError
from producer.ledger.attempts import READY
from producer.ledger.model import Cost

OLD_COLUMNS = {
    "tasks": "id agent_owner status title description parent_task_id dependencies payload output_refs priority"
    " sprint_id created_at started_at finished_at retry_count escalation_reason cost_usd actual_cost_usd"
    " config_isolation",
    "decisions": "id task_id agent_owner kind decision_text rationale artifact made_at",
    "asset_registry": "id asset_type path prompt seed api model model_version retry_count critic_verdicts cost_usd"
    " wall_clock_seconds agent_id task_id sha256 timestamp disposition",
    "budget": "id agent_owner date spent_usd hard_cap_usd soft_cap_usd",
    "audit_log": "id agent_owner task_id action detail cost_usd timestamp prev_hash row_hash",
    "prompts": "hash system_prompt user_prompt tools_json first_seen",
}


@pytest.mark.parametrize("table", OLD_COLUMNS)
def test_the_columns_of_03_are_readable_by_the_standard_library(desk: Desk, tmp_path: Path, table: str) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db")
    columns = ", ".join(OLD_COLUMNS[table].split())
    connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    connection.close()


def test_figures_are_dollars_under_the_old_names(desk: Desk, tmp_path: Path) -> None:
    task = desk.add(payload={"a": 1})
    claim = desk.claim(task, 500_000)
    with desk.transaction():
        desk.attempts.book(Cost("r1", claim.attempt, "m", MicroUSD(1_250_001), "gateway"))
        desk.accounts.set_caps("code", MicroUSD(5_000_000), MicroUSD(4_000_000))
    connection = sqlite3.connect(tmp_path / "ledger.db")
    assert connection.execute("SELECT cost_usd, payload, dependencies FROM tasks").fetchall() == [
        (1.250001, '{"a":1}', "[]")
    ]
    assert connection.execute("SELECT spent_usd, hard_cap_usd, soft_cap_usd FROM budget").fetchall() == [
        (1.250001, 5.0, 4.0)
    ]
    rows = connection.execute(
        "SELECT action, cost_usd, prev_hash, row_hash, detail FROM audit_log ORDER BY id"
    ).fetchall()
    assert [row[:2] for row in rows] == [("schema_init", 0), ("task_inserted", 0), ("dispatch", 0), ("cost", 1.250001)]
    assert [row[2] for row in rows] == ["0" * 64, *(row[3] for row in rows[:-1])]
    assert connection.execute(
        "SELECT json_extract(detail, '$.request') FROM audit_log WHERE action = 'cost'"
    ).fetchone() == ("r1",)
    connection.close()


def test_nothing_in_the_schema_needs_a_sqlite_after_337() -> None:
    text = files("producer.ledger").joinpath("schema.sql").read_text()
    statements = re.sub(r"--.*", "", text)
    assert "->" not in statements


def test_a_commit_is_durable_the_writer_syncs_fully_and_logs_ahead(desk: Desk) -> None:
    assert desk.db.value("PRAGMA synchronous") == 2
    assert desk.db.value("PRAGMA journal_mode") == "wal"
    assert desk.db.value("PRAGMA fullfsync") == 1


class Watched(apsw.VFS):
    """The file system, noting every sync: of which file."""

    def __init__(self) -> None:
        self.synced: list[str] = []
        self.below = apsw.vfs_names()[0]
        super().__init__("watched", self.below, makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return WatchedFile(self, name, flags)


class WatchedFile(apsw.VFSFile):
    """A file of Watched."""

    def __init__(self, vfs: Watched, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._synced, self._name = vfs.synced, name if isinstance(name, str) or name is None else name.filename()
        super().__init__(vfs.below, name, flags)

    def xSync(self, flags: int) -> None:
        self._synced.append(Path(self._name or "").name)
        super().xSync(flags)


def test_every_commit_reaches_the_disk_before_it_is_reported(tmp_path: Path) -> None:
    vfs = Watched()
    try:
        desk = Desk(tmp_path)
        for number in range(5):
            vfs.synced.clear()
            desk.add(f"task {number}")
            assert "ledger.db-wal" in vfs.synced
        vfs.synced.clear()
        desk.column("x", "status")
        assert vfs.synced == []
        desk.close()
    finally:
        vfs.unregister()


def test_the_sqlite_in_use_has_no_wal_reset_bug() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)


def test_a_claim_reads_one_index_and_sorts_nothing(desk: Desk) -> None:
    plan = desk.db.rows(
        f"EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE agent_owner = ? AND {READY} ORDER BY priority, seq LIMIT 1",
        "code",
    )
    assert [row[3] for row in plan] == ["SEARCH tasks USING INDEX tasks_ready (agent_owner=?)"]


def test_blocked_tasks_do_not_slow_the_claim_of_a_ready_one(desk: Desk) -> None:
    first = desk.add("first", priority=5)
    for number in range(60):
        desk.add(f"blocked {number}", priority=0, dependencies=[first])
    with desk.transaction():
        assert [one.task for one in desk.attempts.ready("code", 9)] == [first]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO tasks (id, agent_owner, title, description, root_task_id, created_at, status)"
        " VALUES ('x', 'a', 't', 'd', 'x', 'now', 'sleeping')",
        "INSERT INTO tasks (id, agent_owner, title, description, root_task_id, created_at, priority)"
        " VALUES ('x', 'a', 't', 'd', 'x', 'now', 6)",
        "INSERT INTO budget (agent_owner, date, held_micros) VALUES ('a', '2026-01-01', -1)",
        "INSERT INTO budget (agent_owner, date, spent_micros) VALUES ('a', '2026-01-01', 'much')",
        "INSERT INTO attempts (id, task_id, role, number, worker, claimed_at, held_micros)"
        " VALUES ('a', 't', 'r', 1, 'w', 'now', -1)",
        "INSERT INTO attempts (id, task_id, role, number, worker, claimed_at, held_micros, state)"
        " VALUES ('a', 't', 'r', 1, 'w', 'now', 1, 'succeeded')",
        "INSERT INTO roles (role, state) VALUES ('a', 'asleep')",
    ],
)
def test_the_file_itself_refuses_what_has_no_meaning(desk: Desk, sql: str) -> None:
    with pytest.raises(LedgerError), desk.transaction():
        desk.db.run(sql)
