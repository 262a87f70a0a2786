"""The file that a human reads about a task that was given up."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_escalation(directory: Path, task: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``directory``/ID.md, atomically; its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{task['id']}.md"
    fresh = directory / f".{task['id']}.{os.getpid()}"
    fresh.write_text(render(task, history), encoding="utf-8")
    fresh.replace(path)
    return path


def render(task: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
    """The file's text: what, why, what was tried, and what to do, command by command."""
    ident = task["id"]
    lines = [
        f"# Escalated: {_flat(task['title'])}",
        "",
        f"- Task: `{ident}`, role `{task['agent_owner']}`, priority {task['priority']}",
        f"- Reason: {_flat(task['escalation_reason'] or 'none given')}",
        f"- Attempts: {len(task['attempts'])}; cost so far: ${task['cost_usd']}",
        "",
        "## What to do",
        "",
        "| to | run |",
        "|---|---|",
        f"| see everything about it | `producerctl task show {ident}` |",
        f"| read what the agent did | `producerctl logs {ident}` |",
        f"| change what it says | `producerctl task edit {ident} --description '...'` |",
        f"| try it again | `producerctl task requeue {ident}` |",
        f"| give it to another role | `producerctl task route {ident} ROLE` |",
        f"| drop it | `producerctl task kill {ident}` |",
        "",
        "## Description",
        "",
        *_fenced(task["description"]),
        "",
        "## Payload",
        "",
        *_fenced(json.dumps(task["payload"], indent=2, ensure_ascii=False), "json"),
        "",
        "## Attempts",
        "",
    ]
    for attempt in task["attempts"]:
        lines.append(
            f"{attempt['number']}. {attempt['state']} ({attempt['outcome'] or 'no outcome'}), ${attempt['cost_usd']}, "
            f"{attempt['turns']} turns: {_flat(attempt['error'] or 'no error')}"
        )
    if task["children"]:
        lines += ["", "## Waiting for it or filed by it", ""]
        lines += [f"- `{child['id']}` {child['status']}: {_flat(child['title'])}" for child in task["children"]]
    lines += ["", "## Last events", ""]
    lines += [f"- {row['at']} {row['action']}" for row in history[-20:]]
    return "\n".join(lines) + "\n"


def _flat(text: str) -> str:
    """One line without Markdown of its own."""
    return " ".join(str(text).split()).replace("`", "'").replace("<", "&lt;")


def _fenced(text: str, language: str = "") -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [fence + language, text, fence]
