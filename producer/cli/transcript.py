"""What an agent said and did, from the transcript of its claude session: CONFIG_DIR/projects/*/SESSION.jsonl.

The file is claude's own and grows while it runs: a line that is cut or unknown is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from producer.ids import from_iso
from producer.wire.messages import Event

_LONGEST_LINE = 32 << 20


def find(config_dir: Path, session: str) -> Path | None:
    """The transcript of a session, None where there is none."""
    return next(iter(sorted(config_dir.glob(f"projects/*/{session}.jsonl"))), None)


def events(path: Path, role: str, task: str, begin: int = 0) -> Iterator[Event]:
    """The transcript as events of the kinds prompt and progress.*, oldest first; from the byte ``begin`` on."""
    names: dict[str, str] = {}
    with path.open("rb") as file:
        file.seek(begin)
        while raw := file.readline(_LONGEST_LINE):
            row = _parse(raw)
            at = _at(row)
            if at is None:
                continue
            for kind, data in _parts(row, names):
                yield Event(at=at, kind=kind, role=role, task=task, data=data)


def _parts(row: Mapping[str, Any], names: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    speaker, message = row.get("type"), row.get("message")
    if speaker not in ("user", "assistant") or not isinstance(message, dict):
        return
    content = message.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    for block in blocks if isinstance(blocks, list) else ():
        if isinstance(block, dict):
            yield from _block(block, str(speaker), names)


def _block(block: Mapping[str, Any], speaker: str, names: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    match block.get("type"):
        case "text":
            yield ("progress.text" if speaker == "assistant" else "prompt"), {"text": str(block.get("text", ""))}
        case "tool_use":
            names[str(block.get("id"))] = str(block.get("name"))
            given = block.get("input")
            yield (
                "progress.tool_call",
                {"name": str(block.get("name")), "input": given if isinstance(given, dict) else {}},
            )
        case "tool_result":
            name = names.get(str(block.get("tool_use_id")), "")
            ok = not block.get("is_error")
            yield "progress.tool_result", {"name": name, "ok": ok, "summary": _text(block.get("content"))}


def _text(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _at(row: Mapping[str, Any]) -> float | None:
    try:
        return from_iso(str(row["timestamp"]))
    except (KeyError, ValueError):
        return None
