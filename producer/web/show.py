"""Rendering: Jinja2 with autoescape, and the few filters that put figures into people's words."""

from __future__ import annotations

import json
import time
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from producer.core.text import visible
from producer.errors import ProducerError
from producer.ids import from_iso, iso
from producer.version import __version__

THEMES = ("light", "dark")
WORDS = {"in_progress": "running", "succeeded": "done"}
ICONS = {
    "pending": "wait", "blocked": "lock", "in_progress": "run", "done": "done", "failed": "fail", "escalated": "flag",
    "killed": "stop", "running": "run", "succeeded": "done", "lost": "fail", "cancelled": "stop", "throttled": "wait",
    "idle": "idle", "busy": "run", "starting": "wait", "draining": "wait", "suspect": "fail", "ok": "done",
    "capped": "lock",
}  # fmt: skip


@cache
def environment() -> Environment:
    """The templates."""
    found = Environment(
        loader=PackageLoader("producer.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {
        "usd": usd, "clock": clock, "minute": minute, "hour": hour, "day": day, "duration": duration, "number": number,
        "plain": visible, "pretty": pretty, "word": word, "icon": icon, "seconds": from_iso, "iso": iso,
    }  # fmt: skip
    return found


def page(request: Request, template: str, code: int = 200, /, **context: Any) -> Response:
    """A page, in the frame that all pages share."""
    session = request.scope.get("session")
    desk = request.app.state.desk
    if "status" not in context:
        context["status"] = standing(request)
    theme = request.cookies.get("producer_theme", "")
    text = environment().get_template(template).render(
        project=desk.config.project_name, csrf=session.csrf if session else "", version=__version__,
        theme=theme if theme in THEMES else "auto", path=request.url.path, query=dict(request.query_params),
        now=time.time(), **context,
    )  # fmt: skip
    return Response(text.encode("utf-8", "replace"), code, media_type="text/html")


def standing(request: Request) -> dict[str, Any] | None:
    """What the frame shows of the supervisor and the switch; None where not even the ledger can be read."""
    try:
        found: dict[str, Any] = request.app.state.desk.status()
    except ProducerError:
        return None
    return found


def failure(request: Request, status: int, error: str) -> Response:
    """A page that says what went wrong."""
    try:
        return page(request, "failure.html", status, error=error, number_=status)
    except Exception:  # the page that reports a failure must not fail itself
        return HTMLResponse("<!doctype html><title>Dashboard</title><p>The dashboard failed.</p>", status)


def markdown(text: str) -> Markup:
    """Markdown of ours as HTML: no HTML in it, no styles, no images."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])
    tokens = parser.parse(text)
    for token in tokens:
        if "right" in str(token.attrs.pop("style", "")):
            token.attrs["class"] = "num"
    return Markup(parser.renderer.render(tokens, parser.options, {}))


# ---- filters


def usd(amount: str | None) -> str:
    """An exact amount for reading: two decimals, four below a dollar's cent."""
    if amount is None:
        return "–"
    value = Decimal(amount)
    places = 2 if value == 0 or abs(value) >= Decimal("0.1") else 4
    return f"${value:,.{places}f}"


def clock(at: str | float | None) -> str:
    """A moment as local time of day, with the day where it is not today."""
    if at is None:
        return "–"
    moment = datetime.fromtimestamp(from_iso(at) if isinstance(at, str) else at)
    same = moment.date() == datetime.now().date()
    return moment.strftime("%H:%M:%S" if same else "%b %-d, %H:%M")


def minute(at: str) -> str:
    """A moment to come, of the ledger's, as local time to the minute."""
    return datetime.fromtimestamp(from_iso(at)).strftime("%H:%M")


def hour(at: float) -> str:
    """A moment as the label of an axis."""
    return datetime.fromtimestamp(at).strftime("%H:%M:%S" if at % 60 else "%H:%M")


def day(text: str) -> str:
    """YYYYMMDD or YYYY-MM-DD as words."""
    return datetime.strptime(text.replace("-", ""), "%Y%m%d").strftime("%A, %-d %B %Y")


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def number(value: int) -> str:
    """With thousands apart."""
    return f"{value:,}"


def pretty(value: Any) -> str:
    """JSON for reading."""
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


def word(state: str) -> str:
    """A state as a word."""
    return WORDS.get(state, state).replace("_", " ")


def icon(state: str) -> str:
    """The name of a state's icon."""
    return ICONS.get(state, "idle")
