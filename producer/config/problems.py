"""What is wrong with a producer.yaml, in one line: where, which key, which value, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from pydantic import ValidationError

from producer.config import tools
from producer.config.blocks import ScheduleEntry
from producer.config.model import Document
from producer.config.roles import RoleConfig
from producer.config.tree import Mapping, Node, Scalar, join, line_of, printable, shown
from producer.errors import ConfigError

if TYPE_CHECKING:
    from producer.config.load import ProducerConfig

Path_ = tuple[str | int, ...]
REQUIRED = "this key is required"


def first(error: ValidationError, tree: Mapping, file: Path | str) -> ConfigError:
    """The problem that stands highest in the file, of all that validation found."""
    found = [_problem(detail, tree) for detail in error.errors(include_url=False, include_context=True)]
    # A key that is missing is often one that is misspelt: the misspelt one is the better answer.
    path, problem = min(found, key=lambda item: (item[1] == REQUIRED, line_of(tree, item[0])))
    return ConfigError(problem, file=file, line=line_of(tree, path), key=join(path) or None)


def unknown(path: Path_, tree: Mapping, file: Path | str) -> ConfigError:
    """The error for a key that stands where it is not known."""
    return ConfigError(_unknown(path), file=file, line=line_of(tree, path), key=join(path))


def _problem(detail: Any, tree: Mapping) -> tuple[Path_, str]:
    kind, path = detail["type"], tuple(part for part in detail["loc"] if part != "[key]")
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        return path, _unknown(path)
    if kind in ("missing", "missing_argument"):
        return path, REQUIRED
    allowed = detail["ctx"]["allowed"] if kind == "kind" else _container(kind, path)
    if "[key]" in detail["loc"]:
        return path, f"the name is not allowed: it must be {allowed}"
    value = _at(tree, path)
    if isinstance(value, Scalar) and value.is_null:
        return path, f"no value is given: it must be {allowed}"
    return path, f"{shown(value)} is not allowed: it must be {allowed}"


def _container(kind: str, path: Path_) -> str:
    if not kind.startswith("list"):
        return "a mapping of keys to values"
    return "a list, each entry after a `-`" if path == ("schedule",) else "a list such as [Read, Grep]"


def _at(tree: Node, path: Path_) -> Any:
    node: Any = tree
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return node
    return node


def _unknown(path: Path_) -> str:
    *parent, name = path
    known = _keys(_block(tuple(parent)))
    near = get_close_matches(str(name), known, 1)
    hint = f"did you mean {near[0]}? " if near else _elsewhere(str(name))
    return f"unknown key: {hint}allowed here: {', '.join(known)}"


@cache
def _hints(block: Any) -> dict[str, Any]:
    # The annotations are text and are evaluated anew at every call.
    return get_type_hints(block)


def _keys(block: Any) -> list[str]:
    # A role's name is its key in the file, so it is no key inside the role.
    return [name for name in _hints(block) if (block, name) != (RoleConfig, "name")]


def _block(path: Path_) -> Any:
    """The class of the block at ``path``. Where blocks are kept by name or in a list, any of them leads to it."""
    block: Any = Document
    for part in path:
        block = _hints(block)[str(part)] if isinstance(block, type) else get_args(block)[-1]
    return block


def _elsewhere(name: str) -> str:
    """Where a key that is unknown here would be at home."""
    homes = [f"{place}{name}" for place, keys in _homes(Document, "") if name in keys]
    return f"did you mean {' or '.join(homes[:3])}? " if homes else ""


def _homes(block: Any, place: str) -> Iterator[tuple[str, list[str]]]:
    yield place, _keys(block)
    for name in _keys(block):
        kind = _hints(block)[name]
        if get_origin(kind) is list and hasattr(get_args(kind)[0], "__annotations__"):
            yield from _homes(get_args(kind)[0], f"{place}{name}.")
        elif get_origin(kind) is dict and hasattr(get_args(kind)[1], "__annotations__"):
            yield from _homes(get_args(kind)[1], f"{place}{name}.{'ROLE' if name == 'agents' else 'NAME'}.")
        elif is_dataclass(kind):
            yield from _homes(kind, f"{place}{name}.")


def check(config: ProducerConfig, tree: Mapping, file: Path) -> None:
    """What no single value shows. Raises ConfigError for the first problem in the order of the file."""
    found = [(line_of(tree, path), path, problem) for path, problem in _checks(config, tree)]
    if found:
        line, path, problem = min(found, key=lambda item: item[0])
        raise ConfigError(problem, file=file, line=line, key=join(path) or None)


def _checks(config: ProducerConfig, tree: Mapping) -> Iterator[tuple[Path_, str]]:
    if not config.project_root.is_dir():
        yield ("project_root",), f"{printable(config.project_root)} is not a directory"
        return
    if config.kill_switch.resolve() == config.ledger_db.resolve():
        yield ("kill_switch",), "it must not be the file that ledger_db names"
    seen: dict[str, str] = {}
    for name, role in config.roles.items():
        path: Path_ = ("budget", "agents", name)
        if (other := seen.setdefault(name.lower(), name)) != name:
            yield path, f"differs from the role {other} in nothing but capitals: rename one of them"
        yield from _check_role(config, role, path)
    for index, entry in enumerate(config.schedule):
        yield from _check_schedule(config, entry, index)


def _check_schedule(config: ProducerConfig, entry: ScheduleEntry, index: int) -> Iterator[tuple[Path_, str]]:
    path: Path_ = ("schedule", index)
    if entry.role not in config.roles:
        allowed = f"one of {', '.join(config.roles)}" if config.roles else "a role of budget.agents, which has none"
        yield (*path, "role"), f"{shown(entry.role)} is not allowed: it must be {allowed}"
    key = (entry.cron, entry.timezone, entry.role, entry.title)
    for other, before in enumerate(config.schedule[:index]):
        if key == (before.cron, before.timezone, before.role, before.title):
            yield path, f"the same as entry {other + 1} of the schedule: remove one, or change its title"
    if len(entry.title.encode()) > config.limits.title_bytes:
        yield (*path, "title"), f"longer than limits.title_bytes ({config.limits.title_bytes}): use the description"
    if len(json.dumps(entry.payload, ensure_ascii=False).encode()) > config.limits.payload_bytes:
        yield (*path, "payload"), f"larger than limits.payload_bytes ({config.limits.payload_bytes})"


def _check_role(config: ProducerConfig, role: RoleConfig, path: Path_) -> Iterator[tuple[Path_, str]]:
    if role.prompt is not None and (problem := prompt_problem(config.project_root, role.prompt)):
        yield (*path, "prompt"), f"{shown(role.prompt)} is not allowed: {problem}"
    for index, rule in enumerate(role.allowed_tools):
        if problem := tools.problem_with(rule, role.mcp_servers):
            yield (*path, "allowed_tools", index), f"{shown(rule)} is not allowed: it must be {problem}"
    if role.workspace == "worktree" and role.on_done == "review":
        others = [name for name in config.roles if name != role.name]
        if role.reviewer is None or role.reviewer not in others:
            given = "no value is given" if role.reviewer is None else f"{shown(role.reviewer)} is not allowed"
            where = (*path, "on_done" if role.reviewer is None else "reviewer")
            yield where, f"{given}: reviewer must be another role: {', '.join(others) or '(there is none)'}"
    if role.retry.cap_seconds < role.retry.base_seconds:
        yield (*path, "retry", "cap_seconds"), f"it must be at least base_seconds ({role.retry.base_seconds:g})"
    for name, server in role.mcp_servers.items():
        needed = "command" if server.get("type", "stdio") == "stdio" else "url"
        if needed not in server:
            yield (*path, "mcp_servers", name), f"a server of type {server.get('type', 'stdio')} needs {needed}"


def prompt_problem(root: Path, prompt: str) -> str | None:
    """Why a prompt file is not acceptable, or None. Links are followed first: what counts is where the text lies."""
    try:
        file = (root / prompt).resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        return f"there is no such file under {printable(root)}"
    if not file.is_relative_to(root.resolve()):
        return f"a prompt must lie inside the project, {printable(root)}"
    if not file.is_file():
        return "a prompt must be a file"
    return None
