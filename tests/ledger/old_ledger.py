"""A ledger as ai-producer 0.3 leaves it, made with SQL alone: its tables, its WAL, its chain of hashes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ledger_rig import Clock

from producer.ledger import Reader, export
from producer.ledger.migrate import Options, Report, migrate
from producer.places import Places

TASKS = {
    "id": "TEXT PRIMARY KEY", "agent_owner": "TEXT NOT NULL",
    "status": "TEXT NOT NULL CHECK (status IN ('pending','in_progress','done','failed','escalated','killed'))",
    "title": "TEXT NOT NULL", "description": "TEXT NOT NULL",
    "parent_task_id": "TEXT REFERENCES tasks(id) ON DELETE SET NULL", "dependencies": "TEXT DEFAULT '[]'",
    "payload": "TEXT DEFAULT '{}'", "output_refs": "TEXT DEFAULT '[]'", "priority": "INTEGER NOT NULL DEFAULT 3",
    "sprint_id": "TEXT", "created_at": "TEXT NOT NULL", "started_at": "TEXT", "finished_at": "TEXT",
    "retry_count": "INTEGER NOT NULL DEFAULT 0", "escalation_reason": "TEXT", "cost_usd": "REAL NOT NULL DEFAULT 0",
}  # fmt: skip
ADDED_LATER = {"actual_cost_usd": "REAL", "config_isolation": "TEXT"}
OTHERS = {
    "decisions": "id TEXT PRIMARY KEY, task_id TEXT REFERENCES tasks(id), agent_owner TEXT NOT NULL,"
    " kind TEXT NOT NULL, decision_text TEXT NOT NULL, rationale TEXT NOT NULL, artifact TEXT, made_at TEXT NOT NULL",
    "asset_registry": "id TEXT PRIMARY KEY, asset_type TEXT NOT NULL, path TEXT NOT NULL UNIQUE, prompt TEXT,"
    " seed TEXT, api TEXT, model TEXT, model_version TEXT, retry_count INTEGER NOT NULL DEFAULT 0,"
    " critic_verdicts TEXT DEFAULT '[]', cost_usd REAL NOT NULL DEFAULT 0, wall_clock_seconds REAL NOT NULL DEFAULT 0,"
    " agent_id TEXT NOT NULL, task_id TEXT REFERENCES tasks(id), sha256 TEXT, timestamp TEXT NOT NULL,"
    " disposition TEXT NOT NULL DEFAULT 'shipped'",
    "budget": "id INTEGER PRIMARY KEY AUTOINCREMENT, agent_owner TEXT NOT NULL, date TEXT NOT NULL,"
    " spent_usd REAL NOT NULL, hard_cap_usd REAL NOT NULL, soft_cap_usd REAL NOT NULL, UNIQUE (agent_owner, date)",
    "audit_log": "id INTEGER PRIMARY KEY AUTOINCREMENT, agent_owner TEXT NOT NULL, task_id TEXT, action TEXT NOT NULL,"
    " detail TEXT NOT NULL, cost_usd REAL NOT NULL DEFAULT 0, timestamp TEXT NOT NULL, prev_hash TEXT NOT NULL,"
    " row_hash TEXT NOT NULL UNIQUE",
    "prompts": "hash TEXT PRIMARY KEY, system_prompt TEXT, user_prompt TEXT, tools_json TEXT, first_seen TEXT NOT NULL",
}  # fmt: skip
MOMENT = "2026-05-06T07:08:09Z"


def hash_of(previous: str, agent: str, task: str | None, action: str, detail: str, cost: float, at: str) -> str:
    """The rule by which 0.3 chains its audit rows."""
    return hashlib.sha256(
        "|".join([previous, agent, task or "", action, detail, f"{cost:.6f}", at]).encode()
    ).hexdigest()


class OldLedger:
    """Rows are committed as they come; ``close`` folds the log into the file as 0.3 does."""

    def __init__(self, path: Path, *, later: bool = True, without: tuple[str, ...] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        columns = {**TASKS, **(ADDED_LATER if later else {})}
        self.db.execute(f"CREATE TABLE tasks ({', '.join(' '.join(pair) for pair in columns.items())})")
        for name, text in OTHERS.items():
            if name not in without:
                self.db.execute(f"CREATE TABLE {name} ({text})")
        self._numbers = count(1)
        self._previous = "0" * 64

    def add(self, table: str, **values: Any) -> None:
        names = ", ".join(values)
        self.db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})", list(values.values()))

    def task(self, ident: str | None = "", needs: Any = (), **more: Any) -> str:
        ident = f"01HYKT{next(self._numbers):020d}" if ident == "" else ident
        row = {
            "agent_owner": "code", "status": "pending", "title": f"title of {ident}", "description": "what to do\n",
            "created_at": MOMENT, "dependencies": needs if isinstance(needs, str) else json.dumps(list(needs)),
        }  # fmt: skip
        self.add("tasks", id=ident, **{**row, **more})
        return str(ident)

    def audit(self, action: str = "cost", task: str | None = None, cost: float = 0.0, **detail: Any) -> None:
        text = json.dumps(detail, sort_keys=True, ensure_ascii=False)
        own = hash_of(self._previous, "code", task, action, text, cost, MOMENT)
        self.add(
            "audit_log", agent_owner="code", task_id=task, action=action, detail=text, cost_usd=cost, timestamp=MOMENT,
            prev_hash=self._previous, row_hash=own,
        )  # fmt: skip
        self._previous = own

    def close(self) -> Path:
        self.db.close()
        return self.path


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a ledger of either generation, by table, as the standard library reads it; nothing is written."""
    connection = sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = {name: connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in sorted(tables)
             if "WITHOUT ROWID" not in _sql(connection, name)}  # fmt: skip
    connection.close()
    return found


