"""What waits for a moment of the wall clock: tasks that are tried again, roles that are held back, words to be told.

Where the clock is set back, such a moment is as much further away, though the wait itself is no longer. Every writer
looks when it opens the ledger, before its own rows hide what the log's last moment tells; the supervisor looks again
while it runs (supervisor/wallclock.py).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from producer.ids import from_iso

if TYPE_CHECKING:
    from producer.ledger.store import Store

LEAP = 30.0  # seconds; less is how clocks are kept right, and no wait suffers by it


def look(store: Store) -> None:
    """Compare the clock with the last moment of the audit log, in a transaction of its own where there is a leap."""
    body = store.db.value("SELECT CAST(body AS TEXT) FROM audit ORDER BY seq DESC LIMIT 1")
    back = from_iso(json.loads(body)["at"]) - store.db.clock() if body else 0.0
    if back > LEAP:
        with store.transaction():
            set_back(store, back)


def set_back(store: Store, seconds: float) -> None:
    """The clock was set back by so much: every wait ends as much earlier, with an audit row. Inside a transaction.

    One that was begun before the clock was wrong ends too early by it, and is then judged anew. A role at its cap
    stays: its day is the clock's.
    """
    for table in ("tasks", "outbox"):
        store.db.run(f"UPDATE {table} SET not_before = not_before - ? WHERE not_before IS NOT NULL", seconds)
    store.roles.set_back(seconds)
    store.audit.append("clock_set_back", "producer", seconds=round(seconds))
