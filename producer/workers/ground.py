"""The ground a claude run stands on: its directories, its lock, its session, and what is too long for the wire.

1. CLAUDE_CONFIG_DIR, HOME, scratch, launcher and lock lie in one private directory a task. A process that stood by
   brings its own: then the task's directory is a link to it, and every later attempt of the task finds it there.
2. A session is taken up again only if its transcript can be read; otherwise a fresh one begins, and a note says why.
3. One process a session: whoever runs it holds the task's lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from producer.ids import new_session
from producer.wire.messages import Started, TaskMsg
from producer.workers import options, transcript

LONGEST_RESULT = 100_000
LONGEST_ARGUMENT = 100_000


@dataclass
class Session:
    """The session a run uses: its id, whether it is taken up again, what it had cost before, and a remark."""

    id: str
    resumed: bool = False
    prompted: bool = False
    spent: int = 0
    note: str | None = None

    def afresh(self, note: str) -> Session:
        """A new session in the place of one that cannot be resumed."""
        return Session(new_session(), note=note)


def keep_text(task: TaskMsg, text: str) -> tuple[str, list[str]]:
    """The text as it may cross the wire; what is longer lies in a file of the task, and is referred to."""
    if len(text) <= LONGEST_RESULT:
        return text, []
    path = Path(task.config_dir).parent / f"output-{task.attempt}.txt"
    path.write_text(text, encoding="utf-8")
    return f"{text[:LONGEST_RESULT]}… (whole text: {path})", [str(path)]


def choose_session(task: TaskMsg) -> Session:
    """Which session to use, from what the task asks for and what lies on the disk."""
    session = Session(task.session_id)
    found = transcript.inspect(options.config_dir(task, os.environ), task.session_id)
    if not task.resume:
        return session.afresh(f"session {task.session_id} exists already: started another") if found.exists else session
    if not found.usable:
        state = "damaged" if found.exists else "missing"
        return session.afresh(f"the transcript of session {task.session_id} is {state}: started afresh")
    return Session(task.session_id, resumed=True, prompted=found.prompted, spent=found.spent)


def started(task: TaskMsg, session: Session) -> Started:
    """The announcement of a run in this session."""
    return Started(attempt=task.attempt, session_id=session.id, resumed=session.resumed, note=session.note)


def settled(task: TaskMsg) -> TaskMsg:
    """The task with its real directories, and its directory where later attempts look for it."""
    own = Path(task.config_dir).parent
    if task.known_as is not None:
        link = Path(task.known_as)
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        link.symlink_to(os.path.relpath(own, link.parent))
    elif own.is_symlink():
        real = own.resolve()
        return replace(task, config_dir=str(real / Path(task.config_dir).name), home=str(real / Path(task.home).name))
    return task


def prepare(task: TaskMsg) -> None:
    """Make the task's private directories; without a token, let it see the user's own credentials file, alone.

    In inherit mode it has the host's, but for scratch in a sandbox.
    """
    if options.has_scratch(task):
        options.scratch(task).mkdir(parents=True, exist_ok=True, mode=0o700)
    if task.auth == "inherit":
        return
    for path in (Path(task.config_dir), Path(task.home)):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    credentials = Path.home() / ".claude" / ".credentials.json"
    link = Path(task.config_dir) / ".credentials.json"
    if not task.api_token and credentials.exists() and not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(credentials)


def system_prompt(task: TaskMsg) -> Any:
    """The system prompt as an argument, or through a file where the kernel would refuse so long an argument."""
    if task.system_prompt is None or len(task.system_prompt.encode()) <= LONGEST_ARGUMENT:
        return task.system_prompt
    path = Path(task.config_dir).parent / "system_prompt.md"
    path.write_text(task.system_prompt, encoding="utf-8")
    return {"type": "file", "path": str(path)}


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the task's lock. Raises BlockingIOError where another process holds it."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
