"""What the ledger knows about a project that has nothing to do: is there work, and what became of the wake-ups.

Every question is one look into an index, for the supervisor asks them every second.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from producer.core.idle import WAKEUP, idle_in_a_row
from producer.ids import from_iso
from producer.ledger.attempts import READY
from producer.ledger.database import Database

SWITCH_ACTIONS = (
    "kill_switch_armed", "kill_switch_armed_by_producer", "kill_switch_disarmed", "kill_switch_observed",
    "kill_switch_released", "kill_switch_toggled",
)  # fmt: skip
FILED_SHOWN = 20


class Quiet:
    """Reading only."""

    def __init__(self, db: Database) -> None:
        self._db = db

    # ---- is there work

    def newest_attempt(self) -> str | None:
        """The newest attempt of other work than a wake-up."""
        found: str | None = self._db.value("SELECT id FROM attempts WHERE role != ? ORDER BY id DESC LIMIT 1", WAKEUP)
        return found

    def running(self, *, wakeup: bool) -> bool:
        """Whether a wake-up, or other work, is in progress; a script's too."""
        sign = "=" if wakeup else "!="
        return self._any(f"SELECT 1 FROM tasks WHERE status = 'in_progress' AND agent_owner {sign} ? LIMIT 1", WAKEUP)

    def coming(self, roles: Collection[str]) -> bool:
        """Whether one of these roles has a ready task, or one that only waits for its time."""
        if any(self.ready(role) for role in roles):
            return True
        rows = self._db.rows(
            "SELECT DISTINCT agent_owner FROM tasks WHERE not_before IS NOT NULL AND status = 'pending'"
            " AND open_dependencies = 0 AND requires_approval = 0"
        )
        return any(role in roles for (role,) in rows)

    def ready(self, role: str) -> bool:
        """Whether a role has a task that could start now."""
        return self._any(f"SELECT 1 FROM tasks WHERE agent_owner = ? AND {READY} LIMIT 1", role)

    # ---- wake-ups

    def last_wakeup(self) -> float | None:
        """When the last wake-up was sent, in seconds since the epoch."""
        body = self._db.value(
            "SELECT CAST(body AS TEXT) FROM audit WHERE action = 'idle_wakeup_dispatched' ORDER BY seq DESC LIMIT 1"
        )
        return None if body is None else from_iso(json.loads(body)["at"])

    def idle_in_a_row(self, most: int) -> int:
        """How many of the last wake-ups filed nothing, since something set that back; ``most`` are counted."""
        rows = self._db.rows(
            "SELECT json_extract(CAST(body AS TEXT), '$.detail.verdict') FROM audit"
            " WHERE action = 'idle_wakeup_verdict' AND seq > ? ORDER BY seq DESC LIMIT ?",
            self._last_reset(), most,
        )  # fmt: skip
        return idle_in_a_row(str(word) for (word,) in rows)

    def _last_reset(self) -> int:
        others = {
            "task_inserted": "json_extract(CAST(body AS TEXT), '$.detail.owner') != ?",
            "task_completed": "json_extract(CAST(body AS TEXT), '$.actor') != ?",
        }
        found = [
            self._db.value(
                f"SELECT seq FROM audit WHERE action = ? AND {other} ORDER BY seq DESC LIMIT 1", action, WAKEUP
            )
            for action, other in others.items()
        ]
        found += [self._db.value("SELECT max(seq) FROM audit WHERE action = ?", action) for action in SWITCH_ACTIONS]
        return max((seq for seq in found if seq is not None), default=0)

    def outcome(self, task: str) -> tuple[str, str] | None:
        """A task's state and what it answered; None where it is not there any more."""
        row = self._db.one("SELECT status, coalesce(result, '') FROM tasks WHERE id = ?", task)
        return (row[0], row[1]) if row else None

    def filed_by(self, task: str) -> tuple[int, list[str]]:
        """How many tasks name ``task`` as parent or cause, and the first ids; all of them are younger."""
        where = (
            "FROM tasks WHERE seq > (SELECT seq FROM tasks WHERE id = ?1) AND (parent_task_id = ?1"
            " OR caused_by_task_id = ?1)"
        )
        rows = self._db.rows(f"SELECT id {where} ORDER BY seq LIMIT {FILED_SHOWN}", task)
        return int(self._db.value(f"SELECT count(*) {where}", task)), [ident for (ident,) in rows]

    def waiting(self) -> tuple[int, int]:
        """How many tasks are escalated or failed, and how many are pending; a wake-up is none of them."""
        stuck = self._db.value("SELECT count(*) FROM tasks WHERE status IN ('escalated', 'failed')")
        pending = "SELECT count(*) FROM tasks WHERE status = 'pending' AND agent_owner != ?"
        return int(stuck), int(self._db.value(pending, WAKEUP))

    # ---- what a woken agent and a person are told

    def recent(self, where: str, limit: int) -> list[dict[str, Any]]:
        """The last tasks of a kind: id, status, agent_owner, title. ``where``: `done`, `open` or `stuck`."""
        clause = {
            "done": "status = 'done' AND finished_at IS NOT NULL ORDER BY finished_at DESC",
            "open": "status = 'pending' ORDER BY priority, seq",
            "stuck": "status IN ('escalated', 'failed') ORDER BY seq DESC",
        }[where]
        return self._db.dicts(f"SELECT id, status, agent_owner, title FROM tasks WHERE {clause} LIMIT ?", limit)

    def _any(self, sql: str, *values: object) -> bool:
        return self._db.one(sql, *values) is not None
