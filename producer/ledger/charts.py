"""Reading the ledger for charts: the last hours of attempts, finished tasks and model requests.

Ids are ULIDs, so that "since then" is a range of the primary key. Every list ends at a bound; where it was reached,
``since`` of the answer is later than what was asked for, and the page says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from producer.ids import first_id, from_iso, iso
from producer.ledger.views import Reader

MOST_REQUESTS = 10_000
MOST_TASKS = 2_000
STANDING_SECONDS = 3660.0  # an id may be that much older than its claim: its process stood by
MOST_ATTEMPTS = 600
MOST_MARKS = 60
HOLDS_SINCE_SCHEMA = 4
MARKS = {
    "kill_switch_armed": "kill", "kill_switch_armed_by_producer": "kill", "kill_switch_observed": "kill",
    "stopped_now": "kill", "kill_switch_disarmed": "resume", "kill_switch_released": "resume",
    "worker_exited": "crash", "gateway_exited": "crash", "role_failed": "crash", "role_throttled": "throttle",
    "role_capped": "cap", "budget_cap": "cap", "producer_boot": "boot", "producer_boot_once": "boot",
    "producer_shutdown": "shutdown",
}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """Rows of the last hours, oldest first, and the moment (seconds since the epoch) since which they are complete."""

    rows: list[dict[str, Any]]
    since: float


def requests(reader: Reader, since: float) -> Slice:
    """Model requests, summed by hour, role and model: hour (YYYY-MM-DDTHH), role, model, requests, cost, tokens_in,
    tokens_out, bounds (how many of the costs are upper bounds)."""
    rows = reader.db.dicts(
        "SELECT substr(at, 1, 13) AS hour, role, model, count(*) AS requests, sum(cost_micros) AS cost,"
        " sum(input_tokens + cache_read_tokens + cache_write_5m_tokens + cache_write_1h_tokens) AS tokens_in,"
        " sum(output_tokens) AS tokens_out, sum(exact = 0) AS bounds, min(at) AS first FROM"
        " (SELECT * FROM meter WHERE request >= ? ORDER BY request DESC LIMIT ?) GROUP BY 1, 2, 3",
        first_id(since), MOST_REQUESTS,
    )  # fmt: skip
    full = sum(row["requests"] for row in rows) == MOST_REQUESTS
    return Slice(rows, min(from_iso(row["first"]) for row in rows) if full else since)


def finished(reader: Reader, since: float) -> Slice:
    """Tasks that ended: at (seconds), role, status, waited and ran (seconds or None), cost, reported."""
    rows = reader.db.dicts(
        "SELECT finished_at AS at, agent_owner AS role, status, created_at, started_at, cost_micros AS cost,"
        " actual_micros AS reported FROM tasks WHERE finished_at >= ? ORDER BY finished_at DESC LIMIT ?",
        iso(since), MOST_TASKS,
    )  # fmt: skip
    found = _slice(rows, since, "at", MOST_TASKS)
    for row in found.rows:
        begun = from_iso(row["started_at"]) if row["started_at"] else None
        row["waited"] = None if begun is None else max(0.0, begun - from_iso(row["created_at"]))
        row["ran"] = None if begun is None else max(0.0, row["at"] - begun)
    return found


def attempts(reader: Reader, since: float) -> Slice:
    """Attempts claimed since then: at, until (None while it runs), role, state, outcome, error, task, number, title."""
    rows = reader.db.dicts(
        "SELECT a.claimed_at AS at, a.finished_at AS until, a.role, a.state, a.outcome, a.error, a.task_id AS task,"
        " a.number, t.title FROM attempts AS a JOIN tasks AS t ON t.id = a.task_id"
        " WHERE a.id >= ? AND a.claimed_at >= ? ORDER BY a.id DESC LIMIT ?",
        first_id(since - STANDING_SECONDS), iso(since), MOST_ATTEMPTS,
    )  # fmt: skip
    found = _slice(rows, since, "at", MOST_ATTEMPTS)
    for row in found.rows:
        row["until"] = from_iso(row["until"]) if row["until"] else None
    return found


def marks(reader: Reader, since: float) -> list[dict[str, Any]]:
    """What interrupted the night, oldest first: at (seconds), kind, action, role, reason."""
    found = []
    for action, kind in MARKS.items():
        rows = reader.rows(
            "SELECT json_extract(CAST(body AS TEXT), '$.at'),"
            " coalesce(json_extract(CAST(body AS TEXT), '$.detail.role'), json_extract(CAST(body AS TEXT), '$.actor')),"
            " coalesce(json_extract(CAST(body AS TEXT), '$.detail.reason'), '') FROM audit WHERE action = ?"
            " ORDER BY seq DESC LIMIT ?",
            action, MOST_MARKS,
        )  # fmt: skip
        found += [
            {"at": from_iso(at), "kind": kind, "action": action, "role": role, "reason": str(reason)}
            for at, role, reason in rows
            if from_iso(at) >= since
        ]
    return sorted(found, key=lambda mark: float(mark["at"]))


def holds(reader: Reader, limit: int = 200) -> list[dict[str, Any]]:
    """What running attempts may still cost: attempt, task, title, role, amount in micro-dollars.

    None in a ledger of an older schema, which no supervisor of this version has served yet.
    """
    if reader.db.value("PRAGMA user_version") < HOLDS_SINCE_SCHEMA:
        return []
    return reader.db.dicts(
        "SELECT a.id AS attempt, task_id AS task, t.title, role, held_micros AS amount"
        " FROM attempts AS a JOIN tasks AS t ON t.id = task_id WHERE state = 'running' LIMIT ?",
        limit,
    )


def _slice(rows: list[dict[str, Any]], since: float, name: str, most: int) -> Slice:
    for row in rows:
        row[name] = from_iso(row[name])
    begin = float(rows[-1][name]) if len(rows) == most else since
    return Slice(list(reversed(rows)), begin)
