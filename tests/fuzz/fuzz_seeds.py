"""Inputs to begin with: a message of every type, every block of producer.yaml, requests, streams; and words to build with."""

from __future__ import annotations

import json
import re
from importlib import resources
from string import Template
from typing import Any

import msgspec
from msgspec import inspect

from producer.config.schema import json_schema
from producer.wire.messages import TYPES

ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
MINIMAL = "project_name: x\nbudget:\n  project_ceiling_usd: 1\n  agents:\n    code: {daily_cap_usd: 1}\n"
SCHEMA = json_schema()
KEYS = sorted({key for block in (SCHEMA, *SCHEMA["$defs"].values()) for key in block["properties"]})


def sample(kind: inspect.Type) -> Any:
    """A value that a field of a message takes."""
    match kind:
        case inspect.StructType():
            return {field.encode_name: sample(field.type) for field in kind.fields}
        case inspect.StrType():
            return ULID if kind.pattern and "26" in kind.pattern else "s"
        case inspect.IntType():
            return max(1, kind.ge or 0)
        case inspect.FloatType():
            return 1.5
        case inspect.LiteralType():
            return kind.values[0]
        case inspect.ListType():
            return [sample(kind.item_type)]
        case inspect.DictType():
            return {"claude-sonnet-5-5": sample(kind.value_type)}
        case inspect.UnionType():
            return sample(next(one for one in kind.types if not isinstance(one, inspect.NoneType)))
        case inspect.BoolType():
            return True
        case _:
            return {"a": [1, "b", None]}


def yamls() -> list[str]:
    """The template with every key in force, in files of one block each."""
    text = resources.files("producer").joinpath("templates", "producer.yaml.template").read_text(encoding="utf-8")
    text = (
        Template(text)
        .substitute(project_name="x", ntfy_topic="t", subject_prefix="p")
        .replace("role: qa", "role: code")
    )
    names = "|".join(map(re.escape, [*KEYS, "tracker", "search", "my-model"]))
    text = re.sub(rf"^( *)# ( *(?:- )?(?:{names}):)", r"\1\2", text, flags=re.M)
    text = re.sub(r"^ *#.*\n|^ *prompt:.*\n| +#.*$", "", text, flags=re.M)  # there are no prompts beside it
    blocks = re.split(r"^(?=\w)", text, flags=re.M)[1:]
    name, budget = MINIMAL.split("\n", 1)[0], MINIMAL.split("\n", 1)[1]
    found = [f"{MINIMAL}{block}" for block in blocks if not block.startswith(("project_name", "budget"))]
    [agents] = [block for block in blocks if block.startswith("budget")]
    return [MINIMAL, f"{name}\n{agents}", *found, f"{name}\nproject_root: ..\n{budget}"]


MESSAGES = {name: json.dumps(sample(inspect.type_info(cls))).encode() for name, cls in TYPES.items()}
YAMLS = [text.encode() for text in yamls()]
TOOLS = [
    b'{"agent_owner": "code", "title": "t", "description": "d", "priority": 3, "payload": {"a": [1]}}',
    b'{"agent_owner": "qa", "title": "t", "description": "d", "dependencies": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"], "payload": null}',
]
REQUESTS = [
    b'{"model": "claude-sonnet-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "x"}], "tools": []}',
    b'{"model": "claude-sonnet-5-5", "max_tokens": 10, "stream": true, "system": [{"type": "text", "text": "s", "cache_control": '
    b'{"type": "ephemeral", "ttl": "1h"}}], "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", '
    b'"data": "AA"}}, {"type": "tool_result", "tool_use_id": "u", "content": "r"}]}]}',
    b'{"model": "claude-sonnet-5-5", "max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": [], "tools": '
    b'[{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}, {"name": "Bash", "input_schema": {}}], "service_tier": '
    b'"auto", "metadata": {"user_id": "u"}}',
]
STREAMS = [
    b'data: {"type": "message_start", "message": {"usage": {"input_tokens": 1, "cache_creation": {}}}}\n\n',
    b'event: message_start\ndata: {"type": "message_start", "message": {"id": "m", "model": "claude-sonnet-5-5", "usage": {"input_tokens": 1, '
    b'"cache_read_input_tokens": 2, "cache_creation_input_tokens": 3, "cache_creation": {"ephemeral_5m_input_tokens": 1, '
    b'"ephemeral_1h_input_tokens": 2}}}}\n\nevent: message_delta\ndata: {"type": "message_delta", "usage": {"output_tokens": 5, '
    b'"server_tool_use": {"web_search_requests": 1}}}\n\nevent: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
    b'{"type": "message", "id": "m", "model": "claude-sonnet-5-5", "usage": {"input_tokens": 1, "output_tokens": 2}}',
]
TOKENS = [b"NaN", b"1e999", b"-1", b"9" * 40, b"null", b"[", b"]", b"{", b"}", b'"', b"\\ud800", b"\x00", b"\xff", b": ",
          b"&a ", b"*a", b"!!python/object:x ", b"<<: ", b".inf", b"- ", b"\n", b'"usage"', b"true", b"\xe2\x80\xae"]  # fmt: skip
WORDS = sorted(
    {*(f"{key}: " for key in KEYS), *(f'"{field.encode_name}": ' for cls in TYPES.values() for field in msgspec.structs.fields(cls)),
     *(word for seed in (*REQUESTS, *STREAMS, *TOOLS) for word in re.findall(r'"\w+"', seed.decode()))}
)  # fmt: skip
