"""What a claude session's transcript on disk says, before it is taken up again.

CLAUDE_CONFIG_DIR/projects/<slug>/<session>.jsonl: one JSON object a line. The CLI tolerates a cut tail and garbage
lines, and goes back from the newest message by `parentUuid` until it finds no more. Where a line on that way is lost
(on a full disk it writes none and goes on) it would silently resume without what came before, its task among it: such
a transcript is damaged. Spend is kept in `cost-state` lines, written when a process leaves in good order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.core.money import ZERO, MicroUSD, parse_usd
from producer.errors import MoneyError


@dataclass(frozen=True)
class Transcript:
    """``exists``: there is a file; ``usable``: it holds something to resume; ``prompted``: the prompt is in it.

    ``spent`` is what the CLI says the session has cost up to its last orderly end.
    """

    exists: bool = False
    usable: bool = False
    prompted: bool = False
    spent: MicroUSD = ZERO


def inspect(config_dir: Path, session_id: str) -> Transcript:
    """Read a session's transcript. A file that cannot be read counts as damaged."""
    path = find(config_dir, session_id)
    if path is None:
        return Transcript()
    usable = prompted = False
    spent = ZERO
    parents: dict[object, object] = {}
    newest: object = None
    try:
        with path.open("rb") as stream:
            for line in stream:
                row = _row(line)
                kind = row.get("type")
                usable = usable or kind in ("user", "assistant")
                prompted = prompted or kind == "user"
                if ident := row.get("uuid"):
                    parents[str(ident)] = row.get("parentUuid")
                    newest = str(ident) if kind in ("user", "assistant") else newest
                if kind == "cost-state":
                    spent = amount(row.get("totalCostUSD"), spent) or spent
    except OSError:
        return Transcript(exists=True)
    return Transcript(True, usable and _begins(parents, newest), prompted, spent)


def _begins(parents: dict[object, object], newest: object) -> bool:
    """Whether the way back from a message ends at one that has none before it."""
    for _ in range(len(parents) + 1):
        if not newest:
            return True
        if not isinstance(newest, str) or newest not in parents:
            return False
        newest = parents[newest]
    return False


def find(config_dir: Path, session_id: str) -> Path | None:
    """The file of a session, None where there is none."""
    return next(iter(sorted(config_dir.glob(f"projects/*/{session_id}.jsonl"))), None)


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def amount(value: object, otherwise: MicroUSD | None) -> MicroUSD | None:
    """A total in dollars as the CLI keeps it: a float with a sum's noise in its last digits, which is no money."""
    try:
        return parse_usd(round(value, 9)) if isinstance(value, (int, float)) else otherwise
    except MoneyError:
        return otherwise
