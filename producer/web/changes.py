"""The files that an agent touched, from its tool calls: what each call put in the place of what, as a diff.

It is what the agent asked for. Whether the file still looks so, only the file knows.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

MOST_LINES = 400
MOST_FILES = 100
Line = tuple[str, str]


def touched(said: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By path: {path, calls, lines}; a line is (kind, text), kind one of add, cut, same, note."""
    found: dict[str, dict[str, Any]] = {}
    for item in said:
        given = item["input"]
        if item["kind"] != "tool_call" or not isinstance(given, dict):
            continue
        path = given.get("file_path") or given.get("notebook_path")
        lines = _lines(str(item["name"]), given)
        if isinstance(path, str) and lines and (path in found or len(found) < MOST_FILES):
            one = found.setdefault(path, {"path": path, "calls": 0, "lines": []})
            one["calls"] += 1
            one["lines"] = _cut([*one["lines"], *lines])
    return list(found.values())


def _cut(lines: list[Line]) -> list[Line]:
    if len(lines) <= MOST_LINES:
        return lines
    return [*lines[:MOST_LINES], ("note", "and more")]


def _lines(tool: str, given: dict[str, Any]) -> list[Line]:
    if tool == "Write":
        return [("note", "written whole"), *(("add", line) for line in str(given.get("content", "")).splitlines())]
    if tool == "NotebookEdit":
        return [("note", "cell changed"), *(("add", line) for line in str(given.get("new_source", "")).splitlines())]
    if tool == "Edit":
        return _diff(given)
    edits = given.get("edits") if tool == "MultiEdit" else None
    return [line for edit in edits or () if isinstance(edit, dict) for line in _diff(edit)]


def _diff(edit: dict[str, Any]) -> list[Line]:
    old, new = (str(edit.get(name, "")).splitlines() for name in ("old_string", "new_string"))
    kinds = {"+": "add", "-": "cut", " ": "same", "@": "note"}
    lines = list(difflib.unified_diff(old[:MOST_LINES], new[:MOST_LINES], lineterm="", n=3))[2:]
    return [(kinds.get(line[:1], "same"), "" if line[:1] == "@" else line[1:]) for line in lines]
