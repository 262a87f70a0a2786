"""The morning report: what was done, what waits for a person, what it cost, what looks wrong.

    write(build(reader, Caps.of(config), date), config.reports_dir)

1. `build` only reads; `render` is pure; `write` replaces the day's file whole or not at all.
2. A report of today looks back 24 hours, so that a night is in it whatever the time zone; one of another day covers
   that UTC day. Money is always that of the UTC day, because caps are.
3. A heading's count is the true one; the list under it ends after LISTED entries and says how many it leaves out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date as Date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.core.money import MicroUSD
from producer.core.text import many
from producer.errors import UsageError
from producer.ids import from_iso, iso, utc_date
from producer.killswitch import SwitchState
from producer.ledger import standing, trust
from producer.ledger.verify import tail
from producer.ledger.views import Reader

if TYPE_CHECKING:
    from producer.config import ProducerConfig

LISTED = 50
DAY = 86_400
LONG_RUN = 3_600
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class Caps:
    """What the configuration allows: the project's ceiling and the roles' daily caps, in micro-dollars."""

    project: str
    ceiling: MicroUSD
    soft_ratio: float
    roles: Mapping[str, MicroUSD]

    @classmethod
    def of(cls, config: ProducerConfig) -> Caps:
        """From a configuration."""
        roles = {name: role.daily_cap for name, role in config.roles.items()}
        return cls(config.project_name, config.budget.project_ceiling, config.budget.soft_cap_ratio, roles)


@dataclass(frozen=True)
class Entry:
    """One task of a list. ``note``: a reason, or what it waits for."""

    id: str
    role: str
    title: str
    cost: int = 0
    note: str = ""


@dataclass(frozen=True)
class Listing:
    """The first entries of a list, with the true count by role."""

    by_role: Mapping[str, int] = field(default_factory=dict)
    entries: tuple[Entry, ...] = ()

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.by_role.values())


@dataclass(frozen=True)
class Spend:
    """A role's day (or the project's), money in micro-dollars. ``mark``: `CAP HIT`, `soft cap` or empty."""

    role: str
    spent: int
    held: int
    cap: int
    mark: str
    tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything that a morning report says."""

    project: str
    date: str
    since: str
    until: str
    made_at: str
    shipped: Listing
    escalated: Listing
    approvals: Listing
    failed: Listing
    blocked: Listing
    waiting: int
    held_roles: tuple[tuple[str, str, str], ...]
    spend: tuple[Spend, ...]
    total: Spend
    assets: tuple[tuple[str, int, int], ...]
    drift: tuple[tuple[str, int, int], ...]
    usage_limits: Mapping[str, int]
    guards: tuple[tuple[str, str], ...]
    anomalies: tuple[str, ...]
    pricing_note: str | None = None
    audit: str = ""


def parse_date(text: str | None) -> str | None:
    """A UTC day, YYYY-MM-DD; None stays None. Raises UsageError where the text is no date."""
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return Date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    raise UsageError(f"--date: {text!r} is not a date: use YYYY-MM-DD, such as 2026-05-06")


def build(
    reader: Reader,
    caps: Caps,
    date: str | None = None,
    *,
    now: float | None = None,
    switch: SwitchState | None = None,
    pricing_note: str | None = None,
    state: Path | None = None,
) -> Report:
    """The report of a UTC day (today where none is named). ``pricing_note``: the banner of a stale price table;
    ``state``: the private directory, for a look at the audit log's end.
    """
    now = time.time() if now is None else now
    date = date or utc_date(now)
    start = from_iso(f"{date}T00:00:00Z")
    today = date == utc_date(now)
    since, until = (iso(min(start, now - DAY)), iso(now)) if today else (iso(start), iso(start + DAY - 0.001))
    spend = _spend(reader, caps, date)
    total = _total(spend, caps)
    return Report(
        project=caps.project, date=date, since=since, until=until, made_at=iso(now),
        shipped=_tasks(reader, "status = 'done' AND finished_at BETWEEN ? AND ?", since, until),
        escalated=_tasks(reader, "status = 'escalated'"),
        approvals=_tasks(reader, "status = 'pending' AND requires_approval = 1"),
        failed=_tasks(reader, "status = 'failed'"),
        blocked=_blocked(reader), waiting=reader.counts()["pending"],
        held_roles=_held_roles(reader), spend=spend, total=total,
        assets=_assets(reader, since, until), drift=_drift(reader, since, until),
        usage_limits=_actions(reader, "role_throttled", since, until), guards=_guards(reader, since, until),
        anomalies=tuple(_anomalies(reader, total, caps, since, until, now, switch, state)), pricing_note=pricing_note,
        audit=trust.words(trust.figures(reader.db)),
    )  # fmt: skip