def _sql(connection: sqlite3.Connection, table: str) -> str:
    return str(connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0])


def full(path: Path) -> OldLedger:
    """Tasks in all states, records, money with digits beyond the micro-dollar, a log. Not closed."""
    old = OldLedger(path)
    old.audit("schema_init", schema_version=1)
    done = old.task(
        status="done", cost_usd=0.1 + 0.2, actual_cost_usd=0.25, config_isolation="isolated", output_refs='["a.py"]',
        started_at=MOMENT, finished_at=MOMENT, payload='{"ключ": [1, 2.5, null]}', sprint_id="s1", priority=0,
    )  # fmt: skip
    child = old.task("child", needs=[done], parent_task_id=done, description="длинный 'text' with \"quotes\" | pipes")
    old.task("leaf", needs=[done, "child"], parent_task_id=child, agent_owner="qa")
    running = old.task(
        "running", status="in_progress", started_at=MOMENT, retry_count=1, escalation_reason="first error"
    )
    for status in ("failed", "escalated", "killed"):
        old.task(status, status=status, escalation_reason=f"why {status}", finished_at=MOMENT, retry_count=3)
    for number, task in enumerate((done, child, running, None)):
        old.audit("task_inserted", task, title=f"t{number}", caused_by_task_id=done if number == 1 else None)
    old.audit("cost", done, 0.1234567, api="claude", delta_usd=0.1234567)
    old.audit("note", None, text='пайп | и "кавычки"\n')
    old.add("decisions", id="01HYKD1", task_id=done, agent_owner="code", kind="k", decision_text="t", rationale="r",
            artifact="a", made_at=MOMENT)  # fmt: skip
    old.add(
        "asset_registry", id="01HYKA1", asset_type="art", path="a.png", prompt="p", seed="42", api="i", model="m",
        model_version="1", retry_count=1, critic_verdicts='[{"ok": true}]', cost_usd=0.0000001, wall_clock_seconds=1.5,
        agent_id="code", task_id=done, sha256="00ff", timestamp=MOMENT,
    )  # fmt: skip
    for day in ("2026-05-05", "2026-05-06"):
        for role in ("code", "qa"):
            old.add("budget", agent_owner=role, date=day, spent_usd=1.0000001, hard_cap_usd=20.0, soft_cap_usd=16.0)
    old.add("prompts", hash="h1", system_prompt="s", user_prompt="u", tools_json="[]", first_seen=MOMENT)
    return old


# ---- what the tests of the migration ask


def take(old: OldLedger, **options: Any) -> Report:
    return migrate(old.close(), Options(**options), clock=Clock())


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def status(path: Path) -> dict[str, str]:
    return dict(rows(path, "SELECT id, status FROM tasks"))


def beside(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir() if entry.name != f"{path.name}.lock")


@contextmanager
def untouched(path: Path) -> Iterator[None]:
    """What happens inside leaves the file byte for byte as it was, and nothing beside it."""
    before, files = path.read_bytes(), beside(path)
    yield
    assert path.read_bytes() == before
    assert beside(path) == files


def verdict(path: Path) -> Any:
    with Reader(path) as reader:
        return export.check(reader, export.read_heads(Places.of(path).state / "audit.head"))
