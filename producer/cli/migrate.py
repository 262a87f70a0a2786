"""`producerctl migrate`: take a ledger of ai-producer 0.3 over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app

if TYPE_CHECKING:
    from producer.ledger.takeover_report import Report


@click.command()
@click.option("--dry-run", is_flag=True, help="Do it in a file beside the ledger, show the result, and leave nothing.")
@click.option("--broken-log", is_flag=True, help="Take an audit log over whose hashes do not fit; it stays marked.")
@json_option
@pass_app
def migrate(app: App, dry_run: bool, broken_log: bool, as_json: bool) -> None:
    """Take over the ledger of ai-producer 0.3, with a backup.

    Nothing may have the ledger open meanwhile. The new ledger is compared with the old one, value by value, before it
    takes its place; whatever fails leaves the old one as it was. docs/migrating.md says more, and how to go back.

    Example: producerctl migrate --dry-run
    """
    from producer.ledger.migrate import Options
    from producer.ledger.migrate import migrate as take_over

    report = take_over(app.config.ledger_db, Options(app.actor, dry_run, broken_log))
    screen.show_json(report.as_json()) if as_json else _show(report)


def _show(report: Report) -> None:
    if report.done is None:
        backup = f"; the old ledger is {report.backup}" if report.backup else ""
        screen.say(f"{report.ledger} needs no migration: it is this version's{backup}")
        return
    shown = report.as_json()
    screen.table(["table", "rows"], list(shown["rows"].items()), right=["rows"])
    screen.say("")
    money = [[name, *row.values()] for name, row in shown["money"].items()]
    screen.table(["money", "USD before", "USD now", "rounded up by"], money, right=["USD before", "USD now"])
    screen.say("")
    for task in shown["restarted"]:
        screen.say(f"{task} was in progress and is pending")
    for task, reason in shown["escalated"].items():
        screen.say(f"{task} is escalated: {reason}", "yellow")
    for row in shown["renamed"]:
        screen.say(f"{row['after']} is the new id of {row['before']!r}", "yellow")
    for row in shown["changed"]:
        screen.say(f"{row['table']} {row['id']}: {row['column']} {row['problem']}", "yellow")
    log = shown["audit"]
    whole = "whole" if log["broken"] is None else f"BROKEN from row {log['broken']} on"
    screen.say(f"audit log of 0.3: {log['rows']} rows, {whole}, head {log['head']}")
    if report.state == "rehearsed":
        screen.say(f"{report.ledger} can be migrated; nothing was changed")
    else:
        screen.say(f"{report.ledger} is migrated; the old one is {report.backup}", "green")
