"""The text of a service's units: templates of the package, filled with paths that were checked.

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

from producer import workers_unit
from producer.errors import UsageError

BASE = "ai-producer"
SYSTEM_UNITS = Path("/etc/systemd/system")
CREDENTIALS = ("anthropic-api-key", "anthropic-auth-token", "claude-code-oauth-token", "audit.key", "ntfy-token")
RUNTIME = "/run/ai-producer"
CLOSED = "# Nothing in here makes a namespace: {}.\nRestrictNamespaces=yes\n"
LANDLOCK_CALLS = "SystemCallFilter=landlock_create_ruleset landlock_add_rule landlock_restrict_self\n"
BUBBLEWRAP_CALLS = "SystemCallFilter=mount umount2 pivot_root capset\n"
_PLAIN = re.compile(r"/[A-Za-z0-9_./@+,=-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp")


@dataclass(frozen=True)
class Unit:
    """What the units of a service are made of. ``user`` None: a unit of the user's own service manager."""

    config: Path
    project: Path
    program: Path
    python: Path
    user: str | None
    credentials: Mapping[str, Path]
    installation: tuple[Path, ...] = ()  # the directories of the program
    landlock: bool = False  # agents without bubblewrap, in the supervisor's own unit
    name: str | None = None

    def texts(self) -> dict[str, str]:
        """The units by their file names, the supervisor's first. Raises UsageError for what cannot stand in one."""
        supervisor, socket, workers = unit_names(self.name)
        self._check()
        values = {"project": self.project, "user": self.user, "python": self.python, "config": self.config}
        values |= {"program": self.program, "supervisor": supervisor, "workers": workers, "socket_unit": socket}
        values["credentials"] = "".join(f"LoadCredential={name}:{path}\n" for name, path in self.credentials.items())
        if self.user is None:
            return {supervisor: _template("user.service").format(**values)}
        if self.landlock:
            values |= {
                "wants": "",
                "environment": "",
                "closed": CLOSED.format("agents are held by Landlock") + self._closed(LANDLOCK_CALLS),
            }
            return {supervisor: _template("system.service").format(**values)}
        values["socket"] = f"{RUNTIME}/{socket}"
        opened = {"closed": self._closed(LANDLOCK_CALLS + BUBBLEWRAP_CALLS)}
        values["wants"] = f"Wants={socket}\nAfter={socket}\n"
        values["environment"] = f"Environment={workers_unit.VARIABLE}={values['socket']}\n"
        values["closed"] = CLOSED.format(f"agents live in {workers}") + self._closed("")
        return {
            supervisor: _template("system.service").format(**values),
            socket: _template("workers.socket").format(**values),
            workers: _template("workers.service").format(**values | opened),
        }

    def _check(self) -> None:
        for path in (self.config, self.project, self.program, self.python, *self.credentials.values()):
            _plain(path)
        if self.user is None:
            return
        if not _USER.fullmatch(self.user):
            raise UsageError(f"--run-as: {self.user!r} is not the name of a user")
        for path in (self.project, self.program):
            if _below(path, _PRIVATE):
                raise UsageError(f"{path}: a system service has a /tmp of its own and would not find it: move it")

    def _closed(self, calls: str) -> str:
        """What both units are closed to, but for some system calls."""
        shown = [_plain(path) for path in self.installation if _below(path, _HOMES)]
        return _template("closed.part").format(
            project=self.project,
            homes="tmpfs" if any(_below(path, _HOMES) for path in (self.project, self.config, *shown)) else "yes",
            programs="".join(f"BindReadOnlyPaths={path}\n" for path in shown),
            calls=calls,
        )


def _template(name: str) -> str:
    return (resources.files("producer") / "templates" / "service" / name).read_text(encoding="utf-8")


def installation(program: Path) -> tuple[Path, ...]:
    """Where this program lies: its environment, its interpreter, its source."""
    source = Path(str(resources.files("producer"))).resolve().parent
    return tuple(sorted({Path(sys.prefix), Path(sys.base_prefix), source, program.parent.parent}))


def example() -> Unit:
    """The units of the repository's systemd/."""
    project, place = Path("/srv/projects/example"), Path("/opt/ai-producer")
    programs = (place / "bin/producerctl", place / "bin/python")
    return Unit(project / "producer.yaml", project, *programs, "aiproducer", {}, (place,))


def unit_names(name: str | None) -> tuple[str, str, str]:
    """The units' file names: the supervisor's, the workers' socket and service.

    Raises UsageError for a name that cannot be part of one.
    """
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"--name: {name!r} is not 1 to 48 letters, digits, - and _ that begin with a letter or digit")
    base = BASE if name is None else f"{BASE}-{name}"
    return f"{base}.service", f"{base}-workers.socket", f"{base}-workers@.service"


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
    for file, text in example().texts().items():
        (Path(sys.argv[1]) / file).write_text(text, encoding="utf-8")
