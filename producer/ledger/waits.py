"""What waits for a moment of the wall clock: tasks that are tried again, roles that are held back, words to be told.

Where the clock is set back, such a moment is as much further away, though the wait itself is no longer.
"""

from __future__ import annotations

import json

from producer.ids import from_iso
from producer.ledger.store import Store


def last_moment(store: Store) -> float | None:
    """When the audit log was last written, seconds since the epoch, by the clock of that moment."""
    body = store.db.value("SELECT CAST(body AS TEXT) FROM audit ORDER BY seq DESC LIMIT 1")
    return from_iso(json.loads(body)["at"]) if body else None


def set_back(store: Store, seconds: float) -> None:
    """The clock was set back by so much: every wait ends as much earlier, with an audit row.

    One that was begun before the clock was wrong ends too early by it, and is then judged anew. A role at its cap
    stays: its day is the clock's.
    """
    for table in ("tasks", "outbox"):
        store.db.run(f"UPDATE {table} SET not_before = not_before - ? WHERE not_before IS NOT NULL", seconds)
    store.roles.set_back(seconds)
    store.audit.append("clock_set_back", "producer", seconds=round(seconds))
