"""`producerctl pricing`: the prices in force."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app

PROJECT_FILE = "pricing.json"
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
    )
    screen.say(f"US dollars per million tokens; as of {table.get('last_updated', '?')}, {table.get('source', '?')}")


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
