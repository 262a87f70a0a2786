"""Seed files: a JSON list of tasks, as `producerctl task import` and LedgerClient.seed_from_json take it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from producer.core.lifecycle import TaskState
from producer.errors import InvalidTask, WireError
from producer.ledger.checks import DRAFT_KEYS
from producer.wire.codec import strict_json


def read_seed(path: Path) -> list[dict[str, Any]]:
    """The tasks of a seed file: a JSON list of objects. Raises InvalidTask naming what is wrong."""
    try:
        data = strict_json(path.read_bytes())
    except (OSError, WireError) as error:
        raise InvalidTask(f"{path}: {error}") from None
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise InvalidTask(f"{path}: must be a JSON list of objects")
    return [_seed_task(f"{path}: task {number}", item) for number, item in enumerate(data, 1)]


def _seed_task(where: str, item: Mapping[str, Any]) -> dict[str, Any]:
    known = {*DRAFT_KEYS, "id", "status", "created_at"}
    unknown = sorted(set(item) - known)
    if unknown:
        raise InvalidTask(f"{where}: unknown key {unknown[0]!r}: use {', '.join(sorted(known))}")
    if item.get("status", "pending") != TaskState.PENDING:
        raise InvalidTask(f"{where}: status: a task to be filed is pending")
    kept = {name: value for name, value in item.items() if name not in ("status", "created_at")}
    return {("task_id" if name == "id" else name): value for name, value in kept.items()}
