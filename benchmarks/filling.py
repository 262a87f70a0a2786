"""Ledgers with a past, made by SQLite itself: a million rows through Python take a quarter of an hour."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from producer.ledger.charts import first_id

DAYS = 864_000.0
# One row of `night` a task
NIGHT = """CREATE TEMP TABLE night AS
  WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < :size)
  SELECT n, stamp || printf('%016d', n) AS id, :start + n * :step AS at,
    CASE n % 4 WHEN 0 THEN 'code' WHEN 1 THEN 'design' WHEN 2 THEN 'qa' ELSE 'art' END AS role,
    CASE WHEN :finished THEN 'done' WHEN n % 50 = 7 THEN 'pending'
      WHEN n % 100 = 3 THEN 'failed' WHEN n % 1000 = 5 THEN 'escalated'
      ELSE 'done' END AS status FROM n JOIN stamps ON block = n / 100"""
TIME = "strftime('%Y-%m-%dT%H:%M:%fZ', at + {}, 'unixepoch')"
BEGUN, ENDED = TIME.format(2), TIME.format(30)
FILLS = (
    f"""INSERT INTO tasks (id, agent_owner, status, title, description, root_task_id, priority, created_at, started_at,
      finished_at, open_dependencies, attempts, cost_micros) SELECT id, role, status, 'Task ' || n || ' of the night',
      'What is to be done, and how one can tell that it is.', id, n % 6, {TIME.format(0)},
      iif(status = 'pending', NULL, {BEGUN}), iif(status = 'pending', NULL, {ENDED}),
      status = 'pending' AND n % 100 = 7,
      status != 'pending',
      1200 FROM night""",
    f"""INSERT INTO attempts (id, task_id, role, number, worker, state, outcome, model, claimed_at, started_at,
      finished_at, cost_micros) SELECT id, id, role, 1, 'w', iif(status = 'done', 'succeeded', 'failed'), status,
      'claude-sonnet-5-5', {BEGUN}, {BEGUN}, {ENDED}, 1200 FROM night WHERE status != 'pending'""",
    f"""INSERT INTO meter (request, attempt, task_id, role, date, at, model, source, exact, input_tokens, output_tokens,
      cost_micros) SELECT id, id, id, role, date(at, 'unixepoch'), {TIME.format(9)}, 'claude-sonnet-5-5', 'gateway', 1,
      900, 300, 1200 FROM night WHERE status != 'pending'""",
    f"""INSERT INTO audit (seq, body, chain) SELECT n + :first, CAST(json_object('action', 'task_inserted', 'actor',
      role, 'at', {TIME.format(0)}, 'detail', json_object('title', 'Task ' || n), 'task', id) AS BLOB), zeroblob(32)
      FROM night""",
)

BLOCKED = (
    """INSERT INTO tasks (id, agent_owner, status, title, description, root_task_id, created_at, requires_approval)
      VALUES ('gate', 'work', 'pending', 'gate', 'nobody approves it', 'gate', '2026-01-01T00:00:00.000Z', 1)""",
    """WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :size) INSERT INTO tasks (id,
      agent_owner, status, title, description, root_task_id, created_at, dependencies, open_dependencies) SELECT
      'blocked-' || n, 'work', 'pending', 'blocked', 'waits', 'blocked-' || n, '2026-01-01T00:00:00.000Z', '["gate"]',
      1 FROM n""",
    "INSERT INTO dependency (task, depends_on) SELECT id, 'gate' FROM tasks WHERE open_dependencies = 1",
)


def fill(ledger: Path, size: int, finished: bool = False) -> None:
    """``size`` tasks of the last ten days, with attempts, model requests and audit rows.

    Most are done, one in fifty waits, one in a hundred is blocked; or all are done where ``finished``.
    """
    start, step = time.time() - DAYS, DAYS / size
    connection = _quick(ledger)
    first = connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM audit").fetchone()[0]
    with connection:
        connection.execute("CREATE TEMP TABLE stamps (block INTEGER PRIMARY KEY, stamp TEXT)")
        blocks = ((block, first_id(start + block * 100 * step)[:10]) for block in range(size // 100 + 1))
        connection.executemany("INSERT INTO stamps VALUES (?, ?)", blocks)
        for statement in (NIGHT, *FILLS):
            given = {"size": size, "start": start, "step": step, "first": first, "finished": finished}
            connection.execute(statement, {name: value for name, value in given.items() if f":{name}" in statement})
    _safe(connection)


def block(ledger: Path, size: int) -> None:
    """``size`` tasks of the role `work` that wait for one which nobody approves."""
    connection = _quick(ledger)
    with connection:
        for statement in BLOCKED:
            connection.execute(statement, {"size": size} if ":size" in statement else None)
    _safe(connection)


def _quick(ledger: Path) -> apsw.Connection:
    connection = apsw.Connection(str(ledger))
    for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -600000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _safe(connection: apsw.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
