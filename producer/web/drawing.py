"""Charts as plain numbers for the SVG of the templates: where each bar lies. Nothing here knows colours or text sizes.

SVG comes with attributes and classes only: the pages' policy allows no inline style.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from markupsafe import Markup, escape

from producer.core.text import one_line

WIDTH = 1000.0
LANE = 15.0
GAP = 4.0
ROLE_GAP = 24.0
MARKS = 14.0
MOST_LANES = 12
NARROWEST = 2.5
TICKS = 8
STEPS = (15, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


def timeline(flow: dict[str, Any]) -> dict[str, Any]:
    """The night as lanes: {height, roles [{name, y, height}], bars [...], marks [...], ticks [...]}; x from 0 to WIDTH.

    Every role has as many lanes as it had runs at one time, at most MOST_LANES; what is beyond shares the last.
    """
    since, until = float(flow["since"]), float(flow["until"])

    def x(at: float) -> float:
        return round(WIDTH * min(1.0, max(0.0, (at - since) / (until - since))), 2)

    roles: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    top = MARKS + ROLE_GAP
    for role in sorted({row["role"] for row in flow["attempts"]}):
        free: list[float] = []
        for row in (row for row in flow["attempts"] if row["role"] == role):
            lane = _lane(free, row["at"], row["until"] or until)
            begin, end = x(row["at"]), x(row["until"] or until)
            bars.append(
                {**row, "x": min(begin, WIDTH - NARROWEST), "width": round(max(NARROWEST, end - begin), 2),
                 "y": top + lane * (LANE + GAP)}
            )  # fmt: skip
        height = len(free) * (LANE + GAP)
        roles.append({"name": role, "y": top, "height": height})
        top += height + ROLE_GAP
    marks = [{**mark, "x": x(mark["at"])} for mark in flow["marks"]]
    drawn = Markup("".join(_drawn(bar) for bar in bars))
    return {"height": max(top, 60.0), "roles": roles, "bars": bars, "drawn": drawn, "marks": marks,
            "ticks": ticks(since, until)}  # fmt: skip


def _drawn(bar: dict[str, Any]) -> str:
    """One bar as SVG. Hundreds of them take a template ten times as long, and Markup.format four times."""
    begin, end = (_time(at) if at else "now" for at in (bar["at"], bar["until"]))
    error = f", {one_line(bar['error'], 160)}" if bar["error"] else ""
    label = escape(f"{one_line(bar['title'])} (attempt {bar['number']}): {bar['state']}{error}; {begin} to {end}")
    place = f'x="{bar["x"]}" y="{bar["y"]}" width="{bar["width"]}" height="{LANE}" rx="3"'
    return (
        f'<a href="/tasks/{escape(bar["task"])}" tabindex="-1" aria-label="{label}">'
        f'<rect class="bar b-{escape(bar["state"])}" {place}><title>{label}</title></rect></a>'
    )


def _time(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _lane(free: list[float], begin: float, end: float) -> int:
    """The first lane that is free by then; ``free`` holds when each becomes so."""
    for lane, at in enumerate(free):
        if at <= begin:
            free[lane] = end
            return lane
    if len(free) < MOST_LANES:
        free.append(end)
        return len(free) - 1
    free[-1] = max(free[-1], end)
    return len(free) - 1


def ticks(since: float, until: float) -> list[dict[str, Any]]:
    """Round times of the local clock between two moments: {x, at}."""
    step = next((one for one in STEPS if (until - since) / one <= TICKS), STEPS[-1])
    shift = time.localtime(until).tm_gmtoff
    first = math.ceil((since + shift) / step) * step - shift
    count = int((until - first) // step) + 1
    return [
        {"x": round(WIDTH * (first + n * step - since) / (until - since), 2), "at": first + n * step}
        for n in range(count)
    ]


def columns(stacks: Sequence[Sequence[float]], height: float = 120.0, gap: float = 3.0) -> list[list[dict[str, float]]]:
    """A bar chart of stacked columns: for each column its parts from the bottom, {x, y, width, height}."""
    top = max((sum(stack) for stack in stacks), default=0.0)
    width = WIDTH / max(1, len(stacks))
    found = []
    for number, stack in enumerate(stacks):
        y, parts = height, []
        for value in stack:
            part = height * value / top if top else 0.0
            y -= part
            parts.append({"x": round(number * width + gap / 2, 2), "y": round(y, 2), "width": round(width - gap, 2),
                          "height": round(part, 2)})  # fmt: skip
        found.append(parts)
    return found


def share(part: str, whole: str) -> float:
    """A percentage of two exact amounts, from 0 to 100."""
    total = Decimal(whole)
    return float(round(min(Decimal(100), 100 * Decimal(part) / total), 2)) if total else 0.0


def bar(figures: dict[str, str]) -> dict[str, float]:
    """Spent and held within a cap, in percent of it: {spent, held}; both together at most 100."""
    spent = share(figures["spent_usd"], figures["cap_usd"])
    held = min(100.0 - spent, share(figures["held_usd"], figures["cap_usd"]))
    return {"spent": spent, "held": round(held, 2)}
