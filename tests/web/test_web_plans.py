"""Every query that the dashboard makes is answered by an index: the pages' own requests are listened to."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest
from driving import Project
from web_rig import Web

from producer.ledger.database import Database
from producer.web import api, pages

BIG = ("tasks", "audit", "attempts", "meter", "audit_0_3", "decisions", "dependency", "t", "a", "needed")
ADDRESSES = [
    *(route.path.format(ident="replace") for route in api.ROUTES if route.method == "GET"),
    *(path.format(ident="replace") for path, _ in pages.ROUTES),
    "/tasks?status=pending", "/tasks?status=blocked", "/tasks?role=code", "/tasks?status=done&role=code",
    "/tasks?text=parser", "/tasks?text=parser00&role=qa&status=done", "/tasks?before=4", "/tasks?status=done&before=4",
    "/audit?action=cost", "/audit?task=parser", "/audit?text=parser", "/audit?text=x&action=cost&task=parser",
    "/audit?before=5", "/audit?action=cost&task=parser&before=5", "/api/tasks/follows", "/tasks/follows", "/tasks/under",
]  # fmt: skip


class Ears:
    """Remembers every statement that goes through a Database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.heard: dict[str, tuple[object, ...]] = {}
        for name in ("one", "rows", "dicts"):
            self._listen(monkeypatch, name)

    def _listen(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        original = getattr(Database, name)

        def heard(database: Database, sql: str, *values: object) -> object:
            self.heard[sql] = values
            return original(database, sql, *values)

        monkeypatch.setattr(Database, name, heard)


def plan(ledger: Path, sql: str, values: tuple[object, ...]) -> list[str]:
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    finally:
        connection.close()


def scans(steps: list[str]) -> list[str]:
    """The steps that read a big table from end to end, or sort it."""
    found = [step for step in steps if re.match(rf"SCAN ({'|'.join(BIG)})\b", step)]
    return [step for step in found if not step.endswith("INDEX attempts_running")]  # what runs, whatever is finished


def test_a_scan_would_be_seen(filled: Project) -> None:
    ledger = filled.state / "ledger.db"
    assert scans(plan(ledger, "SELECT * FROM tasks WHERE title = ?", ("x",)))
    assert scans(plan(ledger, "SELECT * FROM audit ORDER BY body LIMIT 5", ()))
    assert scans(plan(ledger, "SELECT status, count(*) FROM tasks GROUP BY status", ()))


def test_no_page_scans_a_table_that_grows(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    ears = Ears(monkeypatch)
    for address in ADDRESSES:
        found = web.get(address)
        assert found.status_code in (200, 303), f"{address}: {found.text}"
    monkeypatch.undo()
    assert len(ears.heard) > 30
    bad = []
    for sql, values in ears.heard.items():
        assert "OFFSET" not in sql.upper(), sql
        steps = plan(web.project.state / "ledger.db", sql, values)
        if scans(steps):
            bad.append((sql, steps))
        ordered = [step for step in steps if "TEMP B-TREE" in step and "ORDER BY" in step]
        if ordered and not re.search(r"FROM (roles|budget|outbox)\b", sql):
            bad.append((sql, steps))
    # what walks the whole of an index in its order, and stops at LIMIT, is no scan of the table
    bad = [(sql, steps) for sql, steps in bad if not _stops_at_once(sql, steps)]
    assert not bad, "\n".join(f"{sql}\n   {steps}" for sql, steps in bad)


def _stops_at_once(sql: str, steps: list[str]) -> bool:
    newest = re.fullmatch(r"SELECT (seq, chain|max\(seq\)) FROM (audit|tasks)( ORDER BY seq DESC LIMIT 1)?", sql)
    return bool(newest) and len(steps) == 1
