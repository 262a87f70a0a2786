"""Where a project's private things lie.

Keys, sockets, outboxes, config directories, the gateway's journal and the copy of the audit head lie outside the
project, in directories of mode 0700 that are found from the ledger's path alone:

    state    $STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/ai-producer, else ~/.local/state/ai-producer
    runtime  $RUNTIME_DIRECTORY (systemd), else $XDG_RUNTIME_DIR/ai-producer, else the state directory's `run`

each with one directory a ledger, named after a hash of the ledger's real path. Where a system service of this user has
one (/var/lib/ai-producer, /run/ai-producer), that is it: so commands outside the service find it. A variable with a
relative path is ignored, as the XDG specification says. A socket path may have 107 bytes; a runtime directory too deep
for that is refused with the way out, and so is a directory that belongs to somebody else.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from producer.errors import ForeignDirectory, PathTooLong

MAX_SOCKET_PATH = 107
LONGEST_SOCKET = "control"


SYSTEM_STATE = Path("/var/lib/ai-producer")
SYSTEM_RUNTIME = Path("/run/ai-producer")


@dataclass(frozen=True)
class Places:
    """The private directories of one ledger. Nothing is created until ``make`` is called."""

    ledger: Path
    key: str
    state: Path
    runtime: Path

    @classmethod
    def of(cls, ledger: Path | str, env: Mapping[str, str] = os.environ) -> Places:
        """The places of the ledger at this path. Raises PathTooLong where no socket would fit."""
        ledger = Path(ledger).resolve()
        key = hashlib.sha256(os.fsencode(ledger)).hexdigest()[:12]
        state, runtime = _bases(env)
        if _is_ours(SYSTEM_STATE / key):
            state, runtime = SYSTEM_STATE, SYSTEM_RUNTIME
        places = cls(ledger, key, state / key, runtime / key)
        if len(os.fsencode(places.runtime / LONGEST_SOCKET)) > MAX_SOCKET_PATH:
            raise PathTooLong(places.runtime / LONGEST_SOCKET)
        return places

    def make(self) -> Places:
        """Create the directories, private to this user. Raises ForeignDirectory where one is another user's."""
        inside = (self.keys, self.outboxes, self.inbox, self.journal, self.workers, self.tasks, self.standing)
        for path in (self.state, self.runtime, *inside):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = path.stat()
            if status.st_uid != os.geteuid():
                raise ForeignDirectory(path)
            if status.st_mode & 0o077:
                path.chmod(0o700)
        return self

    @property
    def lock(self) -> Path:
        """Whoever writes the ledger holds this file locked; its text says who."""
        return self.ledger.with_name(self.ledger.name + ".lock")

    @property
    def keys(self) -> Path:
        """CURVE keys and the gateway's token secret."""
        return self.state / "keys"

    @property
    def outboxes(self) -> Path:
        """One directory a worker start: results not yet acknowledged."""
        return self.state / "outboxes"

    @property
    def inbox(self) -> Path:
        """Arguments of requests that are too big for a message, while they are asked."""
        return self.state / "inbox"

    @property
    def journal(self) -> Path:
        """The gateway's journal: one line for every model request that began or ended."""
        return self.state / "journal"

    @property
    def workers(self) -> Path:
        """One small file a living child process, for adoption and for the sweep."""
        return self.state / "workers"

    @property
    def tasks(self) -> Path:
        """One directory a task: its CLAUDE_CONFIG_DIR and its HOME."""
        return self.state / "tasks"

    @property
    def standing(self) -> Path:
        """One empty file for every process that stands by, named like its directory in ``tasks``.

        The task that it gets has a link to that directory there.
        """
        return self.state / "standing"

    @property
    def worktrees(self) -> Path:
        """One git worktree a task of a role that works in them."""
        return self.state / "worktrees"

    def config_dir(self, task: str) -> Path:
        """The CLAUDE_CONFIG_DIR of a task: the same for every attempt of it."""
        return self.tasks / task / "claude"

    def home(self, task: str) -> Path:
        """The HOME that a task's processes see."""
        return self.tasks / task / "home"

    def address(self, socket: str) -> str:
        """The ipc address of one of the sockets tasks, results, control, events."""
        return f"ipc://{self.runtime / socket}"


def _bases(env: Mapping[str, str]) -> tuple[Path, Path]:
    state = _base(env, "STATE_DIRECTORY", "XDG_STATE_HOME")
    state = state or Path(env.get("HOME", "/")) / ".local/state/ai-producer"
    return state, _base(env, "RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR") or state / "run"


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _base(env: Mapping[str, str], systemd: str, xdg: str) -> Path | None:
    own = Path(env.get(systemd, "").split(":")[0])
    if own.is_absolute():
        return own
    common = Path(env.get(xdg, ""))
    return common / "ai-producer" if common.is_absolute() else None
