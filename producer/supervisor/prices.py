"""The price table, seen by the supervisor: every role's model must have a price; a stale table is told of.

A role whose model has no price is refused before anything starts, as a reload is, and so before any call. Once a UTC
day the table's age is looked at; stale prices still price. A table that cannot be read is told of, too; what runs goes
on with the one that it has.
"""

from __future__ import annotations

from datetime import date

from producer import pricing
from producer.config import ProducerConfig
from producer.errors import ConfigError, PricingError, UnknownModel
from producer.ids import utc_date
from producer.places import Places
from producer.supervisor.auth import Auth
from producer.supervisor.kernel import Kernel

MEMORY = "pricing.looked"
PROJECT_FILE = "pricing.json"


def check_models(config: ProducerConfig, places: Places, auth: Auth) -> None:
    """Raises ConfigError for a role whose model has no price, PricingError for a bad table; not for other invokers."""
    if auth.mode == "none":
        return
    table = pricing.load(places.state / PROJECT_FILE, config.pricing)
    for name, role in config.roles.items():
        try:
            table.lookup(config.model_of(name))
        except UnknownModel as error:
            key = f"budget.agents.{name}.model" if role.model else "default_model"
            raise ConfigError(f"{error} under pricing:", file=config.source, key=key) from None


def watched(config: ProducerConfig, places: Places) -> pricing.Watched:
    """The prices in force for a configuration, while the project's table may change."""
    return pricing.Watched(places.state / PROJECT_FILE, config.pricing)


class Prices:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._looked = kernel.store.meta(MEMORY)

    def tend(self) -> None:
        """Look, where nobody has today."""
        kernel = self._kernel
        today = utc_date(kernel.store.db.now)
        if self._looked == today:
            return
        self._looked = today
        kernel.store.set_meta(MEMORY, today)
        try:
            table = pricing.merged(kernel.places.state / PROJECT_FILE, kernel.config.pricing)
            note = pricing.stale_note(table, date.fromisoformat(today))
        except PricingError as error:
            kernel.notify("pricing", "the price table cannot be read", str(error))
            return
        if note:
            days = pricing.age_days(table, date.fromisoformat(today))
            kernel.audit("pricing_stale", age_days=days, last_updated=str(table.get("last_updated")))
            kernel.notify("pricing", "the price table is out of date", note, push=f"{days} days old")
