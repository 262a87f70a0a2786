"""What a task from outside must be before it is stored: text, ids, JSON, and no cycle of dependencies.

What is stored has to fit into a message to a worker; a task that no worker can be sent would stop the queue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from producer.errors import InvalidDependency, InvalidTask
from producer.ledger.model import Draft
from producer.wire.codec import nesting

DRAFT_KEYS = tuple(field.name for field in fields(Draft))
TEXT_BYTES = 65_536
_compact = json.JSONEncoder(allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode
_PAYLOAD_LEVELS = 24  # leaves room in the wire's 32 for what is around it


def draft_of(item: object, number: int = 1) -> Draft:
    """A Draft from a JSON object; ``number`` is its place in the batch. Raises InvalidTask naming the key."""
    if not isinstance(item, Mapping):
        raise InvalidTask(f"task {number}: must be a JSON object")
    for name in item:
        if name not in DRAFT_KEYS:
            raise InvalidTask(f"task {number}: unknown key {name!r}: use {', '.join(DRAFT_KEYS)}")
    for name in ("agent_owner", "title", "description"):
        if item.get(name) is None:
            raise InvalidTask(f"task {number}: {name}: is missing")
    given = {name: value for name, value in item.items() if value is not None}
    return Draft(**given)


def may_be_id(text: object) -> bool:
    """Whether an operator may propose this as a task's id: safe in a path, a URL and a file name, as 0.3.x ids are."""
    return isinstance(text, str) and re.fullmatch("[A-Za-z0-9_-]{1,64}", text) is not None


def check_text(name: str, value: object, limit: int = TEXT_BYTES) -> None:
    """Refuse what is not text of 1 to ``limit`` bytes in UTF-8. Raises InvalidTask."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidTask(f"{name}: must be text that is not empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidTask(f"{name}: holds a lone surrogate, which is not text") from None
    if size > limit:
        raise InvalidTask(f"{name}: has {size} bytes and may have {limit}: write the rest to a file and name its path")


def check_role(role: str, known: Sequence[str]) -> None:
    """Refuse a role that producer.yaml does not name; where ``known`` is empty, none is. Raises InvalidTask."""
    if known and role not in known:
        raise InvalidTask(f"agent_owner: no role {role!r}: use one of {', '.join(sorted(known))}")


def check_ids(value: object) -> None:
    """Refuse what is not a list of ids. Raises InvalidTask."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise InvalidTask("dependencies: must be a list of task ids")


def payload_json(value: object) -> str:
    """Compact JSON of an object from outside. Raises InvalidTask where it is not one."""
    if not isinstance(value, Mapping):
        raise InvalidTask("payload: must be a JSON object")
    try:
        text = _compact(dict(value))
        text.encode()
        deep = text.count("[") + text.count("{") > _PAYLOAD_LEVELS and nesting(json.loads(text)) > _PAYLOAD_LEVELS
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"payload: is not JSON: {error}") from None
    if deep:
        raise InvalidTask(f"payload: is nested deeper than {_PAYLOAD_LEVELS} levels")
    return text


def lenient_json(text: str) -> Any:
    """A JSON column of a task. Whoever edits one with sqlite3 may leave anything there: then it is the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def refuse_cycle(edges: Mapping[str, Sequence[str]]) -> None:
    """Walk a graph of task -> what it waits for, each node once. Raises InvalidDependency spelling out a cycle."""
    left: set[str] = set()
    for start in edges:
        path: dict[str, Iterator[str]] = {} if start in left else {start: iter(edges[start])}
        while path:
            here = next(reversed(path))
            needed = next(path[here], None)
            if needed is None:
                del path[here]
                left.add(here)
            elif needed in path:
                cycle = [*list(path)[list(path).index(needed) :], needed]
                raise InvalidDependency(cycle[0], cycle, f"dependencies close a cycle: {' -> '.join(cycle)}")
            elif needed in edges and needed not in left:
                path[needed] = iter(edges[needed])
