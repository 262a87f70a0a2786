"""The morning report as Markdown and as JSON. Pure; text from agents is one harmless line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from producer.core.money import format_usd
from producer.core.text import many, markdown
from producer.ledger.report import Entry, Listing, Report, Spend

MONEY = frozenset({"cost", "spent", "held", "cap"})
LONGEST = 300


def render(report: Report) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON; money as decimal strings under names that end in _usd."""
    data: dict[str, Any] = _plain(report)
    data["assets"] = [{"type": k, "count": n, "cost_usd": format_usd(c)} for k, n, c in report.assets]
    data["drift"] = [
        {"role": role, "computed_usd": format_usd(ours), "reported_usd": format_usd(theirs)}
        for role, ours, theirs in report.drift
    ]
    data["held_roles"] = [{"role": role, "state": state, "reason": why} for role, state, why in report.held_roles]
    data["guards"] = [{"role": role, "message": text} for role, text in report.guards]
    return data


def _plain(value: Any) -> Any:
    if isinstance(value, Listing):
        return {"total": value.total, "by_role": dict(value.by_role), "tasks": [_plain(item) for item in value.entries]}
    if is_dataclass(value):
        named = {item.name: getattr(value, item.name) for item in fields(value)}
        return {f"{k}_usd" if k in MONEY else k: format_usd(v) if k in MONEY else _plain(v) for k, v in named.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _lines(report: Report) -> Iterator[str]:
    yield f"# {markdown(report.project)}: morning report {report.date}"
    yield ""
    if report.pricing_note:
        yield f"> **{markdown(report.pricing_note)}**"
        yield ""
    yield f"From {_time(report.since)} to {_time(report.until)} UTC; money of the UTC day {report.date}."
    yield from _listing(f"Shipped overnight ({report.shipped.total} tasks)", report.shipped, "Nothing was finished.")
    if report.shipped.total:
        yield f"By role: {', '.join(f'{role} {number}' for role, number in report.shipped.by_role.items())}"
    yield from _sign_off(report)
    if report.failed.total:
        yield from _listing(f"Hard-failed ({report.failed.total})", report.failed, "")
    yield from _blocked(report)
    yield from _spend(report)
    yield from _assets(report)
    if report.usage_limits:
        yield from _section(
            "Usage limits met", [f"{markdown(r)}: {many(n, 'time')}" for r, n in report.usage_limits.items()]
        )
    if report.drift:
        yield from _section("Pricing drift (computed against reported cost)", [_drift(*row) for row in report.drift])
    if report.guards:
        yield from _section("Runaway guards", [f"{markdown(r)}: {markdown(t, LONGEST)}" for r, t in report.guards])
    yield from _section("Anomalies", [markdown(text, LONGEST) for text in report.anomalies], "None.")
    if report.audit:
        yield from _section("Audit log", [markdown(report.audit, LONGEST)])
    yield ""
    yield f"Written {_time(report.made_at)} UTC."


def _section(title: str, items: list[str], otherwise: str = "") -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield from (f"- {item}" for item in items)
    if not items and otherwise:
        yield otherwise


def _listing(title: str, listing: Listing, otherwise: str) -> Iterator[str]:
    yield from _section(title, [_entry(entry) for entry in listing.entries], otherwise)
    left = listing.total - len(listing.entries)
    if left > 0:
        yield f"- and {left} more"
    if listing.entries:
        yield ""


def _entry(entry: Entry) -> str:
    cost = f" (${format_usd(entry.cost)})" if entry.cost else ""
    note = f": {markdown(entry.note, LONGEST)}" if entry.note else ""
    return f"**{markdown(entry.title)}** by {markdown(entry.role)}{cost}{note} `{entry.id}`"


def _sign_off(report: Report) -> Iterator[str]:
    count = report.escalated.total + report.approvals.total
    yield from _listing(f"Awaiting your sign-off ({count})", report.escalated, "" if count else "Nothing.")
    if report.escalated.total:
        yield "Each with `producerctl task show ID`, then `task requeue`, `task edit`, `task route` or `task kill`."
        yield ""
    if report.approvals.total:
        yield "To be approved with `producerctl task approve ID`:"
        yield ""
        yield from (f"- {_entry(entry)}" for entry in report.approvals.entries)
        if (left := report.approvals.total - len(report.approvals.entries)) > 0:
            yield f"- and {left} more"


def _blocked(report: Report) -> Iterator[str]:
    roles = [f"Role {markdown(role)} is {state}: {markdown(why, LONGEST)}" for role, state, why in report.held_roles]
    if not roles and not report.blocked.total:
        return
    yield from _section(f"Blocked ({many(report.blocked.total, 'task')})", roles)
    yield from (f"- {_entry(entry)}" for entry in report.blocked.entries)
    if (left := report.blocked.total - len(report.blocked.entries)) > 0:
        yield f"- and {left} more"


def _spend(report: Report) -> Iterator[str]:
    yield ""
    yield "## Spend"
    yield ""
    yield "| role | spent | held | cap | | in | cached | out | requests |"
    yield "|---|--:|--:|--:|---|--:|--:|--:|--:|"
    yield from (_row(row) for row in report.spend if row.spent or row.held or row.tokens or row.cap)
    yield _row(report.total)


def _row(row: Spend) -> str:
    mark = {"CAP HIT": "**[CAP HIT]**", "soft cap": "(soft cap)"}.get(row.mark, "")
    count = row.tokens.get
    written = count("cache_write_5m_tokens", 0) + count("cache_write_1h_tokens", 0)
    cells = [
        markdown(row.role), f"${format_usd(row.spent)}", f"${format_usd(row.held)}", f"${format_usd(row.cap)}", mark,
        f"{count('input_tokens', 0) + written:,}", f"{count('cache_read_tokens', 0):,}",
        f"{count('output_tokens', 0):,}", f"{count('requests', 0):,}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _assets(report: Report) -> Iterator[str]:
    items = [f"{kind}: {number} (${format_usd(cost)})" for kind, number, cost in report.assets]
    yield from _section("Assets registered today", items, "None.")


def _drift(role: str, computed: int, reported: int) -> str:
    share = f"{100 * (computed - reported) / reported:+.1f} %" if reported else "reported as nothing"
    return f"{markdown(role)}: computed ${format_usd(computed)}, reported ${format_usd(reported)} ({share})"


def _time(text: str) -> str:
    return text[:16].replace("T", " ")
