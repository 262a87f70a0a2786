"""docs/configuration.md, made from the schema: `python -m producer.config.docs > docs/configuration.md`.

A test says when the page is stale, and when a key has no description.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from producer.config.files import MAX_BYTES
from producer.config.schema import json_schema
from producer.config.tools import BUILT_IN, LEDGER_TOOLS

INTRO = f"""# Configuration: producer.yaml

Made from the classes in `producer/config/`; do not edit, but `python -m producer.config.docs > docs/configuration.md`.

Commands read the file named with `--config`, else by `PRODUCER_CONFIG`, else `producer.yaml` of the working directory.
It is read once: a running supervisor takes changes over with `producerctl reload`. `producerctl init` writes a file
with a comment on every key, and next to it `producer.schema.json`, with which editors complete and check the keys.

- Unknown and duplicate keys, values of the wrong kind or out of range, unknown tools and prompt files that do not exist
  are refused with one line, `file:line: key: what is wrong and what is allowed`, and exit code 2.
- Anchors, aliases, tags, a second document and files over {MAX_BYTES // 1024} KiB are refused.
- Numbers are decimal and unquoted. Amounts are US dollars, exact to the micro-dollar, rounded up beyond it.
- Paths are relative to `project_root`, which is relative to the file. Prompts must lie inside the project.
- Every key is optional except those marked as required. `null` is allowed where the table says so.
"""

ENVIRONMENT = """## Environment

| variable | meaning |
|---|---|
| `PRODUCER_CONFIG` | the configuration to read where `--config` names none |
| `PRODUCER_AUTH_MODE` | takes precedence over `auth.mode`; see [auth.md](auth.md) |
| `ANTHROPIC_API_KEY` | API key; stays with the supervisor and the gateway |
| `ANTHROPIC_AUTH_TOKEN` | bearer token of a proxy in front of the model API |
| `CLAUDE_CODE_OAUTH_TOKEN` | token of a subscription (`claude setup-token`), for fleets |
| `ANTHROPIC_BASE_URL` | the gateway's upstream where `gateway.upstream` names none |
| `PRODUCER_PRICING_URL` | where `producerctl pricing update` asks for prices; see [pricing.md](pricing.md) |

`PRODUCER_AUTH_MODE`, the three secrets and the variable that `notifications.ntfy_token_env` names are also read from
`.env` in the project's root, whatever the working directory; the environment wins. Nothing else is taken from `.env`,
because agents may be able to write there.
"""

TOOLS = f"""## Tools

`allowed_tools` holds built-in tools of Claude Code ({", ".join(f"`{name}`" for name in BUILT_IN)}), such a tool
narrowed by a rule in parentheses (`Bash(git status *)`, `Read(./**)`), and tools of MCP servers (`mcp__server__tool`,
`mcp__server__*`, `mcp__server`) that the role's `mcp_servers` declare. Every role has the ledger's tools
({", ".join(f"`mcp__ledger__{name}`" for name in LEDGER_TOOLS)}); naming some of them leaves the role with just those.
Names of tools that older versions of Claude Code had are read and left out, with a warning.
"""


def render() -> str:
    """The page."""
    schema = json_schema()
    parts = [INTRO]
    for place, block in _blocks(schema, schema, ""):
        rows = [_row(schema, name, key, block) for name, key in block["properties"].items()]
        about = "" if not place else f"{block['description']}\n\n"
        table = "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])
        parts.append(f"## {place or 'Top level'}\n\n{about}{table}\n")
    return "\n".join([*parts, TOOLS, ENVIRONMENT])


def _blocks(schema: dict[str, Any], block: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every block of the file with its place, parents first."""
    yield place, block
    for name, key in block["properties"].items():
        path = f"{place}.{name}" if place else name
        if "$ref" in key:
            yield from _blocks(schema, _target(schema, key), path)
        elif "$ref" in key.get("items", {}):
            yield from _blocks(schema, _target(schema, key["items"]), f"{path}[]")
        elif inner := _by_name(key):
            yield from _blocks(schema, _target(schema, inner), f"{path}.{'ROLE' if name == 'agents' else 'NAME'}")


def _by_name(key: dict[str, Any]) -> dict[str, Any] | None:
    """The reference to the block that a mapping by name holds."""
    inner = next(iter(key.get("patternProperties", {}).values()), None)
    return inner if isinstance(inner, dict) and "$ref" in inner else None


def _target(schema: dict[str, Any], key: dict[str, Any]) -> dict[str, Any]:
    return dict(schema["$defs"][key["$ref"].rsplit("/", 1)[1]])


def _row(schema: dict[str, Any], name: str, key: dict[str, Any], block: dict[str, Any]) -> str:
    meaning = key.get("description") or _target(schema, key)["description"]
    default = "**required**" if name in block.get("required", []) else f"`{_default(key)}`"
    return f"| `{name}` | {_kind(key)} | {default} | {meaning} |".replace("`None`", "")


def _default(key: dict[str, Any]) -> str | None:
    if "default" not in key:
        return None
    value = key["default"]
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _kind(key: dict[str, Any]) -> str:
    """A key's type and range in words."""
    types = key.get("type", "object")
    names = [types] if isinstance(types, str) else types
    null = " or `null`" if "null" in names else ""
    if "enum" in key:
        return ", ".join(f"`{word}`" for word in key["enum"] if word is not None) + null
    if "minimum" in key or "exclusiveMinimum" in key:
        word = "whole number" if names[0] == "integer" else "number"
        low = f"{key['minimum']:g} to" if "minimum" in key else f"above {key['exclusiveMinimum']:g}, up to"
        return f"{word}, {low} {_plain(key['maximum'])}{null}"
    words = {"string": "text", "boolean": "`true` or `false`", "array": "list", "object": "mapping"}
    return words[names[0]] + null


def _plain(value: float) -> str:
    return f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(render())
