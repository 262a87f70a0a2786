"""A new price table for a project: where it comes from, what is refused, how it is written.

1. No vendor publishes prices as JSON at a fixed address: the source is --file, --url, PRODUCER_PRICING_URL, or the
   address of the update before this one. Without any of them nothing is asked, and the message says so.
2. Only https is asked (http on this machine itself), redirects are not followed, a body has at most a megabyte.
3. An answer is refused as a whole: where it is malformed, or where a rate that is known would become zero. A cap that
   is reckoned with wrong prices is no cap.
4. What the answer does not name stays: models, regions, and of a model its names, tiers and fast mode.
5. The table is written whole or not at all, into the project's state; a gateway that runs takes it over by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from producer import pricing
from producer.errors import PricingError, PricingRefused, UsageError
from producer.version import __version__

VARIABLE = "PRODUCER_PRICING_URL"
MAX_BYTES = 1 << 20
SECONDS = 20.0


def source(project_file: Path, url: str | None, env: Mapping[str, str]) -> str:
    """The address to ask. Raises UsageError where nobody named one, or where it is no address to ask."""
    before = project_table(project_file).get("source_url")
    found = url or env.get(VARIABLE) or before
    if not found:
        page = pricing.bundled()["source_url"]
        raise UsageError(
            f"no source of prices is set: they are published as a page for people ({page}), not as JSON; name a table "
            f"in the shape of pricing.json with --file or --url, or set {VARIABLE}"
        )
    parts = urlsplit(found)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        raise UsageError(f"{found}: only https addresses are asked for prices")
    return str(found)


def fetch(url: str) -> str:
    """The text at an address. Raises PricingRefused."""
    import httpx

    headers = {"accept": "application/json", "user-agent": f"ai-producer/{__version__}"}
    body = b""
    try:
        with httpx.stream("GET", url, timeout=SECONDS, follow_redirects=False, headers=headers) as response:
            if response.status_code != 200:
                raise PricingRefused(f"{url}: answered {response.status_code}; nothing was changed")
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise PricingRefused(f"{url}: the answer is over {MAX_BYTES} bytes; nothing was changed")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise PricingRefused(f"{url}: {error or type(error).__name__}; nothing was changed") from None
    return _text(body, url)


def read(path: Path) -> str:
    """The text of a file. Raises PricingRefused."""
    try:
        with path.open("rb") as file:
            return _text(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        raise PricingRefused(f"{path}: cannot be read: {error.strerror}; nothing was changed") from None


def project_table(path: Path) -> dict[str, Any]:
    """The project's own table; empty where there is none. Raises PricingError."""
    return pricing.parse(read(path), str(path)) if path.exists() else {}


def merged(answer: str, where: str, project_file: Path, fetched: bool) -> dict[str, Any]:
    """The project's next table. Raises PricingRefused where the answer may not be taken."""
    try:
        new = pricing.parse(answer, where)
    except PricingError as error:
        raise PricingRefused(f"{error}; nothing was changed") from None
    own, force = project_table(project_file), pricing.merged(project_file)
    _no_zero(new, force, where)
    table = {**own, **{key: value for key, value in new.items() if key not in ("source", "source_url")}}
    table["models"] = pricing.over(own.get("models", {}), new["models"])
    if regions := own.get("inference_geo_multipliers", force.get("inference_geo_multipliers")):
        table["inference_geo_multipliers"] = {**regions, **new.get("inference_geo_multipliers", {})}
    table["source"] = where
    if fetched:
        table["source_url"] = where
    if "last_updated" not in new:
        table["last_updated"] = datetime.now(UTC).date().isoformat()
    bundled = pricing.bundled()
    try:
        pricing.build({**bundled, **table, "models": pricing.over(bundled["models"], table["models"])}, where)
    except PricingError as error:
        raise PricingRefused(f"{error}; nothing was changed") from None
    return table


def difference(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """What differs between two tables, a line each: `models.NAME.key: 3 -> 2`."""
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        where = f"{prefix}.{key}" if prefix else key
        if isinstance(old, dict) and isinstance(new, dict):
            yield from difference(old, new, where)
        elif isinstance(new, dict) and old is None:
            yield from difference({}, new, where)
        elif old != new:
            yield f"{where}: {_brief(old)} -> {_brief(new)}"


def stage(table: Mapping[str, Any], path: Path) -> Path:
    """Write the table beside its place; the caller puts it there with ``replace``."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(json.dumps(table, indent=2, default=_number) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise PricingRefused(f"{path}: cannot be written: {error.strerror}; nothing was changed") from None
    return fresh


def _no_zero(new: Mapping[str, Any], force: Mapping[str, Any], where: str) -> None:
    known = {alias: name for name, row in force["models"].items() for alias in row.get("aliases", ())}
    for name, row in new["models"].items():
        old = force["models"].get(known.get(name, name), {})
        for key, value in row.items():
            if key.endswith(pricing.SUFFIX) and not value and old.get(key):
                raise PricingRefused(f"{where}: models.{name}.{key}: {old[key]} would become 0; nothing was changed")
    if "web_search_usd" in new and not new["web_search_usd"] and force.get("web_search_usd"):
        raise PricingRefused(f"{where}: web_search_usd: {force['web_search_usd']} would become 0; nothing was changed")


def _text(body: bytes, where: str) -> str:
    if len(body) > MAX_BYTES:
        raise PricingRefused(f"{where}: over {MAX_BYTES} bytes; nothing was changed")
    try:
        return body.decode("utf-8")
    except UnicodeError:
        raise PricingRefused(f"{where}: not JSON: not UTF-8; nothing was changed") from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _brief(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return "(none)" if value is None else str(value)


def _number(value: object) -> float | int:
    assert isinstance(value, Decimal)
    return int(value) if value == value.to_integral_value() else float(value)
