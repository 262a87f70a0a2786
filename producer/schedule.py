"""The schedule of producer.yaml as people see it: what comes next, and what was filed last."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from producer.config import ProducerConfig
from producer.config.blocks import ScheduleEntry
from producer.core.cron import Mark, next_run
from producer.ids import iso

PREFIX = "schedule"


def name(entry: ScheduleEntry) -> str:
    """What an entry's mark is kept under. An entry that comes at other times, or is another task, is another one."""
    told = json.dumps([entry.cron, entry.timezone, entry.role, entry.title])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def zone(entry: ScheduleEntry) -> tzinfo:
    """The time zone that an entry's cron expression is read in."""
    return UTC if entry.timezone == "UTC" else ZoneInfo(entry.timezone)


def mark(fact: Any) -> Mark | None:
    """A mark from what the ledger remembers."""
    return None if fact is None else Mark(float(fact["since"]), fact.get("task"))


def fact(mark: Mark) -> dict[str, Any]:
    """The inverse of ``mark``."""
    return {"since": mark.since, "task": mark.task}


def upcoming(config: ProducerConfig, facts: Mapping[str, Any], now: float) -> list[dict[str, Any]]:
    """Every entry with its next run, soonest first; ``next`` may lie in the past: it is made up for when it can be."""
    rows = []
    for entry in config.schedule:
        known = mark(facts.get(name(entry))) or Mark(now)
        run = next_run(entry.cron, zone(entry), known.since)
        rows.append(
            {
                "cron": entry.cron, "timezone": entry.timezone, "role": entry.role, "title": entry.title,
                "next": None if run is None else iso(run), "last_task": known.task,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: row["next"] or "9")
