"""Recordings (`gateway.record`) as the script of a rehearsal: what the model said once, it says again.

1. A task is known by its role and title; of two recorded ones with the same of both the older plays. Attempts of one
   task go on where the one before ended, as their session did.
2. Text and tool calls come word by word, in the recorded tokens: paths are those of the project that was recorded.
   Thinking is left out, for its signature holds in its own conversation alone.
3. Only answers are played; errors and cuts are not. What a message leaves out has its default: a status is 200, a
   count 0. A line that is torn or belongs to no dispatch is passed over.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from producer.errors import ConfigError
from producer.gateway.conversation import Conversation
from producer.gateway.script import LAST, Scenario, Script, Tool, Turn

COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
          "web_searches")  # fmt: skip
_NO_GLOB = str.maketrans({sign: f"[{sign}]" for sign in "*?["})


class Recorded(Turn):
    """A turn whose braces are no slots."""


def load(directory: Path) -> Script:
    """The script that a directory of recordings amounts to. Raises ConfigError where it holds none."""
    tasks: dict[tuple[str, str], dict[str, dict[int, Turn]]] = {}
    for talk, turn in _exchanges(directory):
        turns = tasks.setdefault((talk.role, talk.title), {}).setdefault(talk.task, {})
        turns.setdefault(talk.turn, turn)
    if not tasks:
        raise ConfigError("holds no recording of a task: see gateway.record", file=directory)
    roles: dict[str, list[Scenario]] = {}
    for (role, title), recorded in tasks.items():
        turns = next(iter(recorded.values()))
        played = tuple(turns.get(number, LAST) for number in range(max(turns) + 1))
        roles.setdefault(role, []).append(Scenario(title.translate(_NO_GLOB), played))
    return Script({role: tuple(scenarios) for role, scenarios in roles.items()})


def _exchanges(directory: Path) -> Iterator[tuple[Conversation, Turn]]:
    """Every answer of the model to a dispatch, oldest attempt first."""
    for path in sorted(directory.glob("*.jsonl")):
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                found = _object(line)
                talk = Conversation.of(_object(found.get("request")))
                metered, said = found.get("metered"), _content(found.get("response"))
                if talk.role and said and isinstance(metered, dict) and metered.get("status", 200) == 200:
                    yield talk, _turn(said, metered.get("usage"))


def _turn(content: list[dict[str, Any]], usage: Any) -> Turn:
    text = "".join(str(block.get("text", "")) for block in content if block.get("type") == "text")
    calls = [block for block in content if block.get("type") == "tool_use" and isinstance(block.get("input"), dict)]
    counts: dict[str, Any] = {name: int(usage.get(name, 0)) for name in COUNTS} if isinstance(usage, dict) else {}
    return Recorded(text=text, tools=tuple(Tool(str(call["name"]), call["input"]) for call in calls), **counts)


def _content(response: Any) -> list[dict[str, Any]]:
    """The blocks of a whole response or of a complete stream; none of one that was cut."""
    text = response if isinstance(response, str) else ""
    if text.lstrip().startswith("{"):
        blocks = _object(text).get("content")
        return [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    found: dict[int, dict[str, Any]] = {}
    ended = False
    for line in text.split("\n"):
        event = _object(line.removeprefix("data:")) if line.startswith("data:") else {}
        ended = ended or event.get("type") == "message_stop"
        block, delta = event.get("content_block"), event.get("delta")
        index = event.get("index")
        if not isinstance(index, int):
            continue
        if event.get("type") == "content_block_start" and isinstance(block, dict):
            found[index] = {**block, "json": ""}
        elif event.get("type") == "content_block_delta" and isinstance(delta, dict) and index in found:
            found[index]["text"] = str(found[index].get("text", "")) + str(delta.get("text", ""))
            found[index]["json"] += str(delta.get("partial_json", ""))
    for block in found.values():
        block["input"] = _object(block["json"]) or block.get("input") or {}
    return list(found.values()) if ended else []


def _object(text: Any) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