def write(report: Report, reports_dir: Path) -> Path:
    """Write a report as morning-report-YYYYMMDD.md, whole or not at all; its path."""
    from producer.ledger.report_text import render

    reports_dir.mkdir(parents=True, exist_ok=True)
    path = reports_dir / f"morning-report-{report.date.replace('-', '')}.md"
    fresh = path.with_name(f".{path.name}.{time.time_ns()}")
    fresh.write_text(render(report), encoding="utf-8")
    fresh.replace(path)
    return path


# ---- tasks


def _tasks(reader: Reader, where: str, *values: object) -> Listing:
    counts = reader.rows(f"SELECT agent_owner, count(*) FROM tasks WHERE {where} GROUP BY agent_owner", *values)
    rows = reader.rows(
        "SELECT id, agent_owner, title, cost_micros, coalesce(escalation_reason, '') FROM tasks"
        f" WHERE {where} ORDER BY finished_at DESC, seq DESC LIMIT ?",
        *values, LISTED,
    )  # fmt: skip
    return Listing(dict(sorted(counts)), tuple(Entry(*row) for row in rows))


_STUCK = (
    "FROM tasks AS t JOIN dependency AS d ON d.task = t.id JOIN tasks AS needed ON needed.id = d.depends_on"
    " WHERE t.status = 'pending' AND t.open_dependencies > 0 AND needed.status IN ('killed', 'escalated', 'failed')"
)


def _blocked(reader: Reader) -> Listing:
    """Tasks that wait for one that will not be done unless a person acts."""
    counts = reader.rows(f"SELECT t.agent_owner, count(DISTINCT t.id) {_STUCK} GROUP BY t.agent_owner")
    rows = reader.rows(
        "SELECT t.id, t.agent_owner, t.title, t.cost_micros,"
        " 'needs ' || group_concat(needed.id || ' is ' || needed.status, ', ')"
        f" {_STUCK} GROUP BY t.id ORDER BY t.priority, t.seq LIMIT ?",
        LISTED,
    )
    return Listing(dict(sorted(counts)), tuple(Entry(*row) for row in rows))


def _held_roles(reader: Reader) -> tuple[tuple[str, str, str], ...]:
    """Roles that take nothing now: role, state, why and until when."""
    found = []
    for row in standing.roles(reader).values():
        if row.state != "ok":
            until = f" until {iso(row.until)}" if row.until else ""
            found.append((row.role, row.state, f"{row.reason or ''}{until}".strip()))
    return tuple(found)


# ---- money


def _spend(reader: Reader, caps: Caps, date: str) -> tuple[Spend, ...]:
    figures, tokens = reader.budget(date), standing.tokens(reader, date)
    today = []
    for role in sorted({*caps.roles, *figures, *tokens}):
        row = figures.get(role, {"spent": 0, "held": 0, "cap": 0})
        cap = int(caps.roles.get(role, row["cap"]))
        mark = _mark(row["spent"], cap, caps.soft_ratio)
        today.append(Spend(role, row["spent"], row["held"], cap, mark, tokens.get(role, {})))
    return tuple(today)


def _total(spend: tuple[Spend, ...], caps: Caps) -> Spend:
    spent, held = sum(row.spent for row in spend), sum(row.held for row in spend)
    counts: dict[str, int] = {}
    for row in spend:
        for name, number in row.tokens.items():
            counts[name] = counts.get(name, 0) + number
    return Spend("project", spent, held, caps.ceiling, _mark(spent, caps.ceiling, caps.soft_ratio), counts)


def _mark(spent: int, cap: int, soft_ratio: float) -> str:
    if spent and spent >= cap:
        return "CAP HIT"
    return "soft cap" if spent and spent >= Decimal(str(soft_ratio)) * cap else ""


def _drift(reader: Reader, since: str, until: str) -> tuple[tuple[str, int, int], ...]:
    """By role: what we computed and what the invoker reported, for tasks that have both."""
    rows = reader.rows(
        "SELECT agent_owner, sum(cost_micros), sum(actual_micros) FROM tasks WHERE status = 'done'"
        " AND actual_micros IS NOT NULL AND finished_at BETWEEN ? AND ? GROUP BY agent_owner ORDER BY agent_owner",
        since, until,
    )  # fmt: skip
    return tuple((role, computed, reported) for role, computed, reported in rows)


def _assets(reader: Reader, since: str, until: str) -> tuple[tuple[str, int, int], ...]:
    rows = reader.rows(
        "SELECT asset_type, count(*), sum(cost_micros) FROM asset_registry WHERE timestamp BETWEEN ? AND ?"
        " GROUP BY asset_type ORDER BY asset_type",
        since, until,
    )  # fmt: skip
    return tuple((kind, number, cost) for kind, number, cost in rows)


# ---- what happened


