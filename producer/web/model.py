"""What the pages and the JSON routes show, put together once for both."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from producer.cli import transcript
from producer.cli.wording import of_audit, words
from producer.errors import UnknownTask
from producer.ids import from_iso, utc_iso_now
from producer.ledger import Reader, browse, history, trust
from producer.ledger.audit import Head
from producer.ledger.checks import may_be_id as may_be_id
from producer.ledger.export import head as newest_head
from producer.web.desk import Desk

RECENT = 20
FEED = 30
LOOKED_BACK = 20
TRANSCRIPT_BYTES = 4 << 20
TRANSCRIPT_EVENTS = 400
ESCALATION_BYTES = 64 << 10


def state(desk: Desk) -> dict[str, Any]:
    """The object of GET /api/state: the keys of 0.3.x, and `roles` and `counts` beside them."""
    status = desk.status()
    config = desk.config
    with desk.reader() as reader:
        counts = browse.counts(reader)
        queue = {
            "running": browse.tasks(reader, status="in_progress", limit=RECENT).rows,
            "pending": browse.waiting(reader, sorted(config.roles), RECENT),
            "recent": browse.tasks(reader, limit=RECENT).rows,
        }
        audit = browse.audit(reader, limit=RECENT).rows
    return {
        "producer": {**status["supervisor"], "project": status["project"], "auth": status.get("auth"),
                     "rehearsal": bool(status.get("rehearsal"))},
        "kill_switch": status["kill_switch"],
        "budget": status["budget"],
        "roles": status["roles"],
        "queue": queue,
        "counts": {name: {"number": count.number, "at_least": count.more} for name, count in counts.items()},
        "audit": audit,
        "ntfy_status": {
            "enabled": bool(config.notifications.ntfy_topic),
            "server": config.notifications.ntfy_server if config.notifications.ntfy_topic else None,
        },
        "ts": utc_iso_now(),
    }  # fmt: skip


def task(desk: Desk, ident: str) -> dict[str, Any]:
    """The object of GET /api/tasks/ID. Raises UnknownTask."""
    if not may_be_id(ident):
        raise UnknownTask(ident)
    with desk.reader() as reader:
        found = reader.task(ident)
        found["attempts"] = history.attempts(reader, ident)
        found["blocked_by"] = reader.blocked_by(ident) if found["open_dependencies"] else []
        found["lineage"] = history.lineage(reader, found["root_task_id"])
        found["decisions"] = history.decisions(reader, ident)
        found["turns"] = {row["id"]: history.turns(reader, row["id"]) for row in found["attempts"]}
        audit = browse.audit(reader, task=ident).rows
    return {"task": found, "audit": audit, "escalation_file": escalation(desk, ident)}


def escalation(desk: Desk, ident: str) -> str | None:
    """What the file about an escalated task says; None where there is none."""
    if not may_be_id(ident):
        return None
    return _text(desk.config.escalations_dir / f"{ident}.md", ESCALATION_BYTES)


def _text(path: Path, most: int) -> str | None:
    """The beginning of a plain file that is not a link."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return None


# ---- what an agent said and did


def said(desk: Desk, ident: str, attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The end of a task's transcripts, oldest first: at, kind, name, text, input, ok."""
    found: list[dict[str, Any]] = []
    for session in dict.fromkeys(row["session_id"] for row in attempts if row["session_id"]):
        path = transcript.find(desk.app.places.config_dir(ident), session)
        if path is None:
            continue
        try:
            begin = max(0, path.stat().st_size - TRANSCRIPT_BYTES)
            for event in transcript.events(path, "", ident, begin):
                data = event.data
                found.append(
                    {
                        "at": event.at, "kind": event.kind.removeprefix("progress."), "name": data.get("name", ""),
                        "text": data.get("text") or data.get("summary") or "", "input": data.get("input"),
                        "ok": data.get("ok", True), "words": desk.near(words(event, 400)),
                    }
                )  # fmt: skip
        except OSError:
            continue
    return sorted(found, key=lambda item: float(item["at"]))[-TRANSCRIPT_EVENTS:]


def feed(desk: Desk, reader: Reader, limit: int = FEED) -> list[dict[str, Any]]:
    """The last events of the audit log in words, newest first; what each request cost is left to other pages."""
    rows = browse.audit(reader, limit=limit * 3).rows
    return described(desk, reader, [row for row in rows if row["action"] != "cost"][:limit])


def doing(desk: Desk, reader: Reader, status: dict[str, Any]) -> dict[str, str]:
    """By attempt: what it does this second, in words; from the log where no open page has heard it yet."""
    found: dict[str, str] = {}
    for worker in (worker for role in status["roles"].values() for worker in role["workers"] if worker["task"]):
        attempt = worker["attempt"]
        heard = desk.doing.get(attempt)
        if heard is None:
            rows = browse.audit(reader, task=worker["task"], limit=LOOKED_BACK).rows
            last = next((row for row in rows if row["action"] == "tool_call" and row.get("attempt") == attempt), None)
            heard = desk.near(words(of_audit(last), 240)) if last else None
        found[attempt] = heard or worker.get("activity") or "begins"
    return found


def described(desk: Desk, reader: Reader, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Audit rows with ``words`` and their task's ``title``."""
    known = browse.titles(reader, {row["task"] for row in rows if row.get("task")})
    return [
        {
            **row,
            "words": desk.near(words(of_audit(row), 240)),
            "title": known.get(row.get("task") or "", row.get("task") or ""),
        }
        for row in rows
    ]


# ---- the log


def chain(desk: Desk, reader: Reader) -> dict[str, Any]:
    """The log's head, and whether the head kept outside the database is in it."""
    head = newest_head(reader)
    text = _text(desk.app.places.state / "audit.head", 256)
    try:
        kept = Head.parse(text.strip("\x00\n ")) if text else None
    except ValueError:
        kept = None
    inside: bool | None = None
    if kept is not None:
        stored = reader.db.value("SELECT chain FROM audit WHERE seq = ?", kept.seq)
        inside = kept.seq == 0 or stored == kept.chain
    kept_seq = kept.seq if kept else None
    trusted = trust.figures(reader.db)
    return {"seq": head.seq, "chain": head.chain.hex(), "kept": kept_seq, "kept_matches": inside, **trusted}


# ---- reports


def reports(desk: Desk, limit: int = 60) -> list[str]:
    """The days that have a morning report, newest first: YYYYMMDD."""
    try:
        names = [
            path.stem.removeprefix("morning-report-") for path in desk.config.reports_dir.glob("morning-report-*.md")
        ]
    except OSError:
        return []
    return sorted((name for name in names if len(name) == 8 and name.isdecimal()), reverse=True)[:limit]


def report(desk: Desk, day: str) -> str | None:
    """The Markdown of a day's report; None where there is none."""
    if not (len(day) == 8 and day.isascii() and day.isdecimal()):
        return None
    return _text(desk.config.reports_dir / f"morning-report-{day}.md", 1 << 20)


def ago(text: str | None) -> float | None:
    """Seconds since a moment of the ledger's."""
    return None if text is None else max(0.0, time.time() - from_iso(text))
