"""The audit log that ai-producer 0.3 wrote: kept byte for byte, as a closed first segment before our own chain.

    row_hash = SHA-256(prev_hash | agent_owner | task_id | action | detail | cost_usd with six decimals | timestamp)
    digest   = SHA-256 over all rows, each as a line of JSON: [id, agent_owner, ..., row_hash]

1. The rows lie in the table audit_0_3, which triggers close with the first row of our chain.
2. That first row names their number, the last row_hash and the digest. The digest covers what 0.3's own rule leaves
   open: ids, types, and where one field ends and the next begins.
3. A log that was broken when it was taken over stays so; the first row says from which row on, and what was taken over
   is guarded by the digest all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from producer.ledger.database import Database, Row

TAKEN_OVER = "ledger_migrated"  # the action of the first row of a chain that follows such a segment
COLUMNS = ("id", "agent_owner", "task_id", "action", "detail", "cost_usd", "timestamp", "prev_hash", "row_hash")
GENESIS = "0" * 64
_PAGE = 10_000


@dataclass(frozen=True)
class Segment:
    """What is said of the old log: how many rows, the last one's hash, the digest, the id of the first wrong one."""

    rows: int
    head: str
    digest: str
    broken: int | None

    def detail(self) -> dict[str, Any]:
        """For the audit row that closes the segment."""
        return asdict(self)


def examine(rows: Iterable[Row]) -> Segment:
    """Recompute 0.3's chain over rows of COLUMNS in the order of their ids."""
    digest, previous, count, broken = hashlib.sha256(), GENESIS, 0, None
    for row in rows:
        digest.update(_line(row))
        if broken is None and not _fits(row, previous):
            broken = row[0]
        previous, count = str(row[-1]), count + 1
    return Segment(count, previous, digest.hexdigest(), broken)


def problem(db: Database) -> tuple[Segment, str | None]:
    """The old segment of a ledger, and what is wrong with it: None where it is what the first row of the chain says."""
    found, said = examine(stored(db)), recorded(db)
    if said is None:
        return found, f"{found.rows} rows of a 0.3 log that the chain does not know" if found.rows else None
    if found.rows != said.rows:
        return found, f"the 0.3 log: {said.rows} rows were taken over, {found.rows} are there"
    if found.broken != said.broken:
        return (
            found,
            f"the 0.3 log: row {said.broken if found.broken is None else found.broken} does not match its hash",
        )
    return found, None if found == said else "the 0.3 log: a row is not the one that was taken over"


def recorded(db: Database) -> Segment | None:
    """What the first row of our chain says of an old segment; None where it speaks of none."""
    body = db.value("SELECT body FROM audit WHERE seq = 1")
    try:
        first = json.loads(body)
        return Segment(**first["detail"]["log"]) if first["action"] == TAKEN_OVER else None
    except (TypeError, ValueError, KeyError):
        return None


def stored(db: Database) -> Iterator[Row]:
    """The old rows, in pages."""
    after = -(2**63)
    sql = f"SELECT {', '.join(COLUMNS)} FROM audit_0_3 WHERE id >= ? ORDER BY id LIMIT ?"
    while page := db.rows(sql, after, _PAGE):
        yield from page
        after = page[-1][0] + 1


def causes(rows: Iterable[Row]) -> Mapping[str, str]:
    """Which task caused which, by the id of the task: 0.3 says it in the log alone. From (task_id, detail)."""
    found: dict[str, str] = {}
    for task, detail in rows:
        try:
            cause = json.loads(detail)["caused_by_task_id"]
        except (TypeError, ValueError, KeyError):
            continue
        if isinstance(cause, str) and task:
            found[task] = cause
    return found


def _fits(row: Row, previous: str) -> bool:
    _, agent, task, action, detail, cost, at, prev, own = row
    try:
        text = "|".join([prev, agent, task or "", action, detail, f"{cost:.6f}", at])
    except (TypeError, ValueError):
        return False
    return bool(prev == previous and hashlib.sha256(text.encode()).hexdigest() == own)


def _line(row: Row) -> bytes:
    return _encode(row).encode() + b"\n"


def _blob(value: Any) -> Any:
    return {"blob": value.hex()}


_encode = json.JSONEncoder(default=_blob, ensure_ascii=False).encode
