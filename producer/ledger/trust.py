"""How it stands with the audit log, for those who show it. Reading only, and in microseconds at any length."""

from __future__ import annotations

import json
from typing import Any

from producer.core.text import many
from producer.ledger.checkpoints import newest
from producer.ledger.database import Database

ANCHOR = "anchor"  # the remembered fact that says how the last head for the anchor command fared
ALARMS = ("audit_broken", "audit_head_mismatch")


def figures(db: Database) -> dict[str, Any]:
    """``rows``; ``checkpoint``: the newest, {size, at}, the time being that of its last row; ``alarm``: what nobody has
    acknowledged, {at, problem}; ``anchored``: how the last head for the anchor command fared, {at, size, ok, error}.
    None where there is none.
    """
    last = newest(db)
    anchored = db.value("SELECT value FROM meta WHERE key = ?", ANCHOR)
    return {
        "rows": db.value("SELECT max(seq) FROM audit") or 0,
        "checkpoint": {"size": last.size, "at": _time(db, last.size)} if last else None,
        "alarm": _alarm(db),
        "anchored": json.loads(anchored) if anchored else None,
    }


def _time(db: Database, seq: int) -> str | None:
    at = db.value("SELECT json_extract(CAST(body AS TEXT), '$.at') FROM audit WHERE seq = ?", seq)
    return str(at) if at else None


def words(found: dict[str, Any]) -> str:
    """The figures in one line."""
    last, alarm = found["checkpoint"], found["alarm"]
    behind = found["rows"] - (last["size"] if last else 0)
    signed = f"signed up to row {last['size']} of {_minute(last['at'])}" if last else "nothing signed"
    text = f"{many(found['rows'], 'row')}, {signed}{f', {behind} since' if last and behind else ''}"
    return f"ALARM of {_minute(alarm['at'])}: {alarm['problem']}; {text}" if alarm else text


def _minute(at: str | None) -> str:
    return f"{at[:16].replace('T', ' ')} UTC" if at else "no time"


def _alarm(db: Database) -> dict[str, str] | None:
    """The newest alarm, where no acknowledgement came after it."""
    seqs = {name: db.value("SELECT max(seq) FROM audit WHERE action = ?", name) or 0 for name in ALARMS}
    action, seq = max(seqs.items(), key=lambda item: int(item[1]))
    if seq <= (db.value("SELECT max(seq) FROM audit WHERE action = 'audit_acknowledged'") or 0):
        return None
    body = json.loads(db.value("SELECT body FROM audit WHERE seq = ?", seq))
    lost = f"it lacks row {str(body['detail'].get('kept')).split(' ')[0]}, which the head kept outside the ledger names"
    return {"at": body["at"], "problem": lost if action == ALARMS[1] else str(body["detail"].get("problem"))}
