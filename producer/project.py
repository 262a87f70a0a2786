"""What most commands need of producer.yaml, without reading all of it where a supervisor has: that takes a tenth of a
second.

1. A supervisor notes what it has read, at its start and at a reload, in the private state directory: of which file, to
   the byte, by which version of the program, and what came of it.
2. A note stands for the file where all of that is the same. Where the ledger lies, and so the note, is guessed from the
   file's lines: a wrong guess finds no note, or one of another root or ledger. Then the file is read with every check.
3. A note knows nothing of other files (prompts): whoever starts, reloads or asks `doctor` looks at those.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from producer.config.files import MAX_BYTES, read_bytes
from producer.errors import ProducerError
from producer.places import Places
from producer.version import __version__

if TYPE_CHECKING:
    from producer.config import ProducerConfig

FILE = "project.json"
LIMITS = ("depth", "filed_per_attempt", "pending_per_role", "title_bytes", "payload_bytes")
PLACES = {"ledger_db": "agent-state/ledger.db", "kill_switch": "agent-state/kill_switch"}


@dataclass(frozen=True)
class Project:
    """Where a project's ledger and switch are, its roles, and the limits of what is filed: those of core/guards.py."""

    project_name: str
    ledger_db: Path
    kill_switch: Path
    roles: tuple[str, ...]
    limits: Mapping[str, int]

    @classmethod
    def of(cls, config: ProducerConfig) -> Project:
        """Out of a configuration that was read."""
        limits = {name: getattr(config.limits, name) for name in LIMITS}
        return cls(config.project_name, config.ledger_db, config.kill_switch, tuple(config.roles), limits)


def note(config: ProducerConfig, places: Places) -> None:
    """Keep what this configuration says for the next command. Where that fails, the command reads the file."""
    if config.source is None:
        return
    seen = _seen(config.source, config.sha256, config.project_root)
    text = json.dumps({**seen, "project": asdict(Project.of(config))}, default=str)
    fresh = places.state / f".{FILE}.new"
    with suppress(OSError):
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(text)
        fresh.replace(places.state / FILE)


def noted(path: Path) -> Project | None:
    """What a supervisor noted of this very file, None where none did."""
    try:
        raw = read_bytes(path, MAX_BYTES)
        named = guess(path, raw.decode("utf-8-sig"))
        found = json.loads((Places.of(named["ledger_db"]).state / FILE).read_text())
        project = _project(found.pop("project"))
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RuntimeError, ProducerError):
        return None
    seen = _seen(path.absolute(), hashlib.sha256(raw).hexdigest(), named["project_root"])
    return project if found == seen and project.ledger_db == named["ledger_db"] else None


def guess(path: Path, text: str) -> dict[str, Path]:
    """The root, ledger and switch that a file's lines seem to name; it need not be one that can be used."""
    lines = {
        key: re.search(rf"^{key}:[ \t]*[\"']?([^\s\"'#]+)", text, re.MULTILINE) for key in ("project_root", *PLACES)
    }
    root = (path.absolute().parent / (lines["project_root"][1] if lines["project_root"] else ".")).resolve()
    places = {key: root / (line[1] if (line := lines[key]) else usual) for key, usual in PLACES.items()}
    return {"project_root": root, **places}


def _seen(source: Path, sha256: str, root: Path) -> dict[str, str]:
    return {"source": str(source), "sha256": sha256, "project_root": str(root), "version": __version__}


def _project(found: dict[str, Any]) -> Project:
    places = {key: Path(found[key]) for key in PLACES}
    return Project(found["project_name"], **places, roles=tuple(found["roles"]), limits=found["limits"])
