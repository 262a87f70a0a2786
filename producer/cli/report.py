"""`producerctl report`: the morning report, now or of another day."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from producer import killswitch
from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import PricingError


@click.command()
@click.option("--date", metavar="YYYY-MM-DD", help="The UTC day; default today.")
@json_option
@pass_app
def report(app: App, date: str | None, as_json: bool) -> None:
    """Write the morning report and print its path.

    It is Markdown in reports_dir; a terminal shows it, too.

    Example: producerctl report --date 2026-05-06
    """
    from producer.ledger.report import Caps, build, parse_date, write
    from producer.ledger.report_text import as_json as to_json
    from producer.ledger.report_text import render

    day = parse_date(date)
    switch = killswitch.read(app.config.kill_switch)
    with app.reader() as reader:
        found = build(
            reader, Caps.of(app.config), day, switch=switch, pricing_note=pricing_note(app), state=app.places.state
        )
    path = write(found, app.config.reports_dir)
    with app.client(create=False) as ledger:
        ledger.append_audit(
            agent_owner=app.actor, action="morning_report", detail={"date": found.date, "file": path.name}
        )
    if as_json:
        screen.show_json({**to_json(found), "path": str(path)})
        return
    if screen.terminal():
        screen.show_markdown(render(found))
    screen.say(path)


def pricing_note(app: App) -> str | None:
    """The banner of a price table that should be looked at again; None where it is fresh."""
    from producer import pricing
    from producer.cli.pricing import project_table

    try:
        days = pricing.age_days(project_table(app), datetime.now(UTC).date())
    except PricingError as error:
        return f"The price table cannot be read: {error}"
    if days <= pricing.STALE_AFTER_DAYS:
        return None
    return f"The price table is {days} days old: run producerctl pricing update"
