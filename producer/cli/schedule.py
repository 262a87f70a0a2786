"""`producerctl schedule`: what is filed at set times, and when it comes next."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.core.text import one_line
from producer.ids import from_iso


@click.command()
@json_option
@pass_app
def schedule(app: App, as_json: bool) -> None:
    """Show the scheduled tasks and when each comes next.

    They are written in producer.yaml under `schedule:`. A time that has passed is made up for as soon as a supervisor
    runs and the kill switch is disarmed.

    Example: producerctl schedule
    """
    from producer.ledger.marks import Marks
    from producer.schedule import PREFIX, upcoming

    with app.reader() as reader:
        rows = upcoming(app.config, Marks(reader.db, PREFIX).all(), time.time())
    if as_json:
        screen.show_json(rows)
        return
    if not rows:
        screen.say("nothing is scheduled: see `schedule:` in docs/configuration.md")
        return
    cells = [
        [_local(row), row["timezone"], row["cron"], row["role"], one_line(row["title"], 60), row["last_task"] or ""]
        for row in rows
    ]
    screen.table(["next", "zone", "cron", "role", "title", "last task"], cells, whole=["next", "cron", "last task"])


def _local(row: dict[str, Any]) -> str:
    """The next run, as clocks in the entry's zone show it."""
    if row["next"] is None:
        return "never"

    zone = UTC if row["timezone"] == "UTC" else ZoneInfo(row["timezone"])
    return datetime.fromtimestamp(from_iso(row["next"]), zone).strftime("%a %Y-%m-%d %H:%M")
