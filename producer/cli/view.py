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
    from rich.text import Text

LEAST_NEWS = 3
LEAST_WORKERS = 4
TABLE_LINES = 3  # two lines of head, and a blank one
SHOWN = ("pending", "blocked", "in_progress", "done", "failed", "escalated", "killed")
RARE = ("blocked", "failed", "killed")


def render(board: Board, now: float, width: int, height: int) -> RenderableType:
    """The whole view: no higher than the terminal, and no line of it wider."""
    from rich.console import Group
    from rich.text import Text

    if not board.status:
        return Text("waiting for the supervisor")
    head, blank = _head(board.status), Text("")
    sums = [_queue(board.status), *_money(board.status, width), Text(f"speed    {board.rate(now):.0f} tokens/s")]
    for which, why in board.escalated:
        sums.append(Text(f"needs you  {one_line(which)}", "bold red"))
        sums += [Text(f"           {one_line(why)}", "red")] if why else []
    left = height - len(head) - len(sums) - 3  # two blank lines, and the cursor's
    table: list[RenderableType] = []
    if not board.status["supervisor"].get("finished"):
        grid = _workers(board, now, max(LEAST_WORKERS, left - LEAST_NEWS - TABLE_LINES))
        table, left = [grid, blank], left - grid.row_count - TABLE_LINES
    news = [Text(line, style="dim") for line in [*board.tail][-left:]] if left > 0 else []
    for line in (*head, *sums, *news):
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*head, blank, *table, *sums, blank, *news)


def _head(status: dict[str, Any]) -> list[Text]:
    """The project and its supervisor; below it the kill switch, where it is armed."""
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
    if not switch["armed"]:
        return [head]
    return [head, screen.text(f"KILL SWITCH ARMED: {switch['reason'] or 'no reason given'}", "bold red")]


def _workers(board: Board, now: float, most: int) -> Table:
    from rich import box
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold", expand=True)
    for name, ratio in (("role", None), ("state", None), ("task", 3), ("does now", 4)):
        grid.add_column(name, ratio=ratio, no_wrap=True, overflow="ellipsis")
    for name in ("s", "$"):
        grid.add_column(name, justify="right", no_wrap=True)
    lines = board.lines(now)
    held = {role: row for role, row in board.status["roles"].items() if row["state"] != "ok"}
    most = max(LEAST_WORKERS, most - len(held) - 1) if len(lines) + len(held) > most else len(lines)
    for line in lines[:most]:
        seconds = f"{line.seconds:.0f}" if line.task else ""
        cost = _usd(line.cost) if line.task else ""
        cells = [f"{line.role} {line.slot}", line.state, line.task, line.doing, seconds, cost]
        grid.add_row(*(screen.text(cell) for cell in cells))
    if len(lines) > most:
        grid.add_row(screen.text(f"and {len(lines) - most} more", "dim"))
    for role, row in held.items():
        until = f"until {_clock(row['until'])}" if row.get("until") else ""
        grid.add_row(*(screen.text(cell) for cell in (role, row["state"], row.get("reason") or "", until)))
    return grid


def _queue(status: dict[str, Any]) -> Text:
    """How many tasks are in each state; of those that are rare only what there is."""
    from rich.text import Text

    line = Text("queue    ")
    for name in SHOWN:
        number = status["queue"][name]
        if number or name not in RARE:
            line.append(f"{number} {name.replace('_', ' ')}   ", screen.STYLES.get(name, "") if number else "dim")
    return line


def _money(status: dict[str, Any], width: int) -> list[Text]:
    """The project, and the roles that spent or hold something, as many on a line as fit."""
    from rich.text import Text

    budget, lines = status["budget"], [Text("money    ")]
    for name, row in [("project", budget["project"]), *budget["roles"].items()]:
        if name == "project" or row["spent_usd"] != "0.00" or row["held_usd"] != "0.00":
            held = f" + {_usd(row['held_usd'])} held" if row["held_usd"] != "0.00" else ""
            part = f"{one_line(name)} ${_usd(row['spent_usd'])}{held} of {row['cap_usd']}"
            if len(lines[-1]) > len("money    ") and len(lines[-1]) + len(part) > width:
                lines.append(Text("         "))
            lines[-1].append(f"{part}   ")
    for line in lines:
        line.rstrip()
    return lines


def _usd(text: str) -> str:
    """Exact dollars to a tenth of a cent, rounded up."""
    return str(Decimal(text).quantize(Decimal("0.001"), ROUND_CEILING))


def _clock(text: str) -> str:
    """An ISO moment as this machine's time of day."""
    return datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S")
