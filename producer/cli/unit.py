"""The text of a service unit: a template of the package, filled with paths that were checked.

A path goes into several directives with different rules of quoting; one with a character that any of them treats in a
special way is refused. What lies under a home directory is bound back into the view that ProtectHome= empties.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from producer.errors import UsageError

BASE = "ai-producer"
SYSTEM_UNITS = Path("/etc/systemd/system")
CREDENTIALS = ("anthropic-api-key", "anthropic-auth-token", "claude-code-oauth-token", "audit.key", "ntfy-token")
BUBBLEWRAP = """\
# A view of /proc that nothing covers: without one the kernel refuses bubblewrap a /proc of its own. To a user without
# capabilities it gives nothing that file modes do not; the limits are in docs/service.md.
BindPaths=/proc:/run/ai-producer-proc:norbind
"""
BUBBLEWRAP_CALLS = " mount umount2 pivot_root capset"
LANDLOCK = "RestrictNamespaces=yes\n"
_PLAIN = re.compile(r"/[A-Za-z0-9_./@+,=-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp")


@dataclass(frozen=True)
class Unit:
    """What a unit is made of. ``user`` None: a unit of the user's own service manager."""

    config: Path
    project: Path
    program: Path
    user: str | None
    credentials: Mapping[str, Path]
    installation: tuple[Path, ...] = ()  # the directories of the program
    landlock: bool = False  # closed to what bubblewrap needs

    def text(self) -> str:
        """The unit. Raises UsageError for a path or user that cannot stand in one."""
        for path in (self.config, self.project, self.program, *self.credentials.values()):
            _plain(path)
        if self.user is not None:
            if not _USER.fullmatch(self.user):
                raise UsageError(f"--run-as: {self.user!r} is not the name of a user")
            for path in (self.project, self.program):
                if _below(path, _PRIVATE):
                    raise UsageError(f"{path}: a system service has a /tmp of its own and would not find it: move it")
        shown = [_plain(path) for path in self.installation if _below(path, _HOMES)]
        template = resources.files("producer") / "templates" / "service" / ("user" if self.user is None else "system")
        return Path(f"{template}.service").read_text(encoding="utf-8").format(
            project=self.project,
            config=self.config,
            program=self.program,
            user=self.user,
            credentials="".join(f"LoadCredential={name}:{path}\n" for name, path in self.credentials.items()),
            sandbox=LANDLOCK if self.landlock else BUBBLEWRAP,
            calls="" if self.landlock else BUBBLEWRAP_CALLS,
            homes="tmpfs" if any(_below(path, _HOMES) for path in (self.project, self.config, *shown)) else "yes",
            programs="".join(f"BindReadOnlyPaths={path}\n" for path in shown),
        )  # fmt: skip


def installation(program: Path) -> tuple[Path, ...]:
    """Where this program lies: its environment, its interpreter, its source."""
    source = Path(str(resources.files("producer"))).resolve().parent
    return tuple(sorted({Path(sys.prefix), Path(sys.base_prefix), source, program.parent.parent}))


def example() -> Unit:
    """The unit of the repository's systemd/ai-producer.service."""
    project, place = Path("/srv/projects/example"), Path("/opt/ai-producer")
    return Unit(project / "producer.yaml", project, place / "bin/producerctl", "aiproducer", {}, (place,))


def unit_name(name: str | None) -> str:
    """The unit's file name. Raises UsageError for a name that cannot be part of one."""
    if name is None:
        return f"{BASE}.service"
    if not _NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r} is not 1 to 48 letters, digits, - and _ that begin with a letter or digit")
    return f"{BASE}-{name}.service"


def parse_credentials(words: tuple[str, ...]) -> dict[str, Path]:
    """NAME=FILE words. Raises UsageError for an unknown name and a file that is not there."""
    found: dict[str, Path] = {}
    for word in words:
        name, _, file = word.partition("=")
        if name not in CREDENTIALS:
            raise UsageError(f"--credential: {name!r} is not one of {', '.join(CREDENTIALS)}")
        path = Path(file)
        if not path.is_absolute() or not path.is_file():
            raise UsageError(f"--credential: {name}: {file!r} is not the absolute path of a file that exists")
        found[name] = path
    return found


def _plain(path: Path) -> Path:
    if not _PLAIN.fullmatch(str(path)) or ".." in path.parts:
        raise UsageError(f"{str(path)!r} cannot stand in a unit: only letters, digits and _ . / @ + , = - may be in it")
    return path


def _below(path: Path, roots: tuple[str, ...]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


if __name__ == "__main__":
    sys.stdout.write(example().text())
