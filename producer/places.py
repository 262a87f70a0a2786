"""Where a project's private things lie.

Keys, sockets, outboxes, config directories, the gateway's journal and the copy of the audit head lie outside the
project, in directories of mode 0700 that are found from the ledger's path alone:

    state    $STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/ai-producer, else ~/.local/state/ai-producer
    runtime  $RUNTIME_DIRECTORY (systemd), else $XDG_RUNTIME_DIR/ai-producer, else the state directory's `run`

each with one directory a ledger, named after a hash of the ledger's real path. Where a system service of this user has
one (/var/lib/ai-producer, /run/ai-producer), that is it: so commands outside the service find it. A variable with a
relative path is ignored, as the XDG specification says. A socket path may have 107 bytes; a runtime directory too deep
for that is refused with the ways out, one of which is loopback tcp: its ports stand in a file of the runtime directory.
A directory that belongs to somebody else is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from producer.errors import ForeignDirectory, PathTooLong

MAX_SOCKET_PATH = 107
IPC = "ipc"  # the words of producer.yaml's `sockets`; `tcp` and LOOPBACK with a port are the others
LOOPBACK = "tcp://127.0.0.1:"


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
        """The places of the ledger at this path."""
        ledger = Path(ledger).resolve()
        key = hashlib.sha256(os.fsencode(ledger)).hexdigest()[:12]
        state, runtime = _bases(env)
        if _is_ours(SYSTEM_STATE / key):
            state, runtime = SYSTEM_STATE, SYSTEM_RUNTIME
        return cls(ledger, key, state / key, runtime / key)

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

    @property
    def endpoints(self) -> Path:
        """The addresses of a supervisor that listens on tcp; they outlive it, for the next takes the same ports."""
        return self.runtime / "endpoints"

    def address(self, socket: str) -> str:
        """The address of one of the sockets tasks, results, control, events. Raises PathTooLong."""
        return self.listening(socket) or f"ipc://{self.socket_path(socket)}"

    def listening(self, socket: str) -> str | None:
        """The tcp address that ``endpoints`` has for a socket; None where there is none."""
        try:
            found = json.loads(self.endpoints.read_text())[socket]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) and found.startswith(LOOPBACK) else None

    def socket_path(self, socket: str) -> Path:
        """The file of a Unix socket. Raises PathTooLong."""
        path = self.runtime / socket
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            raise PathTooLong(path)
        return path

    def bound(self) -> tuple[int, int] | None:
        """Differs as soon as another supervisor has its sockets; None where there are none."""
        for path in (self.endpoints, self.runtime / "tasks"):
            try:
                found = path.stat()
            except OSError:
                continue
            return found.st_ino, found.st_ctime_ns
        return None


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
