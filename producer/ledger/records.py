"""What agents and scripts record besides tasks: decisions, assets; and what the program has to tell the world."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from producer.core.money import parse_usd
from producer.errors import InvalidTask, UnknownTask
from producer.ledger.audit import Audit
from producer.ledger.checks import check_text
from producer.ledger.database import Database

ASSET_TYPES = ("art", "audio", "content", "other")
DISPOSITIONS = ("shipped", "escalated", "killed", "pending_qa")
ASSET_DETAILS = (
    "prompt", "seed", "api", "model", "model_version", "retry_count", "critic_verdicts", "cost_usd",
    "wall_clock_seconds", "sha256", "disposition",
)  # fmt: skip


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
            check_text(name, text)
        if artifact is not None:
            check_text("artifact", artifact)
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
        unknown = sorted(set(more) - set(ASSET_DETAILS))
        if unknown:
            raise InvalidTask(f"{unknown[0]}: an asset has no such field: use {', '.join(ASSET_DETAILS)}")
        check_text("path", path)
        check_text("agent_id", agent_id)
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
            more.get("model"), more.get("model_version"), int(_number("retry_count", more.get("retry_count"))),
            _verdicts(more.get("critic_verdicts")), parse_usd(more.get("cost_usd") or 0),
            _number("wall_clock_seconds", more.get("wall_clock_seconds")), agent_id, task_id, more.get("sha256"),
            self._db.stamp, disposition,
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
        self.news = False  # something was put since somebody looked: whoever tells may be woken

    def put(self, kind: str, body: Mapping[str, Any]) -> str:
        """Queue something; its id."""
        ident = self._db.new_id()
        self._db.run(
            "INSERT INTO outbox (id, kind, body, created_at) VALUES (?, ?, ?, ?)",
            ident, kind, json.dumps(dict(body)), self._db.stamp,
        )  # fmt: skip
        self.news = True
        return ident

    def due(self, now: float, limit: int = 50, *, lane: str | None = None) -> list[Pending]:
        """What waits and may be tried now, oldest first: all of it, or of one lane (`files`, or what has its own)."""
        rows = self._db.rows(
            "SELECT id, kind, body, tries FROM outbox WHERE not_before <= ?1 AND (?2 IS NULL OR ?2 ="
            " CASE WHEN kind IN ('push', 'workspace', 'anchor') THEN kind ELSE 'files' END) ORDER BY id LIMIT ?3",
            now, lane, limit,
        )  # fmt: skip
        return [Pending(ident, kind, json.loads(body), tries) for ident, kind, body, tries in rows]

    def untried(self, now: float) -> bool:
        """Whether something may be told now that nobody has tried to tell yet."""
        return bool(self._db.one("SELECT 1 FROM outbox WHERE tries = 0 AND not_before <= ? LIMIT 1", now))

    def done(self, ident: str) -> None:
        """It is told."""
        self._db.run("DELETE FROM outbox WHERE id = ?", ident)

    def hold(self, ident: str, not_before: float) -> None:
        """It may not be told before ``not_before``; that is no failure."""
        self._db.run("UPDATE outbox SET not_before = ? WHERE id = ?", not_before, ident)

    def failed(self, ident: str, error: str, not_before: float) -> None:
        """It could not be told: try again from ``not_before`` on."""
        self._db.run(
            "UPDATE outbox SET tries = tries + 1, error = ?, not_before = ? WHERE id = ?", error, not_before, ident
        )


def _number(name: str, value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53 or math.isnan(value):
        raise InvalidTask(f"{name}: {value!r} is not a number from 0 on")
    return float(value)


def _verdicts(value: object) -> str:
    try:
        text = json.dumps([] if value is None else value, allow_nan=False, ensure_ascii=False)
        check_text("critic_verdicts", text)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"critic_verdicts: is not JSON: {error}") from None
    return text


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)
