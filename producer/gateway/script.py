"""The script of a rehearsal: what the scripted model does, read from YAML.

    defaults: {tokens_per_second: 400}         any numeric turn key
    roles:
      code:                                    or "*" for roles that the script does not name
        - title: "Write *"                     a glob on the task's title; the first that matches plays; default "*"
          turns:                               one a model response, in order; after the last one the model says "Done."
            - text: Reading the spec.
              tools: [{name: Read, input: {file_path: "{cwd}/docs/spec.md"}}]
              output_tokens: 120               default: a quarter of the bytes sent
              input_tokens / cache_read_tokens / cache_write_5m_tokens / cache_write_1h_tokens / web_searches
              delay_seconds: 2                 before the first byte
              tokens_per_second: 50            pace of the stream; 0 is at once
              error: {status: 500, type: api_error, message: Oops, retry_after: 1, times: 1}
              cut: 1                           the first N streams of this turn break off midway (true is 1)
              stall_seconds: 30                the first stream of this turn stops midway for so long

Text and inputs may name {title} {task} {role} {attempt} {cwd} {payload[key]} and
{payload[key]|default}; other braces stand for themselves.
Without input_tokens a prompt is a quarter of the request's bytes; with it, never more than its bytes, for no real model
reads more. A script is refused with one line that names file, line and key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from producer.errors import ConfigError

MAX_BYTES = 256 * 1024
DEFAULT_TITLE = "*"


@dataclass(frozen=True)
class Tool:
    """One tool call: its name and its input, strings not yet filled in."""

    name: str
    input: dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """An API error instead of the first ``times`` responses of a turn."""

    status: int
    type: str = "api_error"
    message: str = "scripted error"
    retry_after: float | None = None
    times: int = 1


@dataclass(frozen=True)
class Turn:
    """One response of the model."""

    text: str = ""
    tools: tuple[Tool, ...] = ()
    output_tokens: int | None = None
    input_tokens: int | None = None
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    delay_seconds: float = 0.0
    tokens_per_second: float = 0.0
    error: Failure | None = None
    cut: int = 0
    stall_seconds: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """What a role does for the tasks whose title matches."""

    title: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Script:
    """Scenarios by role."""

    roles: Mapping[str, tuple[Scenario, ...]] = field(default_factory=dict)

    def find(self, role: str, title: str) -> Scenario | None:
        """The first scenario of the role (else of "*") whose glob matches the title."""
        scenarios = self.roles.get(role, self.roles.get("*", ()))
        return next((scenario for scenario in scenarios if fnmatchcase(title, scenario.title)), None)


LAST = Turn(text="Done.", output_tokens=4)
_COUNTS = (*(f.name for f in fields(Turn) if f.name.endswith("_tokens")), "web_searches")
_SECONDS = ("delay_seconds", "tokens_per_second", "stall_seconds")


def load(path: Path | str) -> Script:
    """Read a script file, or a directory of recordings (replay.py). Raises ConfigError with one line."""
    path = Path(path)
    if path.is_dir():
        from producer.gateway import replay  # it is made of what stands here

        return replay.load(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot be read: {why}", file=path) from None
    return parse(text, str(path))


def parse(text: str, source: str = "script") -> Script:
    """YAML text to a Script. Raises ConfigError naming file, line and key."""
    if len(text) > MAX_BYTES:
        raise ConfigError(f"longer than {MAX_BYTES} bytes", file=source)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not YAML: {problem}", file=source, line=line or None) from None
    if node is None:
        raise ConfigError("empty; `roles` is needed", file=source)
    top = _Value(node, "", source).mapping({"roles", "defaults"})
    defaults = _defaults(top["defaults"]) if "defaults" in top else Turn()
    if "roles" not in top:
        raise ConfigError("roles is missing", file=source, line=1)
    roles = top["roles"].mapping()
    return Script({role: tuple(_scenario(s, defaults) for s in value.items()) for role, value in roles.items()})


def _scenario(value: _Value, defaults: Turn) -> Scenario:
    keys = value.mapping({"title", "turns"})
    if "turns" not in keys:
        raise value.error("turns is missing")
    turns = tuple(_turn(turn, defaults) for turn in keys["turns"].items())
    return Scenario(keys["title"].text() if "title" in keys else DEFAULT_TITLE, turns)


def _defaults(value: _Value) -> Turn:
    return _numbers(Turn(), value.mapping({*_COUNTS, *_SECONDS}))


def _turn(value: _Value, defaults: Turn) -> Turn:
    keys = value.mapping({f.name for f in fields(Turn)})
    turn = _numbers(defaults, keys)
    return replace(
        turn,
        text=keys["text"].text() if "text" in keys else "",
        tools=tuple(_tool(tool) for tool in keys["tools"].items()) if "tools" in keys else (),
        error=_failure(keys["error"]) if "error" in keys else None,
        cut=keys["cut"].times() if "cut" in keys else 0,
    )


def _numbers(turn: Turn, keys: Mapping[str, _Value]) -> Turn:
    counts = {name: keys[name].integer(0, 10_000_000) for name in _COUNTS if name in keys}
    seconds = {name: keys[name].number(0, 1_000_000) for name in _SECONDS if name in keys}
    return replace(turn, **counts, **seconds)  # type: ignore[arg-type]


def _tool(value: _Value) -> Tool:
    keys = value.mapping({"name", "input"})
    if "name" not in keys:
        raise value.error("name is missing")
    given = keys["input"].plain() if "input" in keys else {}
    if not isinstance(given, dict):
        raise keys["input"].error("must be a mapping")
    return Tool(keys["name"].text(), given)


def _failure(value: _Value) -> Failure:
    keys = value.mapping({f.name for f in fields(Failure)})
    if "status" not in keys:
        raise value.error("status is missing")
    default = Failure(keys["status"].integer(400, 599))
    return Failure(
        status=default.status,
        type=keys["type"].text() if "type" in keys else default.type,
        message=keys["message"].text() if "message" in keys else default.message,
        retry_after=keys["retry_after"].number(0, 1_000_000) if "retry_after" in keys else None,
        times=keys["times"].integer(1, 1_000_000) if "times" in keys else default.times,
    )


class _Value:
    """A YAML node that knows its key path, for errors that a person can act on."""

    def __init__(self, node: yaml.Node, key: str, source: str, above: tuple[int, ...] = ()) -> None:
        self.node, self.key, self.source, self.above = node, key, source, (*above, id(node))
        if id(node) in above:
            raise self.error("refers to itself")

    def error(self, problem: str) -> ConfigError:
        return ConfigError(problem, file=self.source, line=self.node.start_mark.line + 1, key=self.key or None)

    def mapping(self, allowed: set[str] | None = None) -> dict[str, _Value]:
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("must be a mapping")
        found: dict[str, _Value] = {}
        for key_node, node in self.node.value:
            name = str(key_node.value)
            inner = _Value(node, f"{self.key}.{name}".lstrip("."), self.source, self.above)
            if name in found:
                raise inner.error("given twice")
            if allowed is not None and name not in allowed:
                raise inner.error(f"unknown key; allowed: {', '.join(sorted(allowed))}")
            found[name] = inner
        return found

    def items(self) -> list[_Value]:
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("must be a list")
        return [_Value(node, f"{self.key}[{at}]", self.source, self.above) for at, node in enumerate(self.node.value)]

    def plain(self) -> Any:
        if isinstance(self.node, yaml.MappingNode):
            return {key: value.plain() for key, value in self.mapping().items()}
        if isinstance(self.node, yaml.SequenceNode):
            return [value.plain() for value in self.items()]
        try:
            return yaml.safe_load(yaml.serialize(self.node))
        except (yaml.YAMLError, ValueError) as error:
            raise self.error(f"not a value: {error}") from None

    def text(self) -> str:
        value = self.plain()
        if not isinstance(value, str):
            raise self.error(f"must be text, not {value!r}")
        return value

    def number(self, least: float, most: float) -> float:
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
            raise self.error(f"must be a number from {least} to {most}, not {value!r}")
        return float(value)

    def integer(self, least: int, most: int) -> int:
        value = self.plain()
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(f"must be a whole number from {least} to {most}, not {value!r}")
        return value

    def times(self) -> int:
        value = self.plain()
        return int(value) if isinstance(value, bool) else self.integer(0, 1_000_000)
