"""The pages. Each is an ordinary function that runs in a thread, reads what it shows, and renders it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from producer.core.text import many
from producer.errors import UnknownTask
from producer.ledger import browse, trust
from producer.web import api, charts, drawing, model, show
from producer.web.answers import BadRequest
from producer.web.api import desk_of
from producer.web.bodies import number, one
from producer.web.changes import touched

HOURS = (1, 6, 12, 24, 72)
NEEDS_YOU = 8


def now(request: Request) -> Response:
    """What goes on."""
    desk = desk_of(request)
    status = desk.status()
    roles = sorted({*desk.config.roles, *status["roles"]})
    with desk.reader() as reader:
        counts = browse.counts(reader)
        waiting = browse.waiting(reader, roles)
        escalated = browse.tasks(reader, status="escalated", limit=NEEDS_YOU).rows
        approvals, held = browse.approvals(reader, NEEDS_YOU)
        feed, doing = model.feed(desk, reader), model.doing(desk, reader, status)
        alarm = trust.figures(reader.db)["alarm"]
    return show.page(
        request, "now.html", status=status, counts=counts, waiting=waiting, escalated=escalated, approvals=approvals,
        held=held, alarm=alarm, feed=feed, doing=doing, headline=headline(status, counts, held.number),
        bars=_bars(status["budget"]),
    )  # fmt: skip


def headline(status: dict[str, Any], counts: dict[str, browse.Count], held: int) -> tuple[str, str]:
    """The night in a sentence, and in a second one. ``held``: how many tasks wait for somebody's approval."""
    busy = sum(worker["state"] == "busy" for role in status["roles"].values() for worker in role["workers"])
    spent = f"{show.usd(status['budget']['project']['spent_usd'])} spent today"
    needs_you = counts["escalated"].number + held
    needs = f"{many(needs_you, 'task')} {_verb(needs_you)} you"
    waits = f"{counts['pending']} waiting, {counts['blocked']} blocked"
    after = ", ".join([waits, *([needs] if needs_you else []), spent]) + "."
    if status["kill_switch"]["armed"]:
        return "Halted.", f"The kill switch is armed: {status['kill_switch']['reason'] or 'no reason given'}."
    if not status["supervisor"]["running"]:
        how = "No supervisor runs, so nothing changes here: start one with producerctl run."
        return "Nobody is at work.", f"{how} {after}"
    if status["supervisor"].get("answering") is False:
        return "The supervisor is silent.", f"It runs, and does not answer. {after}"
    if busy:
        return f"{many(busy, 'agent')} {'is' if busy == 1 else 'are'} at work.", after
    if counts["pending"].number > held:
        return "About to begin.", after
    return ("Waiting for you." if needs_you else "All quiet."), after


def _verb(number_: int) -> str:
    return "needs" if number_ == 1 else "need"


def _bars(budget: dict[str, Any]) -> dict[str, dict[str, float]]:
    rows = {"project": budget["project"], **{f"role:{role}": row for role, row in budget["roles"].items()}}
    return {name: drawing.bar(row) for name, row in rows.items()}


def tasks(request: Request) -> Response:
    """The queue, by pages. A whole id, or the beginning of one, leads to its task."""
    text = one(request, "text")
    desk = desk_of(request)
    with desk.reader() as reader:
        if text and len(text) >= 8 and model.may_be_id(text):
            try:
                return RedirectResponse(f"/tasks/{reader.resolve(text)}", 303)
            except UnknownTask:
                pass
        counts = browse.counts(reader)
    page = api.listed(request)
    return show.page(
        request, "tasks.html", page=page, counts=counts, roles=sorted(desk.config.roles),
        statuses=("pending", "blocked", *browse.STATUSES[1:]), more=_more(request, page.next),
    )  # fmt: skip


def _more(request: Request, key: int | None) -> str | None:
    """The address of the next page."""
    return None if key is None else str(request.url.include_query_params(before=key)).split("/", 3)[3]


def task(request: Request) -> Response:
    """One task."""
    desk = desk_of(request)
    ident = str(request.path_params["ident"])
    found = model.task(desk, ident)
    said = model.said(desk, ident, found["task"]["attempts"])
    with desk.reader() as reader:
        audit = model.described(desk, reader, found["audit"])
        why = browse.reason(reader, found["task"]) if found["task"]["status"] == "pending" else ""
    return show.page(
        request, "task.html", task=found["task"], audit=audit, escalation=found["escalation_file"], said=said, why=why,
        files=[{**file, "path": desk.near(file["path"])} for file in touched(said)], roles=sorted(desk.config.roles),
    )  # fmt: skip


def new(request: Request) -> Response:
    """The form for a task."""
    desk = desk_of(request)
    return show.page(request, "new.html", roles=sorted(desk.config.roles), limits=desk.config.limits)


def money(request: Request) -> Response:
    """What it costs."""
    hours = number(request, "hours", 1, 168) or 24
    found = charts.money(desk_of(request), hours)
    roles = sorted({role for hour in found["by_hour"] for role in hour["roles"]})
    columns = drawing.columns([[float(hour["roles"].get(role, 0)) for role in roles] for hour in found["by_hour"]])
    return show.page(
        request, "money.html", found=found, legend=roles, columns=columns, bars=_bars(found["budget"]), hours=hours,
        choices=HOURS, most=max((hour["cost_usd"] for hour in found["by_hour"]), key=Decimal),
    )  # fmt: skip


def flow(request: Request) -> Response:
    """How it went."""
    hours = number(request, "hours", 1, 168) or 12
    found = charts.flow(desk_of(request), hours)
    columns = drawing.columns([[step["done"], step["other"]] for step in found["throughput"]], 90.0)
    return show.page(
        request, "flow.html", found=found, columns=columns, timeline=drawing.timeline(found), hours=hours,
        choices=HOURS, most=max(step["done"] + step["other"] for step in found["throughput"]),
    )  # fmt: skip


def audit(request: Request) -> Response:
    """The log."""
    desk = desk_of(request)
    page = api.logged(request)
    with desk.reader() as reader:
        rows = model.described(desk, reader, page.rows)
        chain, actions = model.chain(desk, reader), browse.actions(reader)
    return show.page(request, "audit.html", rows=rows, chain=chain, actions=actions, more=_more(request, page.next))


def reports(request: Request) -> Response:
    """Morning reports, and what a person was told."""
    desk = desk_of(request)
    days = model.reports(desk)
    day = one(request, "day") or (days[0] if days else None)
    text = model.report(desk, day) if day else None
    if day and text is None and one(request, "day"):
        raise BadRequest(f"there is no report of {day}", "day", 404)
    with desk.reader() as reader:
        told = browse.audit(reader, action="notify_human", limit=30).rows
    return show.page(
        request, "reports.html", days=days, day=day, told=told, topic=desk.config.notifications.ntfy_topic,
        text=show.markdown(text) if text is not None else None,
    )  # fmt: skip


ROUTES: tuple[tuple[str, Callable[[Request], Response]], ...] = (
    ("/", now),
    ("/tasks", tasks),
    ("/tasks/new", new),
    ("/tasks/{ident}", task),
    ("/money", money),
    ("/flow", flow),
    ("/audit", audit),
    ("/reports", reports),
)
