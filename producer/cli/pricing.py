"""`producerctl pricing`: the prices in force, and new ones."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import UsageError

PROJECT_FILE = "pricing.json"
CHANGES_KEPT = 200
RATES = ("input", "output", "cache_creation", "cache_creation_1h", "cache_read")


@click.group(no_args_is_help=False)
def pricing() -> None:
    """What models cost, for caps and reports.

    Example: producerctl pricing show
    """


@pricing.command()
@json_option
@pass_app
def show(app: App, as_json: bool) -> None:
    """Show the prices in force: the shipped table, the project's own, producer.yaml's; the later wins.

    Example: producerctl pricing show --json
    """
    table = project_table(app)
    if as_json:
        screen.show_json(_plain(table))
        return
    screen.table(
        ["model", "input", "output", "write 5m", "write 1h", "read", "also"],
        [
            [name, *(_rate(row, rate) for rate in RATES), ", ".join(row.get("aliases", ()))]
            for name, row in table["models"].items()
        ],
        right=["input", "output", "write 5m", "write 1h", "read"],
        whole=["model"],
    )
    screen.say(f"US dollars per million tokens; as of {table.get('last_updated', '?')}, {table.get('source', '?')}")


@pricing.command()
@click.option("--url", metavar="URL", help="Ask this address for a table in the shape of pricing.json.")
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="Take the table from this file.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@json_option
@pass_app
def update(app: App, url: str | None, file: Path | None, dry_run: bool, as_json: bool) -> None:
    """Take over new prices, into the project's state.

    From --file or --url, else from PRODUCER_PRICING_URL, else from the address of the update before; nobody publishes
    such a table at a fixed address. Models that it does not name keep their prices; a malformed table and a price of
    zero are refused. A running supervisor takes them over by itself.

    Example: producerctl pricing update --url https://example.com/pricing.json --dry-run
    """
    from producer import pricing as prices
    from producer.cli import repricing

    if url and file:
        raise UsageError("give --url or --file, not both")
    path = app.places.state / PROJECT_FILE
    where = str(file) if file else repricing.source(path, url, os.environ)
    text = repricing.read(file) if file else repricing.fetch(where)
    table = repricing.merged(text, where, path, fetched=file is None)
    force = prices.merged(path)
    after = {**force, **table, "models": prices.over(force["models"], table["models"])}
    changes = list(repricing.difference(force, after))
    if not dry_run:
        _take(app, table, path, where, changes)
    if as_json:
        screen.show_json({"source": where, "changed": not dry_run, "changes": changes})
        return
    for line in changes:
        screen.say(line)
    screen.note("nothing was changed" if dry_run else f"{path} is in force")


def _take(app: App, table: dict[str, Any], path: Path, where: str, changes: list[str]) -> None:
    """The audit row first, then the table: a row too many is seen, a table that nobody knows of is not."""
    from producer.cli import repricing

    app.places.make()
    fresh = repricing.stage(table, path)
    try:
        with app.client() as ledger:
            detail = {"source": where, "last_updated": str(table["last_updated"]), "changes": changes[:CHANGES_KEPT]}
            ledger.append_audit(agent_owner=app.actor, action="pricing_updated", detail=detail)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def project_table(app: App) -> dict[str, Any]:
    """The table in force for the project, in the shape of pricing.json. Raises PricingError."""
    from producer import pricing as prices

    return prices.merged(app.places.state / PROJECT_FILE, app.config.pricing)


def _rate(row: dict[str, Any], name: str) -> str:
    value = row.get(f"{name}_per_mtok_usd")
    if value is None:  # a row in the 0.3.x shape: an hour costs twice the input
        value = 2 * Decimal(str(row["input_per_mtok_usd"]))
    return f"{Decimal(str(value)).normalize():f}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value
