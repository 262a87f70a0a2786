"""The live table: a Board as something that rich can draw."""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any

from producer.cli import screen
from producer.cli.board import Board
from producer.core.text import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

FRAME_LINES = 14  # everything that is not a worker, with the least of news
LEAST_NEWS = 6
TABLE_LINES = 3  # around the workers
SHOWN = ("pending", "blocked", "in_progress", "done", "failed", "escalated", "killed")


def render(board: Board, now: float, height: int) -> RenderableType:
    """The whole view, no higher than the terminal."""
    from rich.console import Group
    from rich.text import Text

    if not board.status:
        return Text("waiting for the supervisor")
    parts: list[RenderableType] = [_head(board.status)]
    if not board.status["supervisor"].get("finished"):
        parts.append(_workers(board, now, max(4, height - FRAME_LINES)))
    parts += [_queue(board.status), *_money(board.status), Text(f"speed    {board.rate(now):.0f} tokens/s", "cyan")]
    parts += [
        Text(f"needs you  {one_line(line)}", "bold red", no_wrap=True, overflow="ellipsis") for line in board.escalated
    ]
    parts.append(Text(""))
    shown = len(board.lines(now)) + sum(row["state"] != "ok" for row in board.status["roles"].values())
    room = max(LEAST_NEWS, height - shown - len(parts) - TABLE_LINES)
    parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in [*board.tail][-room:]]
    return Group(*parts)


def _head(status: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    supervisor, switch = status["supervisor"], status["kill_switch"]
    head = Text()
    head.append_text(screen.text(status.get("project", ""), "bold"))
    head.append("  ")
    if supervisor.get("finished"):
        head.append("finished", "green")
    elif supervisor["running"]:
        head.append(f"running since {_clock(supervisor['since'])}", "green")
    else:
        head.append("no supervisor is running", "yellow")
    if status.get("rehearsal"):
        head.append("  rehearsal: scripted model, nothing is spent", "cyan")
    if switch["armed"]:
        head.append("  KILL SWITCH ARMED: ", "bold red")
        head.append_text(screen.text(switch["reason"] or "no reason given", "red"))
    return head


def _workers(board: Board, now: float, most: int) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold", expand=True)
    for name, ratio in (("role", None), ("state", None), ("task", 3), ("does now", 4)):
        grid.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
    for name in ("s", "$"):
        grid.add_column(name, justify="right", no_wrap=True)
    lines = board.lines(now)
    for line in lines[:most]:
        seconds = f"{line.seconds:.0f}" if line.task else ""
        cost = _usd(line.cost) if line.task else ""
        cells = [f"{line.role} {line.slot}", line.state, line.task, line.doing, seconds, cost]
        grid.add_row(*(screen.text(cell) for cell in cells))
    if len(lines) > most:
        grid.add_row(screen.text(f"and {len(lines) - most} more", "dim"))
    for role, row in board.status["roles"].items():
        if row["state"] != "ok":
            until = f"until {_clock(row['until'])}" if row.get("until") else ""
            grid.add_row(*(screen.text(cell) for cell in (role, row["state"], row.get("reason") or "", until)))
    return grid


def _queue(status: dict[str, Any]) -> RenderableType:
    from rich.text import Text

    line = Text("queue    ")
    for name in SHOWN:
        number = status["queue"][name]
        style = screen.STYLES.get(name, "") if number else "dim"
        line.append(f"{number} {name.replace('_', ' ')}   ", style)
    return line


def _money(status: dict[str, Any]) -> list[RenderableType]:
    """The project, and the roles that spent or hold something, three a line."""
    from rich.text import Text

    budget, parts = status["budget"], list[str]()
    for name, row in [("project", budget["project"]), *budget["roles"].items()]:
        if name == "project" or row["spent_usd"] != "0.00" or row["held_usd"] != "0.00":
            held = f" + {_usd(row['held_usd'])} held" if row["held_usd"] != "0.00" else ""
            parts.append(f"{name} ${_usd(row['spent_usd'])}{held} of {row['cap_usd']}")
    rows = [parts[start : start + 3] for start in range(0, len(parts), 3)]
    return [
        Text("money    " if not number else "         ", no_wrap=True, overflow="ellipsis").append("   ".join(row))
        for number, row in enumerate(rows)
    ]


def _usd(text: str) -> str:
    """Exact dollars to a tenth of a cent, rounded up."""
    return str(Decimal(text).quantize(Decimal("0.001"), ROUND_CEILING))


def _clock(text: str) -> str:
    """An ISO moment as this machine's time of day."""
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")
