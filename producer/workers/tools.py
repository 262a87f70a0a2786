"""The ledger tools that an agent gets without Bash, as data, and how an answer is put to it.

Every tool goes to the supervisor as a Call and is answered after the commit. The supervisor takes the caller's role,
task and attempt from the connection; no tool has an argument for them. A refusal comes back as a tool error that the
model can read and act on, never as an exception.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from producer.wire.messages import JsonObject, Reply
from producer.workers.runner import CallLedger

SERVER = "ledger"
PREFIX = f"mcp__{SERVER}__"
LONGEST_ANSWER = 100_000


@dataclass(frozen=True)
class ToolDef:
    """One tool: its name, what the model is told about it, and the JSON schema of its arguments."""

    name: str
    description: str
    schema: JsonObject


def _text(about: str) -> JsonObject:
    return {"type": "string", "description": about}


def _object(required: list[str], **properties: JsonObject) -> JsonObject:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


_STATUSES = ["pending", "in_progress", "done", "failed", "escalated", "killed"]

TOOLS: tuple[ToolDef, ...] = (
    ToolDef(
        "insert_task",
        "File a follow-up task for an agent role. Answers with the new task's id. Limits apply; a refusal says which.",
        _object(
            ["agent_owner", "title", "description"],
            agent_owner=_text("the role that shall do it"),
            title=_text("one line, at most 200 bytes"),
            description=_text("everything the agent needs to know"),
            priority={"type": "integer", "minimum": 0, "maximum": 5, "description": "0 is most urgent; default 3"},
            payload={"type": "object", "description": "structured data for the agent, at most 64 KiB"},
            dependencies={"type": "array", "items": {"type": "string"}, "description": "ids of tasks to be done first"},
            sprint_id=_text("a label that groups tasks"),
        ),
    ),
    ToolDef(
        "record_decision",
        "Record a decision you took on the current task, with its reason. Answers with the decision's id.",
        _object(
            ["kind", "decision_text", "rationale"],
            kind=_text("for example design, implementation, review"),
            decision_text=_text("what was decided"),
            rationale=_text("why"),
            artifact=_text("path of the file it is about"),
        ),
    ),
    ToolDef(
        "record_asset",
        "Register a file you produced as an asset. Answers with the asset's id.",
        _object(
            ["asset_type", "path"],
            asset_type={"type": "string", "enum": ["art", "audio", "content", "other"]},
            path=_text("path under the project"),
            disposition={"type": "string", "enum": ["shipped", "escalated", "killed", "pending_qa"]},
            prompt=_text("the prompt it was made with"),
            seed=_text("the seed it was made with"),
            api=_text("the service it was made with"),
            model=_text("the model it was made with"),
            model_version=_text("that model's version"),
            sha256=_text("SHA-256 of the file, in hex"),
            cost_usd={"type": "number", "minimum": 0, "description": "what that service charged, in US dollars"},
            wall_clock_seconds={"type": "number", "minimum": 0},
            retry_count={"type": "integer", "minimum": 0},
            critic_verdicts={"type": "array", "items": {"type": "object"}},
        ),
    ),
    ToolDef("get_task", "Read one task by its id.", _object(["task_id"], task_id=_text("the task's id"))),
    ToolDef(
        "list_tasks",
        "List tasks, newest first.",
        _object(
            [],
            status={"type": "string", "enum": _STATUSES},
            agent_owner=_text("only tasks of this role"),
            limit={"type": "integer", "minimum": 1, "maximum": 200, "description": "default 50"},
        ),
    ),
    ToolDef(
        "escalate",
        "Hand the current task to a human: use it when you must not or cannot decide. Then stop working on the task.",
        _object(
            ["reason"],
            reason=_text("why a human is needed"),
            recommendation=_text("what you would do"),
        ),
    ),
)
NAMES: tuple[str, ...] = tuple(tool.name for tool in TOOLS)


def granted(allowed_tools: list[str]) -> tuple[ToolDef, ...]:
    """The ledger tools a role gets: all of them, or exactly those that its allowed_tools name."""
    named = {rule.removeprefix(PREFIX) for rule in allowed_tools if rule.startswith(PREFIX)}
    if not named or "*" in named or f"mcp__{SERVER}" in allowed_tools:
        return TOOLS
    return tuple(tool for tool in TOOLS if tool.name in named)


async def answer(name: str, arguments: JsonObject, call: CallLedger) -> dict[str, Any]:
    """Call the ledger and put its reply into the form of an MCP tool result. Never raises an Exception."""
    try:
        reply = await call(name, arguments)
    except TimeoutError:
        return _said("the ledger did not answer in time; look with list_tasks before you file anything again", True)
    except Exception as problem:
        return _said(f"the ledger could not be reached: {problem}", True)
    return _said(_wording(reply), not reply.ok)


def _wording(reply: Reply) -> str:
    if not reply.ok:
        return reply.error or "refused"
    if isinstance(reply.result, str):
        return reply.result[:LONGEST_ANSWER]
    return json.dumps(reply.result, ensure_ascii=False)[:LONGEST_ANSWER]


def _said(text: str, is_error: bool) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}], "is_error": is_error}
