"""The figures of the pages Money and Flow, from bounded lists of the last hours (producer/ledger/charts.py)."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from producer.core.money import format_usd, parse_usd
from producer.core.text import one_line
from producer.ids import from_iso, iso, utc_date
from producer.ledger import charts
from producer.web.desk import Desk

HOUR = 3600.0
STEPS = 48
MARGIN = 0.02
CAUSE = 120
CAUSES = 12


def money(desk: Desk, hours: int, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """The object of GET /api/money. Amounts are exact decimal strings."""
    now = clock()
    budget = desk.status()["budget"]
    with desk.reader() as reader:
        found = charts.requests(reader, now - hours * HOUR)
        latest = charts.requests(reader, now - HOUR)
        tasks = charts.finished(reader, now - hours * HOUR)
        days = reader.spending_days()
        holds = charts.holds(reader)
    return {
        "hours": hours,
        "since": iso(found.since),
        "complete": found.since <= now - hours * HOUR + 1,
        "budget": budget,
        "by_hour": _by_hour(found.rows, now, hours),
        "by_role": _sums(found.rows, "role"),
        "by_model": _sums(found.rows, "model"),
        "forecast": _forecasts(budget, latest.rows, now),
        "holds": [{**hold, "amount_usd": format_usd(hold.pop("amount"))} for hold in holds],
        "drift": _drift(tasks.rows),
        "days": days,
    }


def _by_hour(rows: Iterable[dict[str, Any]], now: float, hours: int) -> list[dict[str, Any]]:
    """Spend of every hour by role, the hours without any included."""
    last = int(now // HOUR)
    sums: dict[int, dict[str, int]] = {hour: {} for hour in range(last - hours + 1, last + 1)}
    for row in rows:
        hour = sums.get(int(from_iso(f"{row['hour']}:00:00Z") // HOUR))
        if hour is not None:
            hour[row["role"]] = hour.get(row["role"], 0) + row["cost"]
    return [
        {"hour": iso(hour * HOUR), "cost_usd": format_usd(sum(by.values())),
         "roles": {role: format_usd(cost) for role, cost in sorted(by.items())}}
        for hour, by in sums.items()
    ]  # fmt: skip


def _sums(rows: Iterable[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Requests, tokens and cost by role or model, dearest first."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: {"requests": 0, "in": 0, "out": 0, "cost": 0, "bounds": 0})
    for row in rows:
        one = sums[row[name]]
        for total, part in (("requests", "requests"), ("in", "tokens_in"), ("out", "tokens_out"), ("cost", "cost")):
            one[total] += row[part]
        one["bounds"] += row["bounds"]
    ordered = sorted(sums.items(), key=lambda item: -item[1]["cost"])
    return [
        {name: key, "requests": one["requests"], "tokens_in": one["in"], "tokens_out": one["out"],
         "upper_bounds": one["bounds"], "cost_usd": format_usd(one["cost"])}
        for key, one in ordered
    ]  # fmt: skip


def _forecasts(budget: dict[str, Any], rows: Sequence[dict[str, Any]], now: float) -> dict[str, Any]:
    """For the project and every role, from the last hour's requests: when the cap would be met at that rate."""
    found = {"project": _forecast(budget["project"], sum(row["cost"] for row in rows), now)}
    for role, figures in budget["roles"].items():
        found[role] = _forecast(figures, sum(row["cost"] for row in rows if row["role"] == role), now)
    return found


def _forecast(figures: dict[str, str], rate: int, now: float) -> dict[str, Any]:
    spent, cap = parse_usd(figures["spent_usd"]), parse_usd(figures["cap_usd"])
    left = 86_400 - now % 86_400
    at_end = spent + round(rate * left / HOUR)
    meets = now + (cap - spent) / rate * HOUR if rate and spent < cap else None
    return {
        "per_hour_usd": format_usd(rate),
        "day_end_usd": format_usd(at_end),
        "cap_at": iso(meets) if meets is not None and utc_date(meets) == utc_date(now) else None,
        "cap_met": spent >= cap,
    }


def _drift(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By role: what we computed and what the invoker reported, for tasks that have both."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        if row["reported"] is not None:
            pair = sums.setdefault(row["role"], [0, 0, 0])
            pair[0] += 1
            pair[1] += row["cost"]
            pair[2] += row["reported"]
    return [
        {"role": role, "tasks": number, "computed_usd": format_usd(computed), "reported_usd": format_usd(reported),
         "difference_usd": format_usd(computed - reported)}
        for role, (number, computed, reported) in sorted(sums.items())
    ]  # fmt: skip


# ---- flow


def flow(desk: Desk, hours: int, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """The object of GET /api/flow. Times are seconds since the epoch, durations seconds."""
    now = clock()
    since = now - hours * HOUR
    with desk.reader() as reader:
        tasks = charts.finished(reader, since)
        runs = charts.attempts(reader, since)
        marks = charts.marks(reader, since)
    if began := [row["at"] for row in (*tasks.rows, *runs.rows, *marks)]:
        since = max(since, min(began) - MARGIN * (now - min(began)) - 1)  # a night that began late fills the picture
    return {
        "hours": hours,
        "since": since,
        "until": now,
        "complete_since": max(tasks.since, runs.since),
        "throughput": _throughput(tasks.rows, since, now),
        "ended": dict(Counter(row["status"] for row in tasks.rows)),
        "times": _times(tasks.rows),
        "causes": _causes(runs.rows),
        "attempts": runs.rows,
        "marks": marks,
    }


def _throughput(rows: Iterable[dict[str, Any]], since: float, now: float) -> list[dict[str, Any]]:
    """STEPS equal parts of the time: tasks done, and those that ended otherwise."""
    step = (now - since) / STEPS
    found: list[dict[str, Any]] = [{"at": since + n * step, "done": 0, "other": 0} for n in range(STEPS)]
    for row in rows:
        part = min(STEPS - 1, max(0, int((row["at"] - since) // step)))
        found[part]["done" if row["status"] == "done" else "other"] += 1
    return found


def _times(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By role: tasks, and median and 90th percentile of waiting and running."""
    by_role: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_role[row["role"]].append(row)
    return [
        {"role": role, "tasks": len(some)}
        | {
            f"{name}_{word}": _quantile([row[name] for row in some if row[name] is not None], share)
            for name in ("waited", "ran")
            for word, share in (("median", 0.5), ("p90", 0.9))
        }
        for role, some in sorted(by_role.items())
    ]


def _quantile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _causes(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Why attempts did not succeed, the most frequent first."""
    counted: Counter[tuple[str, str]] = Counter()
    for row in rows:
        if row["state"] not in ("succeeded", "running"):
            counted[row["state"], one_line(str(row["error"] or row["outcome"] or "no reason"), CAUSE)] += 1
    return [{"state": state, "cause": cause, "number": n} for (state, cause), n in counted.most_common(CAUSES)]
