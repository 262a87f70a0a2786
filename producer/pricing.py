"""The price table: where it lies, what it may say, how old it is.

1. Three layers, the later wins model by model: the table bundled with the program, the project's own file in its state
   directory (written by `pricing update`, path given by the caller), and the overrides of producer.yaml.
2. Strict: an unknown key, a negative, NaN or text rate, an alias used twice is refused, naming the model and key.
3. Rates are US dollars a million tokens, read as decimal text, so that they are exact.
4. The 0.3.x shape is accepted: a row without a 1-hour rate is priced at twice its input rate, as published ones are.
5. A table older than 90 days is stale: it still prices, and a human is told.
6. Whoever runs on reads the files again when they change; a file that has become bad changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

from producer.core.money import MILLION, parse_usd
from producer.core.pricing import ONE, Price, PriceTable
from producer.errors import MoneyError, PricingError

STALE_AFTER_DAYS = 90
SUFFIX = "_per_mtok_usd"
REQUIRED = ("input", "output", "cache_creation", "cache_read")
TABLE_KEYS = {
    "last_updated",
    "source_url",
    "source",
    "currency",
    "web_search_usd",
    "inference_geo_multipliers",
    "models",
}
MODEL_KEYS = {f"{name}{SUFFIX}" for name in (*REQUIRED, "cache_creation_1h")} | {
    "aliases",
    "fast_multiplier",
    "long_prompt",
}


def bundled() -> dict[str, Any]:
    """The table that ships with the program, parsed."""
    return parse(resources.files("producer").joinpath("pricing.json").read_text(encoding="utf-8"), "pricing.json")


def load(project_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> PriceTable:
    """The prices in force. ``overrides`` maps model ids to rows. Raises PricingError for a bad layer."""
    return build(merged(project_file, overrides))


def merged(project_file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The three layers as one table in the shape of pricing.json."""
    table = bundled()
    if project_file is not None and project_file.exists():
        own = parse(_read(project_file), str(project_file))
        table = {**table, **own, "models": over(table["models"], own["models"])}
    if overrides:
        build({**table, "models": dict(overrides)}, "producer.yaml: pricing")
        table = {**table, "models": over(table["models"], overrides)}
    return table


class Watched:
    """The prices in force while their files may change. ``overrides``: rows, or a JSON file of rows."""

    def __init__(self, project_file: Path, overrides: Mapping[str, Any] | Path | None = None) -> None:
        self._project_file, self._overrides = project_file, overrides
        self._seen: object = None
        self._table: PriceTable | None = None

    def table(self) -> PriceTable:
        """The prices now; a table that is not the one before where something changed. Raises PricingError at first."""
        seen = [_signature(path) for path in (self._project_file, self._overrides) if isinstance(path, Path)]
        if self._table is not None and seen == self._seen:
            return self._table
        self._seen = seen
        try:
            rows = rows_in(self._overrides) if isinstance(self._overrides, Path) else self._overrides
            self._table = load(self._project_file, rows)
        except PricingError:
            if self._table is None:
                raise
        return self._table


def rows_in(path: Path) -> dict[str, Any]:
    """The rows in a file, not yet looked at. Raises PricingError."""
    try:
        rows = json.loads(_read(path), parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PricingError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, dict):
        raise PricingError(f"{path}: must be a JSON object")
    return rows


