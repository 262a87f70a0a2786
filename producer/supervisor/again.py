"""What an agent that goes on with its session is told: how its last run ended, what people did to the task since."""

from __future__ import annotations

import json

from producer.ledger.database import Database
from producer.ledger.model import Claim

LONGEST = 500
SAID = ("title", "description", "payload")  # what of a task an agent reads
EDITED = "Since then a person changed the task. This is how it reads now, and what counts:\n\n"


def why_again(db: Database, claim: Claim, prompt: str) -> str | None:
    """In what words the attempt before ``claim`` ended; with ``prompt``, where the task reads differently by now."""
    row = db.one(
        "SELECT error, claimed_at FROM attempts WHERE task_id = ? AND number < ? ORDER BY number DESC LIMIT 1",
        claim.task, claim.number,
    )  # fmt: skip
    if row is None:
        return None
    parts = [str(row[0])[:LONGEST]] if row[0] else []
    edited = False
    for action, at, text in db.rows(
        "SELECT action, json_extract(CAST(body AS TEXT), '$.at'), json_extract(CAST(body AS TEXT), '$.detail')"
        " FROM audit WHERE task_id = ? AND action IN ('task_edited', 'task_requeued') ORDER BY seq DESC LIMIT 20",
        claim.task,
    ):
        if at < row[1]:
            break
        detail = json.loads(text)
        if action == "task_edited":
            edited |= not set(SAID).isdisjoint(detail.get("fields", ()))
        elif reason := str(detail.get("reason") or ""):
            parts.append(f"A person put the task back: {reason[:LONGEST]}")
    if edited:
        parts.append(EDITED + prompt)
    return "\n".join(parts) or None
