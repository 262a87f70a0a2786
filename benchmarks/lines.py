"""Small line charts as one SVG: no library is needed to read it, and none to write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, GAP, COLUMNS = 360, 150, 24, 2
LEFT, TOP, BOTTOM = 8, 44, 22  # inside of a chart
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#555}.name{font-weight:600;fill:#222}"
    "path{fill:none;stroke:#2463b4;stroke-width:1.5}line{stroke:#ccc}rect{fill:#fff}"
)


@dataclass(frozen=True)
class Line:
    """One chart: its name, its unit, and its points."""

    name: str
    unit: str
    points: Sequence[tuple[float, float]]


def draw(lines: Sequence[Line], foot: str) -> str:
    """All charts below each other in two columns; each from zero, with its first, its last and its highest value."""
    rows = -(-len(lines) // COLUMNS)
    wide, high = COLUMNS * WIDTH + (COLUMNS + 1) * GAP, rows * (HEIGHT + GAP) + 2 * GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"><style>{STYLE}</style>']
    parts.append(f'<rect width="{wide}" height="{high}"/>')
    for number, line in enumerate(lines):
        left, top = GAP + number % COLUMNS * (WIDTH + GAP), GAP + number // COLUMNS * (HEIGHT + GAP)
        parts.append(f'<g transform="translate({left} {top})">{_chart(line)}</g>')
    parts.append(f'<text x="{GAP}" y="{high - GAP / 2:g}">{escape(foot)}</text></svg>')
    return "\n".join(parts) + "\n"


def _chart(line: Line) -> str:
    highest = max(y for _, y in line.points)
    across, up = max(x for x, _ in line.points) or 1.0, highest or 1.0
    room = HEIGHT - TOP - BOTTOM
    path = " ".join(
        f"{'ML'[index > 0]}{LEFT + x / across * (WIDTH - 2 * LEFT):.1f} {TOP + (1 - y / up) * room:.1f}"
        for index, (x, y) in enumerate(line.points)
    )
    unit = f" {line.unit}" if line.unit else ""
    words = f"first {_figure(line.points[0][1])}, last {_figure(line.points[-1][1])}, highest {_figure(highest)}{unit}"
    floor = HEIGHT - BOTTOM
    return (
        f'<text class="name" x="{LEFT}" y="14">{escape(line.name)}</text><text x="{LEFT}" y="31">{escape(words)}</text>'
        f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - LEFT}" y2="{floor}"/><path d="{path}"/>'
        f'<text x="{LEFT}" y="{HEIGHT - 6}">0</text>'
        f'<text x="{WIDTH - LEFT}" y="{HEIGHT - 6}" text-anchor="end">{across:,.0f} tasks</text>'
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
