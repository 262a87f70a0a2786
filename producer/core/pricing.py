"""What a model request costs: exact arithmetic, and nothing else.

1. A rate is a whole number of pico-dollars a token ($1 a million tokens = 1,000,000 of them); a multiplier is a
   fraction. So every sum is exact, and a request is rounded ONCE, up, to whole micro-dollars.
2. A prompt's length is input + cache reads + cache writes. Above a model's `long_prompt` limit every token of the
   request costs the multiple; fast mode and the inference region multiply on top. Web searches are never multiplied.
   (All of this equals what the claude CLI computes for the same usage.)
3. A model, speed or region without a price raises UnknownModel: nothing is ever priced as $0.
4. A worst case assumes the dearest thing that may still happen: every prompt token written to the cache, every
   allowed output token produced, the dearest region where the request names none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from producer.core.money import MicroUSD
from producer.errors import UnknownModel

PICO = 1_000_000  # pico-dollars in a micro-dollar
ONE = Fraction(1)
PLAIN_SPEEDS = (None, "standard")
PLAIN_REGIONS = (None, "global", "not_available")
_DATED = re.compile(r"-\d{8}$")


class Counts(Protocol):
    """Token counts of one response; ``producer.wire.messages.Usage`` is one. Input excludes what the cache served."""

    @property
    def input_tokens(self) -> int:
        """Prompt tokens that no cache served or took."""

    @property
    def output_tokens(self) -> int:
        """Tokens produced, thinking included."""

    @property
    def cache_read_tokens(self) -> int:
        """Prompt tokens read from the cache."""

    @property
    def cache_write_5m_tokens(self) -> int:
        """Prompt tokens written to the cache for five minutes."""

    @property
    def cache_write_1h_tokens(self) -> int:
        """Prompt tokens written to the cache for an hour."""

    @property
    def web_searches(self) -> int:
        """Searches made by the API's own tool."""


@dataclass(frozen=True)
class Price:
    """The rates of one model in pico-dollars a token; ``search`` in micro-dollars each."""

    model: str
    input: int
    output: int
    write_5m: int
    write_1h: int
    read: int
    search: int = 10_000
    long_above: int | None = None
    long_multiplier: Fraction = ONE
    fast: Fraction | None = None
    regions: Mapping[str, Fraction] = field(default_factory=dict)

    def cost_of(self, usage: Counts, *, speed: str | None = None, geo: str | None = None) -> MicroUSD:
        """What a response with this usage costs, rounded up once.

        A region that the table does not know costs as the dearest known one. Raises UnknownModel for a speed without
        a price.
        """
        prompt = (
            usage.input_tokens + usage.cache_read_tokens + usage.cache_write_5m_tokens + usage.cache_write_1h_tokens
        )
        picos = (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * self.read
            + usage.cache_write_5m_tokens * self.write_5m
            + usage.cache_write_1h_tokens * self.write_1h
        )
        region = ONE if geo in PLAIN_REGIONS else self._region(geo)
        return self._round(picos * self._multiplier(prompt, speed) * region, usage.web_searches)

    def worst_case(
        self,
        input_bound: int,
        max_tokens: int,
        *,
        cache_1h: bool = True,
        speed: str | None = None,
        geo: str | None = None,
        searches: int = 0,
    ) -> MicroUSD:
        """The most that a request of at most ``input_bound`` prompt and ``max_tokens`` output tokens can cost."""
        picos = input_bound * self._dearest_input(cache_1h) + max_tokens * self.output
        return self._round(picos * self._worst_multiplier(input_bound, speed, geo), searches)

    def affordable_output_tokens(
        self,
        amount: int,
        input_bound: int,
        *,
        cache_1h: bool = True,
        speed: str | None = None,
        geo: str | None = None,
        searches: int = 0,
    ) -> int:
        """The largest ``max_tokens`` whose worst case is within ``amount`` micro-dollars; negative: not the input."""
        each = self.output * self._worst_multiplier(input_bound, speed, geo)
        inputs = input_bound * self._dearest_input(cache_1h) * self._worst_multiplier(input_bound, speed, geo)
        left = Fraction((amount - searches * self.search) * PICO) - inputs
        return int(left // each) if each else (2**31 if left >= 0 else -1)

    def _dearest_input(self, cache_1h: bool) -> int:
        return max(self.input, self.write_5m, self.write_1h if cache_1h else 0)

    def _multiplier(self, prompt: int, speed: str | None) -> Fraction:
        long = self.long_multiplier if self.long_above is not None and prompt > self.long_above else ONE
        if speed in PLAIN_SPEEDS:
            return long
        if speed != "fast" or self.fast is None:
            raise UnknownModel(f"{self.model} at speed {speed}")
        return long * self.fast

    def _worst_multiplier(self, prompt: int, speed: str | None, geo: str | None) -> Fraction:
        region = ONE if geo == "global" else self._region(geo)
        return max(self._multiplier(prompt, speed), self._multiplier(0, speed)) * max(region, ONE)

    def _region(self, geo: str | None) -> Fraction:
        dearest = max(self.regions.values(), default=ONE)
        return self.regions.get(geo, dearest) if geo is not None else dearest

    def _round(self, picos: Fraction, searches: int) -> MicroUSD:
        return MicroUSD(-(-picos // PICO) + searches * self.search)


@dataclass(frozen=True)
class PriceTable:
    """Prices by model id, with the other names they go by."""

    prices: Mapping[str, Price]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def lookup(self, model: str) -> Price:
        """The price of a model by its id, a dated id, an alias, or an id without `claude-`. Raises UnknownModel."""
        for name in (model, _DATED.sub("", model), f"claude-{model}", _DATED.sub("", f"claude-{model}")):
            price = self.prices.get(self.aliases.get(name, name))
            if price is not None:
                return price
        raise UnknownModel(model)
