"""git, as we run it: no hooks, no helpers, no prompts, a clean environment, and never for longer than LIMIT.

1. Agents write in repositories that we then run git in. What a repository's configuration could have git start for us
   (hooks, the file system monitor, filters, merge drivers, an editor, gpg) is switched off; a merge driver becomes
   `false`, which is a conflict, and so nothing that it would have merged is lost. Filters, git-lfs among them, are
   not run: files are committed as they lie there.
2. Only the repository's own configuration is read, neither the user's nor the machine's.
3. A process is in a session of its own and is killed with all below it when its time is over (producer/helper.py).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from producer import helper
from producer.errors import WorkspaceError
from producer.helper import still as still

LIMIT = 120.0
OLDEST = (2, 38)  # the first with `merge-tree --write-tree`
FIXED = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.editor": "true",
    "core.quotePath": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "merge.autoStash": "false",
    "merge.conflictStyle": "merge",
    "protocol.allow": "never",
    "rerere.enabled": "false",
    "submodule.recurse": "false",
}
DRIVERS = {"clean": "", "smudge": "", "process": "", "required": "false", "driver": "false"}


@dataclass(frozen=True)
class Ran:
    """What a git process said; ``code``: its exit code."""

    code: int
    out: str
    err: str

    @property
    def why(self) -> str:
        """Its complaint on one line."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return "; ".join(lines)[:500] or f"exit {self.code}"


class Git:
    """git in one directory. ``git_dir``: the repository's, where the directory's own word for it is not to be trusted.

    ``held``: descriptors that live as long as the processes (a lock).
    """

    def __init__(self, directory: Path | str, *, git_dir: Path | None = None, held: tuple[int, ...] = ()) -> None:
        self._directory, self._held = Path(directory), held
        self._where = [f"--git-dir={git_dir}", f"--work-tree={directory}"] if git_dir else []
        self._settings: dict[str, str] | None = None

    def __call__(self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
        """Run a command that has to succeed; what it printed, without the last newline. Raises WorkspaceError."""
        ran = self.run(*words, stdin=stdin, env=env)
        if ran.code:
            raise WorkspaceError(f"git {words[0]}: {ran.why}")
        return ran.out.rstrip("\n")

    def run(self, *words: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Ran:
        """Run a command. Raises WorkspaceError where there is no git, or where it takes too long."""
        if self._settings is None:
            self._settings = FIXED | self._drivers()
        return self._run(words, self._settings, stdin, env or {})

    def _drivers(self) -> dict[str, str]:
        """The helper programs that the repository's configuration names, each switched off."""
        ran = self._run(("config", "-z", "--name-only", "--get-regexp", r"^(filter|merge)\..*"), FIXED, None, {})
        names = [name for name in ran.out.split("\0") if name.count(".") >= 2]
        return {name: DRIVERS[last] for name in names if (last := name.rsplit(".", 1)[1]) in DRIVERS}

    def _run(
        self, words: tuple[str, ...], settings: Mapping[str, str], stdin: str | None, env: Mapping[str, str]
    ) -> Ran:
        command = ["git", *self._where, *words]
        try:
            code, out, err = helper.run(
                command, self._directory, {**_environment(settings), **env}, stdin, LIMIT, held=self._held
            )
        except OSError as error:
            raise WorkspaceError(f"git cannot be started: {error.strerror}: {error.filename}") from None
        except subprocess.TimeoutExpired:
            raise WorkspaceError(f"git {words[0]} took longer than {LIMIT:g} s and was ended") from None
        return Ran(code, out, err)


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """All that git gets to see. Settings by environment, because a name may hold what a command line cannot."""
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_PAGER": "cat",
        "GIT_ADVICE": "0",
        "GIT_CONFIG_COUNT": str(len(settings)),
    }
    for number, (name, value) in enumerate(settings.items()):
        env[f"GIT_CONFIG_KEY_{number}"], env[f"GIT_CONFIG_VALUE_{number}"] = name, value
    return env
