"""`producerctl budget`: what is spent, what is held, what is allowed."""

from __future__ import annotations

from typing import Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app


@click.command()
@click.option("--days", type=click.IntRange(1, 366), default=14, show_default=True, help="How many days back.")
@json_option
@pass_app
def budget(app: App, days: int, as_json: bool) -> None:
    """Show what is spent, held and allowed.

    By role and for the project, today (UTC) and by day.

    Example: producerctl budget --days 7
    """
    from producer.cli.snapshot import money

    with app.reader() as reader:
        found: dict[str, Any] = {**money(app, reader), "days": reader.spending_days(days)}
    if as_json:
        screen.show_json(found)
        return
    screen.say(f"{found['date']} (UTC)", "bold")
    rows = [*found["roles"].items(), ("project", found["project"])]
    screen.table(
        ["role", "spent", "held", "cap"],
        [[name, f"${row['spent_usd']}", f"${row['held_usd']}", f"${row['cap_usd']}"] for name, row in rows],
        right=["spent", "held", "cap"],
    )
    if found["days"]:
        screen.say("")
        cells = [[row["date"], row["role"], f"${row['spent_usd']}"] for row in found["days"]]
        screen.table(["day", "role", "spent"], cells, right=["spent"])
