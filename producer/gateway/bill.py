"""The scripted model's own bill: one JSON line a request, priced by its own arithmetic.

It shares no code with the gateway's meter or the ledger (rates come straight from the table's text, sums are Decimals),
so that equality of the three says something. A line: at, task, role, turn, messages, model, status, usage, cost_micros,
and whether the stream was cut. It is written before the last byte is sent.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

RATES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "5m": "cache_creation",
    "1h": "cache_creation_1h",
}


class Bill:
    """Appends to ``path``; ``table`` is a price table in the shape of pricing.json."""

    def __init__(self, path: Path, table: Mapping[str, Any]) -> None:
        self.path = path
        self._rows = {name: row for model, row in table["models"].items() for name in (model, *row.get("aliases", ()))}
        self._regions = table.get("inference_geo_multipliers", {})
        self._search = Decimal(str(table.get("web_search_usd", "0.01")))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def price(self, model: str, usage: Mapping[str, Any]) -> int:
        """Micro-dollars for a usage object of the Messages API. Raises KeyError for a model without a price."""
        row = self._rows.get(model) or self._rows[re.sub(r"-\d{8}$", "", model)]
        written = usage["cache_creation"]
        counts = {
            "input_tokens": usage["input_tokens"],
            "output_tokens": usage["output_tokens"],
            "cache_read_input_tokens": usage["cache_read_input_tokens"],
            "5m": written["ephemeral_5m_input_tokens"],
            "1h": written["ephemeral_1h_input_tokens"],
        }
        total = sum(
            (count * Decimal(str(row[f"{RATES[kind]}_per_mtok_usd"])) for kind, count in counts.items()), Decimal(0)
        )
        tier = row.get("long_prompt")
        if tier and sum(counts.values()) - counts["output_tokens"] > tier["above_tokens"]:
            total *= tier["multiplier"]
        if usage.get("speed") == "fast":
            total *= row["fast_multiplier"]
        total *= Decimal(str(self._regions.get(usage.get("inference_geo"), 1)))
        searches = (usage.get("server_tool_use") or {}).get("web_search_requests", 0)
        return int((total + searches * self._search * 1_000_000).to_integral_value(ROUND_CEILING))

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        os.write(self._file, json.dumps({"at": round(time.time(), 3), **line}).encode() + b"\n")

    def faults(self) -> Counter[tuple[str, int, str]]:
        """How often each (task, turn, kind of fault) was played before: so that a restart does not repeat them."""
        return Counter((line["task"], line["turn"], line["fault"]) for line in lines(self.path) if line.get("fault"))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def lines(path: Path) -> list[dict[str, Any]]:
    """The bill's lines; a torn last one is left out."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(text))
        except ValueError:
            continue
    return found


def total(path: Path) -> int:
    """What the whole bill comes to, in micro-dollars."""
    return sum(line["cost_micros"] for line in lines(path))
