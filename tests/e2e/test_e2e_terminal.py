"""An evening at the terminal, in tmux: run, watch, an escalation resolved, the log followed. What the screens show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from driving import Project, carriers, until
from rehearsing import LONG, ledger, shell, with_shell, write_script

from producer.cli.wording import INDENT

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux"),
]
NUMBERS = count()  # a server that is ending still holds its socket
SIZES = [(80, 24), (120, 40)]


class Terminal:
    """A tmux server of the test's own, one window a name."""

    def __init__(self, socket: Path, project: Project, size: tuple[int, int]) -> None:
        self._socket, self._project, self.size = str(socket), project, size
        self._windows: list[str] = []

    def _tmux(self, *words: str) -> str:
        command = ["tmux", "-S", self._socket, "-f", "/dev/null", *words]
        env = {**self._project.env, "TERM": "xterm-256color"}
        ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd=self._project.root, timeout=20)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def open(self, name: str, *words: str) -> None:
        """Run a command of the program in a window of its own, which stays when it has ended."""
        program = [sys.executable, "-P", "-m", "producer", "--config", str(self._project.file), *words]
        size = ["-x", str(self.size[0]), "-y", str(self.size[1])]
        begin = ["new-window", "-t", "t"] if self._windows else ["new-session", "-s", "t", *size]
        self._tmux(*begin, "-d", "-n", name, "env", "-u", "COLUMNS", "-u", "LINES", *program)
        if not self._windows:
            self._tmux("set-option", "-g", "remain-on-exit", "on")
        self._windows.append(name)

    def screen(self, name: str) -> str:
        """What a window shows."""
        return self._tmux("capture-pane", "-p", "-t", f"t:{name}")

    def shows(self, name: str, *words: str, seconds: float = LONG) -> str:
        """Wait until a window shows all of these at once; its text."""

        def look() -> str:
            text = self.screen(name)
            return text if all(word in text for word in words) else ""

        return until(look, seconds, f"{words} in the window {name}", lambda: self.screen(name))

    def press(self, name: str, *keys: str) -> None:
        """Press keys."""
        self._tmux("send-keys", "-t", f"t:{name}", *keys)

    def close(self) -> None:
        """End the server."""
        subprocess.run(["tmux", "-S", self._socket, "kill-server"], capture_output=True, timeout=20)


@pytest.fixture(params=SIZES, ids=lambda size: "x".join(map(str, size)))
def terminal(project: Project, private: Path, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    made = Terminal(private / f"tmux-{os.getpid()}-{next(NUMBERS)}", project, request.param)
    yield made
    made.close()


def test_the_wizard_asks_three_questions_and_says_what_comes_next(project: Project, terminal: Terminal) -> None:
    terminal.open("init", "init", "--dir", "garden", "--no-chat")
    terminal.shows("init", "Enter takes what stands in brackets", "Project name [garden]:")
    terminal.press("init", "Rose garden", "Enter")
    terminal.shows("init", "ntfy topic [garden-", "`none`: no pushes")
    terminal.press("init", "Enter")
    terminal.shows("init", "Subject prefix [Rose garden]:")
    terminal.press("init", "Enter")
    screen = terminal.shows("init", "Rose garden is set up in", "producerctl task add", "producerctl run")
    assert "create producer.yaml" in screen and "Subscribe to the ntfy topic garden-" in screen
    terminal.open("again", "init", "--dir", "garden")
    terminal.shows("again", "would leave producer.yaml", "error: ")


def test_an_evening_at_the_terminal(project: Project, supervise, terminal: Terminal) -> None:
    project.configure({"code": with_shell(), "qa": with_shell()})
    asks = ledger("escalate", {"reason": "which colour?"})
    script = write_script(
        project,
        {
            "code": {
                "Paint *": [asks, {"text": "A person has to say."}, shell("echo blue"), {"text": "It is blue now."}],
                "*": [shell("sleep 4"), {"text": "The door is built.", "tokens_per_second": 20}],
            },
            "qa": {"*": [{"text": "Looked at."}]},
        },
    )
    terminal.open("run", "run", "--rehearse", str(script))
    terminal.shows("run", "supervisor started")
    door, wall = project.file_task("Build the door"), project.file_task("Paint the wall")
    width, height = terminal.size

    terminal.open("watch", "status", "--watch")
    frame = terminal.shows(
        "watch", "testbed", "does now", "Build the door", "busy", "Bash sleep 4", "tokens/s", "held of"
    )
    lines = frame.rstrip("\n").splitlines()
    assert lines[0].startswith("testbed  running since") and max(map(len, lines)) <= width and len(lines) < height
    assert sum("testbed" in line for line in lines) == 1, "the frame is drawn over itself"
    frame = terminal.shows("watch", f"needs you  {wall} [code] Paint the wall", "which colour?", "1 escalated")
    assert "Build the door: done" in frame and "stands by" not in frame

    terminal.open("logs", "logs", "-f", wall)
    followed = terminal.shows("logs", "A person has to say.", "ESCALATED: which colour?")
    begins = [line[:INDENT] for line in followed.splitlines() if line]
    assert all(begin[2:3] == ":" or begin == " " * INDENT for begin in begins), "long lines go on below themselves"
    note = (project.state / "escalations" / f"{wall}.md").read_text()
    assert f"producerctl task requeue {wall}" in note
    assert project.producerctl("task", "requeue", wall, "--reason", "blue").returncode == 0
    terminal.shows("logs", "put back into the queue: blue", "echo blue", "It is blue now.", "done")
    frame = terminal.shows("watch", "0 escalated", "2 done")
    assert "needs you  " not in frame and project.task(door)["status"] == "done"

    terminal.press("run", "C-c")
    terminal.shows("logs", "the supervisor has left")
    terminal.shows("watch", "no supervisor is running")
    until(lambda: not carriers(project.places.key), what="every process gone")