def parse(text: str, source: str) -> dict[str, Any]:
    """JSON text to a validated table; rates become Decimals. Raises PricingError."""
    try:
        table = json.loads(text, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PricingError(f"{source}: not JSON: {error}") from None
    build(table, source)
    return dict(table)


def build(table: Any, source: str = "pricing") -> PriceTable:
    """A table in the shape of pricing.json to prices. Raises PricingError naming the key."""
    _keys(table, TABLE_KEYS, source)
    if table.get("currency", "USD") != "USD":
        raise PricingError(f"{source}: currency: only USD is known, not {table['currency']!r}")
    if "last_updated" in table:
        _date(table["last_updated"], source)
    if not isinstance(table.get("models"), dict) or not table["models"]:
        raise PricingError(f"{source}: models: at least one model is needed")
    search = _micros(table.get("web_search_usd", Decimal("0.01")), f"{source}: web_search_usd")
    regions = _regions(table.get("inference_geo_multipliers", {"us": Decimal("1.1")}), source)
    prices = {name: _price(name, row, search, regions, source) for name, row in table["models"].items()}
    return PriceTable(prices, _aliases(table["models"], source))


def age_days(table: Mapping[str, Any], today: date) -> int:
    """How many days old a table is. Raises PricingError where it bears no date."""
    return (today - _date(table.get("last_updated"), "pricing")).days


def is_stale(table: Mapping[str, Any], today: date) -> bool:
    """Whether a human should look at the prices again."""
    return age_days(table, today) > STALE_AFTER_DAYS


def stale_note(table: Mapping[str, Any], today: date) -> str | None:
    """What to tell a human about a stale table; None where it is fresh. Raises PricingError."""
    days = age_days(table, today)
    if days <= STALE_AFTER_DAYS:
        return None
    return f"The price table is {days} days old: run producerctl pricing update"


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of ``above`` win with all their rates; what they do not say of names, tiers and fast mode stays."""
    rows = dict(below)
    for name, row in above.items():
        rows[name] = {key: old for key, old in below.get(name, {}).items() if not key.endswith(SUFFIX)} | dict(row)
    return rows


def _price(name: str, row: Any, search: int, regions: Mapping[str, Fraction], source: str) -> Price:
    where = f"{source}: models.{name}"
    _keys(row, MODEL_KEYS, where)
    rates = {}
    for key in REQUIRED:
        if f"{key}{SUFFIX}" not in row:
            raise PricingError(f"{where}.{key}{SUFFIX}: missing")
        rates[key] = _micros(row[f"{key}{SUFFIX}"], f"{where}.{key}{SUFFIX}")
    if not rates["input"] or not rates["output"]:
        raise PricingError(f"{where}: input and output rates must be above 0")
    hour = row.get(f"cache_creation_1h{SUFFIX}")
    above, multiple = _long_prompt(row.get("long_prompt"), where)
    return Price(
        model=name,
        input=rates["input"],
        output=rates["output"],
        write_5m=rates["cache_creation"],
        write_1h=2 * rates["input"] if hour is None else _micros(hour, f"{where}.cache_creation_1h{SUFFIX}"),
        read=rates["cache_read"],
        search=search,
        long_above=above,
        long_multiplier=multiple,
        fast=_multiplier(row["fast_multiplier"], f"{where}.fast_multiplier") if "fast_multiplier" in row else None,
        regions=regions,
    )


def _long_prompt(value: Any, where: str) -> tuple[int | None, Fraction]:
    if value is None:
        return None, ONE
    _keys(value, {"above_tokens", "multiplier"}, f"{where}.long_prompt")
    above = value.get("above_tokens")
    if not isinstance(above, int) or isinstance(above, bool) or above < 1:
        raise PricingError(f"{where}.long_prompt.above_tokens: {above!r} is not a number of tokens")
    return above, _multiplier(value.get("multiplier"), f"{where}.long_prompt.multiplier")


def _regions(value: Any, source: str) -> dict[str, Fraction]:
    where = f"{source}: inference_geo_multipliers"
    if not isinstance(value, dict):
        raise PricingError(f"{where}: must map regions to multipliers")
    return {region: _multiplier(number, f"{where}.{region}") for region, number in value.items()}


def _aliases(models: Mapping[str, Any], source: str) -> dict[str, str]:
    aliases: dict[str, str] = {}
    for name, row in models.items():
        names = row.get("aliases", [])
        if not isinstance(names, list) or not all(isinstance(alias, str) for alias in names):
            raise PricingError(f"{source}: models.{name}.aliases: must be a list of names")
        for alias in names:
            if alias in models or aliases.setdefault(alias, name) != name:
                raise PricingError(f"{source}: models.{name}.aliases: {alias!r} already names another model")
    return aliases


def _micros(value: Any, where: str) -> int:
    """Dollars to an exact whole number of millionths: of a dollar, or of a rate per token."""
    try:
        micros = parse_usd(value)
    except MoneyError as error:
        raise PricingError(f"{where}: {error}") from None
    if isinstance(value, str) or micros != Decimal(str(value)) * MILLION:
        raise PricingError(f"{where}: {value!r} must be a number with at most 6 decimals")
    return int(micros)


def _multiplier(value: Any, where: str) -> Fraction:
    number = Decimal(str(value)) if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool) else None
    if number is None or not number.is_finite() or not 1 <= number <= 1000:
        raise PricingError(f"{where}: {value!r} is not a multiplier between 1 and 1000")
    return Fraction(number)


def _keys(value: Any, allowed: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise PricingError(f"{where}: must be a mapping, not {type(value).__name__}")
    for key in value:
        if key not in allowed:
            raise PricingError(f"{where}: unknown key {key!r}; allowed: {', '.join(sorted(allowed))}")


def _date(value: Any, source: str) -> date:
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise PricingError(f"{source}: last_updated: {value!r} is not a date YYYY-MM-DD") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise PricingError(f"{path}: cannot be read: {error}") from None


def _signature(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