def _actions(reader: Reader, action: str, since: str, until: str, key: str = "role") -> dict[str, int]:
    """How often an action was recorded in the period, by a word of its detail."""
    rows = reader.rows(
        f"SELECT coalesce(CAST(body AS TEXT) ->> '$.detail.{key}', CAST(body AS TEXT) ->> '$.actor'), count(*)"
        " FROM audit WHERE action = ? AND CAST(body AS TEXT) ->> '$.at' BETWEEN ? AND ? GROUP BY 1 ORDER BY 1",
        action, since, until,
    )  # fmt: skip
    return {str(word): number for word, number in rows}


def _guards(reader: Reader, since: str, until: str) -> tuple[tuple[str, str], ...]:
    """Runaway guards that agents ran into: role and what they were told, or why a run or a task was stopped."""
    rows = reader.rows(
        "SELECT CAST(body AS TEXT) ->> '$.actor', coalesce(CAST(body AS TEXT) ->> '$.detail.reason',"
        " CAST(body AS TEXT) ->> '$.detail.error', '') FROM audit WHERE action = 'tool_refused'"
        " AND CAST(body AS TEXT) ->> '$.detail.kind' = 'LimitReached'"
        " AND CAST(body AS TEXT) ->> '$.at' BETWEEN ? AND ? ORDER BY seq DESC LIMIT ?",
        since, until, LISTED,
    )  # fmt: skip
    stopped = reader.rows(
        "SELECT role, error || ': ' || t.title FROM attempts AS a JOIN tasks AS t ON t.id = task_id"
        " WHERE a.state IN ('failed', 'lost')"
        " AND (error LIKE 'made no progress for %' OR error LIKE 'ran longer than %')"
        " AND a.finished_at BETWEEN ? AND ? ORDER BY a.finished_at DESC LIMIT ?",
        since, until, LISTED,
    )  # fmt: skip
    spent = reader.rows(
        "SELECT agent_owner, escalation_reason FROM tasks WHERE status = 'escalated' AND finished_at BETWEEN ? AND ?"
        " AND escalation_reason LIKE '%has spent its own budget%' ORDER BY seq DESC LIMIT ?",
        since, until, LISTED,
    )  # fmt: skip
    return tuple((str(role), str(text)) for role, text in (*rows, *stopped, *spent)[:LISTED])


def _anomalies(
    reader: Reader,
    total: Spend,
    caps: Caps,
    since: str,
    until: str,
    now: float,
    switch: SwitchState | None,
    state: Path | None,
) -> list[str]:
    found = []
    if state and (problem := tail(reader.db, state).problem):
        found.append(f"The audit log does not hold: {problem}: `producerctl audit verify` says more")
    if alarm := trust.figures(reader.db)["alarm"]:
        found.append(f"The audit log gave an alarm that nobody has acknowledged: {alarm['problem']}")
    if switch and switch.armed:
        found.append(f"The kill switch is ARMED: {switch.reason or 'no reason given'}")
    runs = standing.running(reader)
    long = [run for run in runs if now - from_iso(run["since"]) > LONG_RUN]
    if runs:
        found.append(f"in progress at report time: {many(len(runs), 'task')}, {len(long)} for more than an hour")
    if total.mark:
        share = f"{100 * total.spent // max(1, caps.ceiling)} % of the project's ceiling is spent"
        found.append(f"{share} ({total.mark})")
    for outcome, number in _outcomes(reader, since, until).items():
        found.append(f"{many(number, 'attempt')} ended as {outcome}")
    inexact = reader.rows("SELECT count(*) FROM meter WHERE exact = 0 AND at BETWEEN ? AND ?", since, until)[0][0]
    if inexact:
        found.append(f"upper bounds: {many(inexact, 'cost')}, whose responses were cut before their usage was known")
    for action, words in _NOTABLE.items():
        number = sum(_actions(reader, action, since, until).values())
        if number:
            found.append(f"{words}: {many(number, 'time')}")
    return found


_NOTABLE = {
    "kill_switch_armed_by_producer": "the kill switch armed itself",
    "budget_breach": "a cap was passed",
    "role_failed": "a role was parked because its workers kept dying",
    "worker_exited": "a worker process ended on its own",
    "stale_result": "a result came too late and was dropped",
    "forged_result": "a worker sent a result that was not its own",
    "message_dropped": "a message broke the supervisor's loop twice and was dropped",
    "foreign_write": "another program wrote the ledger: what it changed has no row in the log",
    "clock_set_back": "the computer's clock was set back, and what waited for it was moved along",
    "survivors": "a process outlived its attempt",
}


def _outcomes(reader: Reader, since: str, until: str) -> dict[str, int]:
    rows: list[Any] = reader.rows(
        "SELECT state, count(*) FROM attempts WHERE state IN ('failed', 'lost') AND finished_at BETWEEN ? AND ?"
        " GROUP BY state ORDER BY state",
        since, until,
    )  # fmt: skip
    return dict(rows)
