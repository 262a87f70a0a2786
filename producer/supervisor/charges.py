"""What a run cost that no gateway metered: what it reported, else the most that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from msgspec import ValidationError, convert
from msgspec.structs import asdict

from producer.core.money import MicroUSD
from producer.errors import UnknownModel
from producer.ledger.model import Cost
from producer.supervisor.kernel import Kernel
from producer.supervisor.prices import watched
from producer.supervisor.run import Run
from producer.wire.messages import MOST, Result, Usage


class Charges:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.reload()

    def reload(self) -> None:
        """The configuration was replaced, and with it perhaps the prices."""
        self._prices = watched(self._kernel.config, self._kernel.places)

    def charge(self, run: Run, result: Result) -> None:
        """Book a run whose requests no gateway metered: what it reported, else the most that is known of it."""
        amount, source = result.cost or 0, "invoker"
        if result.cost is None:
            counted = {model: asdict(used) for model, used in result.usage.items()}
            amount, source = max(run.streamed, self.priced(counted)), "stream"
        if run.silent and not amount:
            hold = self._kernel.store.accounts.hold(run.attempt)
            amount, source = (hold[1] if hold else 0), "hold"
        if amount:
            self.book(run.attempt, amount, source, result.usage)

    def book(self, attempt: str, amount: int, source: str, used: Mapping[str, Usage]) -> None:
        """Book an attempt whose requests no gateway metered, once."""
        tokens: dict[str, int] = {}
        for usage in used.values():
            for name, value in asdict(usage).items():
                tokens[name] = tokens.get(name, 0) + value
        model = next(iter(used), self._kernel.options.invoker)
        cost = Cost(attempt, attempt, model, MicroUSD(amount), source, source == "invoker", tokens)
        self._kernel.store.attempts.book(cost)

    def priced(self, usage: Mapping[str, Mapping[str, Any]]) -> int:
        """Token counts by model at the table's prices, in micro-dollars. What has no price counts nothing here."""
        prices, total = self._prices.table(), 0
        for model, counts in usage.items():
            with suppress(UnknownModel, ValueError, ValidationError):
                known = {name: counts[name] for name in Usage.__struct_fields__ if name in counts}
                total += prices.lookup(model).cost_of(convert(known, Usage))  # the class by itself checks nothing
        return min(total, MOST)
