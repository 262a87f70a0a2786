"""What agents and scripts record besides tasks: decisions, assets; and what the program has to tell the world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.core.money import parse_usd
from producer.errors import InvalidTask, UnknownTask
from producer.ledger.audit import Audit
from producer.ledger.database import Database

ASSET_TYPES = ("art", "audio", "content", "other")
DISPOSITIONS = ("shipped", "escalated", "killed", "pending_qa")
_TEXT_LIMIT = 65_536


@dataclass(frozen=True)
class Pending:
    """Something that waits in the outbox to be told."""

    id: str
    kind: str
    body: dict[str, Any]
    tries: int


class Records:
    """Decisions and assets. Runs inside the ledger's transaction."""

    def __init__(self, db: Database, audit: Audit) -> None:
        self._db, self._audit = db, audit

    def decision(
        self,
        *,
        task_id: str | None,
        agent_owner: str,
        kind: str,
        decision_text: str,
        rationale: str,
        artifact: str | None = None,
    ) -> str:
        """Record a decision; its id. Raises InvalidTask, UnknownTask."""
        values = {"agent_owner": agent_owner, "kind": kind, "decision_text": decision_text, "rationale": rationale}
        for name, text in values.items():
            _text(name, text)
        self._check_task(task_id)
        ident = self._db.new_id()
        self._db.run(
            "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ident, task_id, agent_owner, kind, decision_text, rationale, artifact, self._db.stamp,
        )  # fmt: skip
        self._audit.append("decision", agent_owner, task=task_id, decision=ident, kind=kind)
        return ident

    def asset(self, *, asset_type: str, path: str, agent_id: str, task_id: str | None, **more: Any) -> str:
        """Record an asset; its id. A path recorded before is recorded anew. Raises InvalidTask, UnknownTask."""
        if asset_type not in ASSET_TYPES:
            raise InvalidTask(f"asset_type: {asset_type!r} is not one of {', '.join(ASSET_TYPES)}")
        disposition = more.get("disposition") or "shipped"
        if disposition not in DISPOSITIONS:
            raise InvalidTask(f"disposition: {disposition!r} is not one of {', '.join(DISPOSITIONS)}")
        _text("path", path)
        self._check_task(task_id)
        ident = self._db.new_id()
        self._db.run(
            "INSERT INTO asset_registry (id, asset_type, path, prompt, seed, api, model, model_version, retry_count,"
            " critic_verdicts, cost_micros, wall_clock_seconds, agent_id, task_id, sha256, timestamp, disposition)"
            " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
            " ON CONFLICT (path) DO UPDATE SET id = excluded.id, asset_type = excluded.asset_type,"
            " prompt = excluded.prompt, seed = excluded.seed, api = excluded.api, model = excluded.model,"
            " model_version = excluded.model_version, retry_count = excluded.retry_count,"
            " critic_verdicts = excluded.critic_verdicts, cost_micros = excluded.cost_micros,"
            " wall_clock_seconds = excluded.wall_clock_seconds, agent_id = excluded.agent_id,"
            " task_id = excluded.task_id, sha256 = excluded.sha256, timestamp = excluded.timestamp,"
            " disposition = excluded.disposition",
            ident, asset_type, path, more.get("prompt"), _optional_text(more.get("seed")), more.get("api"),
            more.get("model"), more.get("model_version"), int(more.get("retry_count") or 0),
            json.dumps(more.get("critic_verdicts") or []), parse_usd(more.get("cost_usd") or 0),
            float(more.get("wall_clock_seconds") or 0), agent_id, task_id, more.get("sha256"), self._db.stamp,
            disposition,
        )  # fmt: skip
        self._audit.append("asset", agent_id, task=task_id, asset=ident, path=path, disposition=disposition)
        return ident

    def _check_task(self, task: str | None) -> None:
        if task is not None and not self._db.one("SELECT 1 FROM tasks WHERE id = ?", task):
            raise UnknownTask(task)


class Outbox:
    """What has to be told outside the ledger: committed with its cause, told off the loop, removed when told."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def put(self, kind: str, body: Mapping[str, Any]) -> str:
        """Queue something; its id."""
        ident = self._db.new_id()
        self._db.run(
            "INSERT INTO outbox (id, kind, body, created_at) VALUES (?, ?, ?, ?)",
            ident, kind, json.dumps(dict(body)), self._db.stamp,
        )  # fmt: skip
        return ident

    def due(self, now: float, limit: int = 50) -> list[Pending]:
        """What waits and may be tried now, oldest first."""
        rows = self._db.rows(
            "SELECT id, kind, body, tries FROM outbox WHERE not_before <= ? ORDER BY id LIMIT ?", now, limit
        )
        return [Pending(ident, kind, json.loads(body), tries) for ident, kind, body, tries in rows]

    def done(self, ident: str) -> None:
        """It is told."""
        self._db.run("DELETE FROM outbox WHERE id = ?", ident)

    def failed(self, ident: str, error: str, not_before: float) -> None:
        """It could not be told: try again from ``not_before`` on."""
        self._db.run(
            "UPDATE outbox SET tries = tries + 1, error = ?, not_before = ? WHERE id = ?", error, not_before, ident
        )


def _text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidTask(f"{name}: must be text that is not empty")
    if len(value.encode()) > _TEXT_LIMIT:
        raise InvalidTask(f"{name}: is longer than {_TEXT_LIMIT} bytes")


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)
