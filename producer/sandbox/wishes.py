"""What a role wants of its sandbox, and what of the project no agent may touch; made once for each configuration.

1. Hidden: the directory of the ledger, the private directories of every project, the project's .env.
2. Read-only: producer.yaml, prompts, the directories of the kill switch and of escalations and reports, .claude and
   .mcp.json. A place where nothing is yet can only be kept empty by keeping its directory, so .claude and .env are
   made where there are none.
3. What lies directly in project_root cannot be kept from an agent that may make files there: a ledger is refused there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.errors import SandboxMissing
from producer.places import Places
from producer.sandbox.choice import Way, bwrap_problem, choose, in_force

if TYPE_CHECKING:  # workers read no configuration
    from producer.config import ProducerConfig

AGENTS = "agents"
WARDED = (".claude", ".mcp.json")
SECRETS = ".env"
NARROW = "nothing new can be made directly beside producer.yaml, nor at the top of a worktree"


@dataclass(frozen=True)
class Wishes:
    """As it travels in the task's message. Paths are absolute."""

    mode: str = "none"
    network: str = "full"
    project: str = "/nonexistent"
    hide: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()

    @classmethod
    def of(cls, fact: Mapping[str, Any] | None) -> Wishes:
        """The inverse of ``fact``; None is a message that asks for no sandbox. Unknown keys are ignored."""
        if fact is None:
            return cls()
        lists = {name: tuple(str(path) for path in fact.get(name, ())) for name in ("hide", "keep", "read", "write")}
        return cls(str(fact["mode"]), str(fact["network"]), str(fact["project"]), **lists)

    def fact(self) -> dict[str, Any]:
        """As JSON."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of_role(cls, config: ProducerConfig, places: Places, name: str) -> Wishes:
        """What a role's attempts are to be given."""
        role, root = config.roles[name], config.project_root
        return cls(
            role.sandbox, role.network, str(root),
            hide=tuple(dict.fromkeys(map(str, (*_private(config, places), root / SECRETS)))),
            keep=tuple(dict.fromkeys(map(str, _kept(config)))),
            read=tuple(_absolute(root, path) for path in role.sandbox_read),
            write=tuple(_absolute(root, path) for path in role.sandbox_write),
        )  # fmt: skip


def problem(config: ProducerConfig, name: str, *, metered: bool) -> tuple[str, str] | None:
    """Why a role cannot be run: the key, and a line that says what to do. None where it can."""
    role = config.roles[name]
    if role.network != "full" and not metered:
        return "network", f"{role.network} needs the gateway, which auth.mode: inherit does not have"
    try:
        choose(role.sandbox, role.network)
    except SandboxMissing as error:
        return "sandbox", str(error)
    if role.sandbox == "none":
        return None
    if config.project_root == Path("/"):
        return "sandbox", "project_root is /: name the project's own directory"
    if config.project_root.resolve().is_relative_to(config.ledger_db.resolve().parent):
        where = config.ledger_db.name
        return "sandbox", f"ledger_db lies directly in project_root: move it into a directory (agent-state/{where})"
    for path in (config.ledger_db.parent, config.kill_switch.parent, *_kept(config)):
        if link := linked(config.project_root, path):
            return "sandbox", f"{link} is a link, which agents could replace: name the real place in producer.yaml"
    return None


def narrowed(config: ProducerConfig) -> str | None:
    """A line about the roles that Landlock holds because bubblewrap does not work here; None where there are none."""
    roles = config.roles.items()
    names = [name for name, role in roles if role.sandbox == "auto" and in_force("auto", role.network) == Way.LANDLOCK]
    if not names:
        return None
    return f"sandbox: Landlock holds {', '.join(names)}, for {bwrap_problem()}: {NARROW}"


def warded(config: ProducerConfig, top: Path) -> tuple[str, ...]:
    """What no agent may change in a project, by its names below ``top``, a repository's top; links followed too."""
    found: dict[str, None] = {}
    for path in (*_kept(config), config.project_root / SECRETS):
        for name in (path.parent.resolve() / path.name, path.resolve()):
            if name != top and name.is_relative_to(top):
                found[name.relative_to(top).as_posix()] = None
    return tuple(found)


def linked(root: Path, path: Path) -> Path | None:
    """The first link on the way from the project to a protected path in it."""
    if not path.is_relative_to(root):
        return None
    walked = root
    for part in path.relative_to(root).parts:
        walked = walked / part
        if walked.is_symlink():
            return walked
    return None


def _private(config: ProducerConfig, places: Places) -> Iterator[Path]:
    yield places.ledger.parent
    yield places.state.parent
    yield places.runtime.parent


def _kept(config: ProducerConfig) -> Iterator[Path]:
    root = config.project_root
    if config.source is not None:
        yield config.source
        yield config.source.with_name("producer.schema.json")
    for directory in (config.kill_switch.parent, config.escalations_dir, config.reports_dir):
        if directory != root:
            yield directory
    for name in config.roles:
        path = config.prompt_path(name)
        if path is not None:
            inside = path.is_relative_to(root / AGENTS)
            yield root / AGENTS if inside else path
    yield from (root / name for name in WARDED)


def _absolute(root: Path, path: str) -> str:
    return os.path.normpath(root / Path(path).expanduser())
