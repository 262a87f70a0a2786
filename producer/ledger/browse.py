"""Reading the ledger in pages, for people who look at a queue of a million tasks.

1. A page begins after a key, never at an offset, and is found in an index: what it costs depends on its length alone.
2. Where no index answers (text, what is blocked) a WINDOW of the newest rows is looked through; ``next`` says where to
   go on, also where the window held nothing.
3. Counts end at a bound, and say so, rather than walk a table.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from producer.core.money import format_usd
from producer.ledger.database import placeholders
from producer.ledger.views import Reader

STATUSES = ("pending", "in_progress", "done", "failed", "escalated", "killed")
WINDOW = 10_000
MOST_COUNTED = 10_000
MOST_PENDING = 2_000
MOST_ROLES = 200
LAST = 1 << 62
LISTED = (
    "seq, id, agent_owner, status, title, priority, created_at, started_at, finished_at, retry_count, cost_micros,"
    " open_dependencies, not_before, requires_approval, substr(escalation_reason, 1, 300) AS escalation_reason"
)


@dataclass(frozen=True)
class Page:
    """Rows, and the key after which the next page begins; None on the last one."""

    rows: list[dict[str, Any]]
    next: int | None


@dataclass(frozen=True)
class Count:
    """A number of rows; ``more``: it is at least this."""

    number: int
    more: bool

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.more else ''}"


def counts(reader: Reader) -> dict[str, Count]:
    """The queue by state, as Reader.counts has it, each counted to a bound."""
    found = {}
    for status in STATUSES[1:]:
        number = reader.db.value(
            "SELECT count(*) FROM (SELECT 1 FROM tasks WHERE status = ? LIMIT ?)", status, MOST_COUNTED + 1
        )
        found[status] = Count(min(number, MOST_COUNTED), number > MOST_COUNTED)
    pending, blocked = reader.rows(
        "SELECT count(*), coalesce(sum(open_dependencies > 0), 0) FROM"
        " (SELECT open_dependencies FROM tasks WHERE status = 'pending' LIMIT ?)",
        MOST_PENDING + 1,
    )[0]
    more = pending > MOST_PENDING
    pending = min(pending, MOST_PENDING)
    return {"pending": Count(max(0, pending - blocked), more), "blocked": Count(blocked, more), **found}


def tasks(
    reader: Reader,
    *,
    status: str | None = None,
    role: str | None = None,
    text: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Page:
    """Tasks, newest first, older than the key ``before``. ``status`` may be `blocked`."""
    before = before or LAST
    if text or status == "blocked":
        return _searched(reader, status, role, text, before, limit)
    if status is None and role is None:
        rows = reader.db.dicts(f"SELECT {LISTED} FROM tasks WHERE seq < ? ORDER BY seq DESC LIMIT ?", before, limit + 1)
    else:
        rows = _merged(reader, [status] if status else STATUSES, role, before, limit + 1)
    return _page(rows, limit)


def _merged(reader: Reader, statuses: Sequence[str], role: str | None, before: int, limit: int) -> list[dict[str, Any]]:
    """The index is by state and role: a short list of each, merged."""
    lists = [
        reader.db.dicts(
            f"SELECT {LISTED} FROM tasks WHERE status = ? AND agent_owner = ? AND seq < ? ORDER BY seq DESC LIMIT ?",
            one, owner, before, limit,
        )
        for one in statuses
        for owner in ([role] if role else owners(reader, one))
    ]  # fmt: skip
    return heapq.nlargest(limit, (row for rows in lists for row in rows), key=lambda row: int(row["seq"]))


def _searched(reader: Reader, status: str | None, role: str | None, text: str | None, before: int, limit: int) -> Page:
    newest = int(reader.db.value("SELECT max(seq) FROM tasks") or 0)
    top = min(before, newest + 1)
    where, values = ["seq < ?", "seq >= ?"], [top, top - WINDOW]
    more: list[object] = []
    if status == "blocked":
        where.append("+status = 'pending' AND open_dependencies > 0")
    elif status:
        where.append("+status = ?")
        more.append(status)
    if role:
        where.append("+agent_owner = ?")
        more.append(role)
    if text:
        where.append("instr(lower(title || char(10) || description), lower(?)) > 0")
        more.append(text)
    rows = reader.db.dicts(
        f"SELECT {LISTED} FROM tasks WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?", *values, *more, limit + 1
    )
    if len(rows) > limit:
        return _page(rows, limit)
    return Page([present(row) for row in rows], top - WINDOW if top - WINDOW > 1 else None)


def titles(reader: Reader, idents: Collection[str]) -> dict[str, str]:
    """Titles by id; ids that are unknown are left out."""
    names = list(idents)
    return dict(reader.rows(f"SELECT id, title FROM tasks WHERE id IN ({placeholders(names)})", *names))


def _page(rows: list[dict[str, Any]], limit: int) -> Page:
    after = int(rows[limit - 1]["seq"]) if len(rows) > limit else None
    return Page([present(row) for row in rows[:limit]], after)


def present(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is shown: money as an exact decimal string."""
    shown = {name: value for name, value in row.items() if name not in ("cost_micros", "seq")}
    shown["key"] = row["seq"]
    shown["cost_usd"] = format_usd(row["cost_micros"])
    shown["requires_approval"] = bool(row["requires_approval"])
    return shown


