"""Telling a person: a line in needs-attention.md in any case, and a push where one is configured and wanted.

Both are put into the outbox with the change that they report, each by itself: a dead ntfy server holds up no file, and
a full disk no push. The same notice again and again is told a few times an hour (see producer/core/notice.py); what is
remembered for that outlives the supervisor.
"""

from __future__ import annotations

import hashlib
import json

from producer.config import ProducerConfig
from producer.config.blocks import NotificationsConfig
from producer.core.notice import WINDOW, Told, manner, repeat
from producer.core.restart import recent
from producer.ledger.store import Store

MEMORY = "notices"
MOST_REMEMBERED = 500


def put(store: Store, config: ProducerConfig, event: str, title: str, body: str, push: str) -> None:
    """Queue a notice. ``body`` stays on this machine; ``title`` and ``push`` may leave it."""
    left_out = _admit(store, event, title, body)
    if left_out is None:
        return
    if left_out:
        body = f"{body} ({left_out} more like it were left out)"
    store.outbox.put("notice", {"event": event, "title": title, "body": body})
    via = "file"
    if wanted(config.notifications, event):
        store.outbox.put("push", {"event": event, "title": title, "text": push, "at": store.db.now})
        via = "ntfy+file"
    store.audit.append("notify_human", "producer", event=event, title=title, via=via)


def wanted(config: NotificationsConfig, event: str) -> bool:
    """Whether an event is pushed at all."""
    switch = manner(event).switch
    return bool(config.ntfy_topic) and (switch is None or bool(getattr(config.events, switch)))


def _admit(store: Store, event: str, title: str, body: str) -> int | None:
    """How many like it were left out before this one; None where this one is left out, too."""
    now = store.db.now
    known = {key: Told(tuple(at), left_out) for key, (at, left_out) in json.loads(store.meta(MEMORY) or "{}").items()}
    key = hashlib.sha256(json.dumps([event, title, body]).encode()).hexdigest()[:16]
    before = known.pop(key, Told())
    after, admitted = repeat(before, now)
    fresh = {name: told for name, told in known.items() if recent(told.at, now, WINDOW)}
    kept = [*fresh.items()][-MOST_REMEMBERED:]
    store.set_meta(MEMORY, json.dumps({name: [told.at, told.left_out] for name, told in [*kept, (key, after)]}))
    return before.left_out if admitted else None
