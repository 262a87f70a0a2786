"""The files of a new project.

1. What would be written is worked out completely before anything is; a refusal leaves the directory as it was.
2. Where producer.yaml stands already, nothing is touched without ``force``. Elsewhere files that exist are kept, and
   .gitignore only gains lines.
3. Every file appears whole or not at all, and producer.yaml comes last: an init that was cut off is just repeated.
4. The ledger is created where there is none, and never overwritten, not even with ``force``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Literal

from producer.config import load_config
from producer.config.load import check_text
from producer.errors import ConfigError, ProducerError, UsageError

ROLES = ("producer", "code", "qa", "wakeup")
CONFIG = "producer.yaml"
LEDGER = "agent-state/ledger.db"
TOPIC_BITS = 128
LONGEST_TOPIC = 64
UNNAMED = "my-project"


@dataclass(frozen=True)
class Settings:
    """What the wizard asks for. An empty ``ntfy_topic`` turns pushing off."""

    project_name: str
    ntfy_topic: str
    subject_prefix: str


@dataclass(frozen=True)
class Change:
    """One file of the scaffold, and what becomes of it; ``old``: what it holds, where that would be lost."""

    path: Path
    text: str
    what: Literal["create", "overwrite", "extend", "keep", "unchanged"]
    old: str = ""

    @property
    def writes(self) -> bool:
        """Whether the file is touched."""
        return self.what in ("create", "overwrite", "extend")


def default_settings(target: Path) -> Settings:
    """The settings of the project that is there; for a new one its directory's name and an unguessable topic."""
    try:
        config = load_config(target / CONFIG)
    except ConfigError:
        name = target.resolve().name
        name = name if name.strip() and name.isprintable() and len(name) <= 100 else UNNAMED
        return Settings(name, random_topic(name), name)
    return Settings(config.project_name, config.notifications.ntfy_topic, config.notifications.subject_prefix)


def random_topic(name: str) -> str:
    """A topic that begins like the project and ends in 128 random bits."""
    bits = secrets.token_hex(TOPIC_BITS // 8)
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[: LONGEST_TOPIC - len(bits) - 1].strip("-")
    return f"{prefix}-{bits}" if prefix else bits


def plan(target: Path, settings: Settings, *, force: bool = False) -> list[Change]:
    """Every file of the scaffold, producer.yaml last. Raises UsageError where something is in the way."""
    target = target.resolve()
    changes = [_change(target / name, text, force) for name, text in _files(settings)]
    for change in changes:
        _refuse_obstacle(target, change.path)
    _refuse_obstacle(target, target / LEDGER)
    check_text(changes[-1].text, CONFIG)
    return changes


def scaffold(
    target: Path,
    *,
    project_name: str | None = None,
    ntfy_topic: str | None = None,
    subject_prefix: str | None = None,
    force: bool = False,
) -> list[Path]:
    """Write a new project and create its ledger. Gives the files written; what is None takes its default.

    Raises UsageError over an existing project without ``force``, ConfigError for settings that cannot be.
    """
    settings = default_settings(target)
    given = {"project_name": project_name, "ntfy_topic": ntfy_topic, "subject_prefix": subject_prefix}
    if project_name is not None and subject_prefix is None:
        given["subject_prefix"] = project_name
    settings = replace(settings, **{name: value for name, value in given.items() if value is not None})
    changes = plan(target, settings, force=force)
    if not force and (target / CONFIG).exists():
        raise UsageError(f"{target.resolve() / CONFIG} exists: call with --force to overwrite the project's files")
    return apply(target.resolve(), changes)


def apply(target: Path, changes: list[Change]) -> list[Path]:
    """Create the ledger and write the files that change; their paths. Raises ProducerError where the disk refuses."""
    from producer.ledger import create_ledger

    try:
        (target / LEDGER).parent.mkdir(parents=True, exist_ok=True)
        if not (target / LEDGER).exists():
            create_ledger(target / LEDGER)
        for change in changes:
            if change.writes:
                _write(change.path, change.text)
    except OSError as error:
        raise ProducerError(f"{error.filename or target}: cannot be written: {error.strerror}") from None
    return [change.path for change in changes if change.writes]


def template(name: str) -> str:
    """The text of a shipped template."""
    return resources.files("producer").joinpath("templates", name).read_text(encoding="utf-8")


def _files(settings: Settings) -> Iterator[tuple[str, str]]:
    plain = {"project_name": settings.project_name}
    for role in ROLES:
        yield f"agents/{role}/system_prompt.md", Template(template(f"agents/{role}.md")).safe_substitute(plain)
    yield "ONBOARDING.md", Template(template("ONBOARDING.md.template")).safe_substitute(plain)
    yield "seed_tasks.example.json", template("seed_tasks.example.json")
    yield "producer.schema.json", template("producer.schema.json")
    yield ".gitignore", template("gitignore")
    # A JSON string is a YAML string too, whatever stands in it.
    quoted = {name: json.dumps(value, ensure_ascii=False) for name, value in vars(settings).items()}
    yield CONFIG, Template(template("producer.yaml.template")).substitute(quoted)


def _change(path: Path, text: str, force: bool) -> Change:
    try:
        old = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Change(path, text, "create")
    except IsADirectoryError:
        raise UsageError(f"{path} is a directory: a file has to be written there") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    if path.name == ".gitignore":
        return _extend(path, old.decode("utf-8", "surrogateescape"), text)
    if old == text.encode():
        return Change(path, text, "unchanged")
    before = old.decode("utf-8", "replace")
    return Change(path, text, "overwrite" if force or path.name == CONFIG else "keep", before)


def _extend(path: Path, old: str, lines: str) -> Change:
    have = {line.strip() for line in old.splitlines()}
    missing = [line for line in lines.splitlines() if line not in have and line.rstrip("/") not in have]
    if not missing:
        return Change(path, old, "unchanged")
    start = old if not old or old.endswith("\n") else old + "\n"
    return Change(path, start + "\n".join(missing) + "\n", "extend")


def _refuse_obstacle(target: Path, path: Path) -> None:
    for parent in (target, *target.parents, *(path.parents[: len(path.parents) - len(target.parents)])):
        if parent.exists() and not parent.is_dir():
            raise UsageError(f"{parent} is not a directory: move it, or name another with --dir")


def _write(path: Path, text: str) -> None:
    path = path.resolve()  # a link stays a link: what it leads to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