def owners(reader: Reader, status: str) -> list[str]:
    """The roles that have tasks in a state, found by leaps through the index."""
    found: list[str] = []
    last = ""
    while len(found) < MOST_ROLES:
        row = reader.db.one(
            "SELECT agent_owner FROM tasks WHERE status = ? AND agent_owner > ? ORDER BY agent_owner LIMIT 1",
            status, last,
        )  # fmt: skip
        if row is None:
            break
        last = str(row[0])
        found.append(last)
    return found


# ---- what waits


def approvals(reader: Reader, limit: int = 12) -> tuple[list[dict[str, Any]], Count]:
    """Pending tasks that somebody has to approve, and how many there are, among the first MOST_PENDING that wait."""
    rows = reader.db.dicts(
        f"SELECT {LISTED} FROM (SELECT * FROM tasks WHERE status = 'pending' LIMIT ?) WHERE requires_approval = 1",
        MOST_PENDING,
    )
    shown = [present(row) for row in heapq.nsmallest(limit, rows, key=lambda row: (row["priority"], row["seq"]))]
    return shown, Count(len(rows), False)


def waiting(reader: Reader, roles: Sequence[str], limit: int = 12) -> list[dict[str, Any]]:
    """What comes next, most urgent first, each row with the ``reason`` why it waits."""
    found: dict[str, dict[str, Any]] = {}
    for role in roles:
        ready = reader.db.dicts(
            f"SELECT {LISTED} FROM tasks WHERE agent_owner = ? AND status = 'pending' AND open_dependencies = 0"
            " AND not_before IS NULL AND requires_approval = 0 ORDER BY priority, seq LIMIT ?",
            role, limit,
        )  # fmt: skip
        oldest = reader.db.dicts(
            f"SELECT {LISTED} FROM tasks WHERE status = 'pending' AND agent_owner = ? ORDER BY seq LIMIT ?",
            role, limit * 4,
        )  # fmt: skip
        found |= {str(row["id"]): row for row in (*ready, *oldest)}
    rows = heapq.nsmallest(limit, found.values(), key=lambda row: (_held(row), row["priority"], row["seq"]))
    return [{**present(row), "reason": reason(reader, row)} for row in rows]


def _held(row: dict[str, Any]) -> bool:
    return bool(row["open_dependencies"] or row["requires_approval"] or row["not_before"])


def reason(reader: Reader, row: dict[str, Any]) -> str:
    """Why a pending task does not run, in words; empty where only a worker is waited for."""
    if row["open_dependencies"]:
        needed = reader.db.dicts(
            "SELECT needed.status, needed.title FROM dependency JOIN tasks AS needed ON needed.id = depends_on"
            " WHERE task = ? AND needed.status != 'done' LIMIT 2",
            row["id"],
        )
        names = ", ".join(f"{one['title']} ({one['status'].replace('_', ' ')})" for one in needed)
        return f"waits for {names}{', …' if row['open_dependencies'] > 2 else ''}"
    if row["requires_approval"]:
        return "waits for your approval"
    return "is tried again later" if row["not_before"] else ""


# ---- the audit log


def audit(
    reader: Reader,
    *,
    action: str | None = None,
    task: str | None = None,
    text: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> Page:
    """Audit rows, newest first, older than the key ``before``."""
    top = before or LAST
    if text:
        newest = int(reader.db.value("SELECT max(seq) FROM audit") or 0)
        top = min(top, newest + 1)
        where, values = ["seq < ?", "seq >= ?"], [top, top - WINDOW]
    else:
        where, values = ["seq < ?"], [top]
    more: list[object] = []
    for column, value in (("action", action), ("task_id", task)):
        if value:
            where.append(f"{'+' if text else ''}{column} = ?")
            more.append(value)
    if text:
        where.append("instr(lower(CAST(body AS TEXT)), lower(?)) > 0")
        more.append(text)
    rows = reader.rows(
        f"SELECT seq, CAST(body AS TEXT) FROM audit WHERE {' AND '.join(where)} ORDER BY seq DESC LIMIT ?",
        *values, *more, limit + 1,
    )  # fmt: skip
    shown = [{"seq": seq, **_parsed(body)} for seq, body in rows[:limit]]
    if len(rows) > limit:
        return Page(shown, int(rows[limit - 1][0]))
    return Page(shown, top - WINDOW if text and top - WINDOW > 1 else None)


def _parsed(body: str) -> dict[str, Any]:
    """A row's body; one that was tampered with until it is no row any more is shown as that."""
    broken = {"action": "unreadable", "actor": "?", "at": "1970-01-01T00:00:00Z", "detail": {"body": body[:500]}}
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return broken
    return found if isinstance(found, dict) and broken.keys() <= found.keys() else broken


def actions(reader: Reader) -> list[str]:
    """The actions that the log knows, found by leaps through the index."""
    found: list[str] = []
    last = ""
    while len(found) < MOST_ROLES:
        row = reader.db.one("SELECT action FROM audit WHERE action > ? ORDER BY action LIMIT 1", last)
        if row is None:
            break
        last = str(row[0])
        found.append(last)
    return found
