"""What happened, in words: one line for an event of the supervisor's, an audit row or a piece of a transcript.

All three have one shape, the Event of producer/wire/messages.py: a moment, a kind, whose it is, and data.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from producer.core.money import format_usd
from producer.core.text import many, one_line
from producer.ids import from_iso
from producer.wire.messages import Event

LONGEST = 160
INDENT = 21  # where the words of a line begin, after the moment and who
TITLE = 40
MAIN_ARGUMENT = (
    "file_path",
    "path",
    "command",
    "pattern",
    "url",
    "query",
    "title",
    "decision_text",
    "reason",
    "prompt",
)
NAMES_ITSELF = ("task_inserted",)  # its words hold the task's title
_TICK = {True: "ok", False: "FAILED"}


def of_audit(row: Mapping[str, Any]) -> Event:
    """An audit row (of Reader.audit_tail) as an event."""
    detail = {**row.get("detail", {}), "cost_micros": row.get("cost_micros", 0)}
    return Event(
        at=from_iso(row["at"]), kind=row["action"], role=row["actor"], task=row.get("task"),
        attempt=row.get("attempt"), data=detail,
    )  # fmt: skip


def is_empty(event: Event) -> bool:
    """Whether a line about it would tell nothing: a request that cost nothing."""
    return event.kind == "cost" and not event.data.get("cost_micros")


def line(event: Event, title: Callable[[str], str] | None = None) -> str:
    """One line: time, who, which task (by its ``title``; left out where the reader knows it), what."""
    clock = time.strftime("%H:%M:%S", time.localtime(event.at))
    task = ""
    if title and event.task and event.kind not in NAMES_ITSELF:
        task = f"{one_line(title(event.task), TITLE)}: "
    return f"{clock}  {one_line(event.role or '-'):<10} {task}{words(event)}"


def words(event: Event, longest: int = LONGEST) -> str:
    """What happened."""
    say = _WORDS.get(event.kind)
    return one_line(say(event.data) if say else _plain(event.kind, event.data), longest)


def call(data: Mapping[str, Any]) -> str:
    """A tool call: the tool and the argument that says most."""
    name = _tool(data)
    given = data.get("input")
    if not isinstance(given, Mapping) or not given:
        return name
    main = next((given[key] for key in MAIN_ARGUMENT if key in given), None)
    return f"{name} {main if main is not None else next(iter(given.values()))}"


def _tool(data: Mapping[str, Any]) -> str:
    """The tool's name; of an MCP server's tool the last part says enough."""
    return str(data.get("name") or data.get("tool") or "tool").rpartition("__")[2]


def _result(data: Mapping[str, Any]) -> str:
    ok = bool(data.get("ok"))
    seconds = data.get("seconds")
    took = f" in {seconds:.1f} s" if isinstance(seconds, (int, float)) else ""
    return f"{_tool(data)} {_TICK[ok]}{took}{'' if ok else ': ' + str(data.get('summary', ''))}"


def _usage(data: Mapping[str, Any]) -> str:
    cached = f" ({data['cache_read_tokens']} cached)" if data.get("cache_read_tokens") else ""
    return f"{data.get('input_tokens', 0)} tokens in{cached}, {data.get('output_tokens', 0)} out"


def _retry(data: Mapping[str, Any]) -> str:
    wait = data.get("delay_seconds")
    return f"the model API said {data.get('status') or '?'}: {data.get('error', '')}; again in {wait} s"


def _failed(data: Mapping[str, Any]) -> str:
    after = {"pending": "will be tried again", "escalated": "given up"}.get(str(data.get("status")), "")
    return f"{data.get('outcome', 'failed')}: {data.get('error') or 'no reason'}{'; ' + after if after else ''}"


def _plain(kind: str, data: Mapping[str, Any]) -> str:
    pairs = [
        f"{key}={value}" for key, value in data.items() if value not in (None, "", [], {}) and key != "cost_micros"
    ]
    return " ".join([kind.replace("_", " "), *pairs])


def _because(data: Mapping[str, Any]) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _signal(data: Mapping[str, Any]) -> str:
    try:
        return f"stops, as {signal.Signals(int(data.get('number') or 0)).name} says"
    except ValueError:
        return f"signal {data.get('number')}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "progress.text": lambda data: f"says: {data.get('text', '')}",
    "progress.tool_call": call,
    "progress.tool_result": _result,
    "progress.usage": _usage,
    "progress.retry": _retry,
    "progress.note": lambda data: str(data.get("text", "")),
    "prompt": lambda data: f"is told: {data.get('text', '')}",
    "attempt.started": lambda data: "resumes its session" if data.get("resumed") else "begins",
    "dispatch": lambda data: f"attempt {data.get('number')} on {data.get('model')}",
    "cost": lambda data: f"cost ${format_usd(int(data.get('cost_micros') or 0))}",
    "decision": lambda data: f"records a decision ({data.get('kind')})",
    "asset": lambda data: f"records {data.get('path')} as {data.get('disposition')}",
    "task_inserted": lambda data: f"files for {data.get('owner')}: {data.get('title')}",
    "scheduled": lambda data: f"is due by the schedule {data.get('cron')} ({data.get('timezone')})",
    "standing": lambda data: "a claude process stands by" if data.get("connected") else "no claude process stands by",
    "schedule_skipped": lambda data: f"the schedule passes over {data.get('title')}: its last task still waits",
    "workspace_merged": lambda data: f"merged into {data.get('into')}",
    "workspace_left": lambda data: f"left as the branch {data.get('branch')}",
    "workspace_conflict": lambda data: f"CONFLICT in {', '.join(data.get('files', []))}: filed as a task",
    "workspace_review": lambda data: f"{data.get('branch')} handed to a reviewer",
    "workspace_revision": lambda data: f"{data.get('branch')} given back by the reviewer",
    "workspace_stuck": lambda data: f"{data.get('branch')} waits to be merged: {data.get('error')}",
    "workspace_needs_you": lambda data: f"{data.get('branch')} NEEDS YOU: {data.get('reason')}",
    "workspace_kept": lambda data: f"worktree kept: {data.get('path')}",
    "task_completed": lambda data: "done",
    "task_failed": _failed,
    "attempt_ended": lambda data: f"its run ended ({data.get('outcome')}); the task stays {data.get('status')}",
    "task_interrupted": lambda data: f"interrupted ({data.get('outcome')}): {data.get('error') or ''}",
    "escalation": lambda data: f"ESCALATED: {data.get('reason')}",
    "tool_call": call,
    "tool_failed": lambda data: f"{_tool(data)} FAILED: {data.get('summary', '')}",
    "audit_broken": lambda data: f"THE AUDIT LOG DOES NOT HOLD: {data.get('problem')}",
    "audit_acknowledged": lambda data: f"has looked into the audit log{_because(data)}",
    "schema_init": lambda data: f"makes the ledger {data.get('ledger')}",
    "signal": _signal,
    "soft_cap": lambda data: f"soft cap of {data.get('role')}: ${format_usd(int(data.get('spent_micros') or 0))} spent",
    "clock_set_back": lambda data: f"the clock was set back {data.get('seconds')} s: waits are moved along",
    "grant_without_a_line": lambda data: (
        f"a power cut took a request's end: ${format_usd(int(data.get('micros') or 0))} booked"
    ),
    "worker_left": lambda data: f"a worker has left: {data.get('reason')}",
    "worker_exited": lambda data: f"A WORKER ENDED: {_plain('', data).strip()}",
    "worker_started": lambda data: f"worker started, pid {data.get('pid')}",
    "producer_boot": lambda data: f"supervisor started, pid {data.get('pid')}",
    "producer_boot_once": lambda data: f"supervisor started, pid {data.get('pid')}",
    "kill_switch_armed": lambda data: f"KILL SWITCH ARMED: {data.get('reason')}",
    "kill_switch_observed": lambda data: f"KILL SWITCH ARMED: {data.get('reason')}",
    "stopped_now": lambda data: f"{data.get('stopped')} stopped, {data.get('survivors')} survivors",
    "notify_human": lambda data: f"tells you: {data.get('title')} ({str(data.get('via', '')).replace('+', ', ')})",
    "morning_report": lambda data: f"writes the morning report: {data.get('file')}",
    "config_reloaded": lambda data: f"configuration reloaded: {'; '.join(data.get('changes') or []) or 'the same'}",
    "reload_refused": lambda data: f"configuration not reloaded: {data.get('problem')}",
    "task_requeued": lambda data: f"put back into the queue{_because(data)}",
    "task_killed": lambda data: f"dropped{_because(data)}",
    "task_edited": lambda data: f"edited: {', '.join(data.get('fields') or [])}",
    "task_routed": lambda data: f"given to {data.get('after')} (was {data.get('before')})",
    "task_approved": lambda data: "approved",
    "task_waits_also": lambda data: f"waits for {data.get('waits_for')} too",
    "scale": lambda data: f"{data.get('role')}: {many(int(data.get('desired') or 0), 'worker')} wanted",
    "idle_wakeup_skipped": lambda data: f"no wake-up: {str(data.get('reason', '')).replace('_', ' ')}",
    "idle_wakeup_dispatched": lambda data: f"asks what is left to do, after {data.get('idle_seconds')} s without work",
    "idle_wakeup_verdict": lambda data: f"wake-up: {data.get('verdict')}, {data.get('tasks_queued')} tasks filed",
    "kill_switch_armed_by_producer": lambda data: f"KILL SWITCH ARMED: {data.get('reason')}",
    "kill_switch_disarmed": lambda data: f"kill switch disarmed{_because(data)}",
    "kill_switch_released": lambda data: "kill switch is off: work goes on",
    "producer_shutdown": lambda data: f"supervisor stopped, {data.get('survivors')} survivors",
    "pricing_updated": lambda data: f"new prices as of {data.get('last_updated')}, from {data.get('source')}",
    "tool_refused": lambda data: f"{data.get('tool')} refused: {data.get('error')}",
}
