"""What is shown of a running supervisor: live, and afterwards."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_rig import Project, StandIn
from rich.console import Console

from producer.cli import wording
from producer.cli.board import Board
from producer.cli.view import render
from producer.ids import iso, new_id
from producer.wire.messages import Event


def event(kind: str, at: float = 100.0, task: str | None = None, attempt: str | None = None, **data: Any) -> Event:
    return Event(at=at, kind=kind, role="code", task=task, attempt=attempt, data=data)


def drawn(board: Board, now: float, height: int = 40, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(render(board, now, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_board_shows_what_each_worker_does_now(some_status: dict[str, Any]) -> None:
    board = Board(lambda task: "Some title")
    board.see(some_status, now=100.0)
    attempt = some_status["roles"]["code"]["workers"][0]["attempt"]
    line = board.lines(now=105.0)[0]
    assert (line.role, line.task, line.doing, line.seconds) == ("code", "Write the parser", "Write", 17.5)
    call: dict[str, Any] = {"name": "Write", "input": {"file_path": "src/parser.py", "content": "x" * 999}}
    board.hear(event("progress.tool_call", attempt=attempt, **call))
    assert board.lines(now=105.0)[0].doing == "Write src/parser.py"
    board.hear(event("progress.text", attempt=attempt, text="Now the tests"))
    assert board.lines(now=105.0)[0].doing == "says: Now the tests"
    picture = drawn(board, 105.0)
    for words in ("Write the parser", "says: Now the tests", "3 done", "project $0.250 + 0.100 held of 2.00", "capped"):
        assert words in picture


def test_the_rate_is_of_the_last_ten_seconds() -> None:
    board = Board(str)
    board.hear(event("progress.usage", at=100.0, output_tokens=300))
    board.hear(event("progress.usage", at=108.0, output_tokens=200))
    assert board.rate(109.0) == 50.0
    assert board.rate(112.0) == 20.0
    assert board.rate(200.0) == 0.0


def test_the_tail_has_news_and_no_routine() -> None:
    board = Board(lambda task: "Title")
    for kind in ("cost", "tool_call", "dispatch", "progress.text", "progress.usage", "attempt.started"):
        board.hear(event(kind, task="T"))
    assert not board.tail
    board.hear(event("task_completed", task="T"))
    board.hear(event("progress.retry", task="T", status=500, error="oops", delay_seconds=2))
    assert [line.split("  ", 1)[1].strip() for line in board.tail] == [
        "code       Title: done",
        "code       Title: the model API said 500: oops; again in 2 s",
    ]


def test_the_view_fits_the_terminal_and_obeys_nobody(some_status: dict[str, Any]) -> None:
    worker = some_status["roles"]["code"]["workers"][0]
    some_status["roles"]["code"]["workers"] = [worker] + [
        {**worker, "attempt": None, "task": None, "state": "idle", "slot": n} for n in range(1, 100)
    ]
    some_status["kill_switch"] = {"armed": True, "reason": "\x1b[2J[red]why", "since": None}
    board = Board(str)
    board.see(some_status, 0.0)
    board.hear(event("note\x1b]0;x\x07", task="T\x9b"))
    picture = drawn(board, 1.0, height=30)
    assert len(picture.splitlines()) <= 30 and "Write the parser" in picture and "more" in picture
    assert "ARMED" in picture and "[red]why" in picture
    assert not set(picture) & set("\x1b\x9b\x07")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 20)])
def test_a_full_frame_fits_and_nothing_is_wrapped(some_status: dict[str, Any], width: int, height: int) -> None:
    worker = some_status["roles"]["code"]["workers"][0]
    some_status["roles"]["code"]["workers"] = [{**worker, "slot": number} for number in range(30)]
    some_status["kill_switch"] = {"armed": True, "reason": "why " * 50, "since": None}
    some_status["queue"] = dict.fromkeys(some_status["queue"], 1_234)
    some_status["budget"]["roles"] = dict.fromkeys(("design", "code", "qa", "art"), some_status["budget"]["project"])
    board = Board(str)
    board.see(some_status, 0.0)
    board.escalated = [("01M8GZV58SE4RWHR6VDXKRC6KM  [code]  Paint the door", "Which colour? " * 20)]
    for number in range(60):
        board.hear(event("task_completed", at=float(number), task="T"))
    lines = drawn(board, 1.0, height, width).rstrip("\n").splitlines()
    assert len(lines) < height and max(map(len, lines)) <= width
    for begins in ("testbed  ", "KILL SWITCH ARMED: why", "role ", "queue    1234 pending", "money    project", "speed",
                   "needs you  01M8GZV58SE4RWHR6VDXKRC6KM [code]", "           Which colour?"):  # fmt: skip
        assert sum(line.startswith(begins) for line in lines) == 1, begins
    assert sum("Write the p" in line and line.startswith("code ") for line in lines) >= 4


def test_every_known_event_has_words() -> None:
    for kind in (*wording._WORDS, "something_new", "progress.new"):
        assert wording.words(event(kind, text="t")), kind
        assert "\n" not in wording.line(event(kind, text="a\nb", title="c\nd", error="e\nf", reason="g\nh"))


def transcript(project: Project, task: str, session: str) -> None:
    folder = project.places.config_dir(task) / "projects" / "-tmp-x"
    folder.mkdir(parents=True)

    def row(kind: str, at: float, content: Any) -> str:
        return json.dumps({"type": kind, "timestamp": iso(at), "message": {"role": kind, "content": content}})

    now = time.time()
    rows = [
        row("user", now, "Project: testbed\nDo it"),
        row("assistant", now + 0.001, [{"type": "text", "text": "Let me look.\x1b[2J"}]),
        row("assistant", now + 0.002, [{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls -l"}}]),
        row("user", now + 0.003, [{"type": "tool_result", "tool_use_id": "t", "content": "no", "is_error": True}]),
        '{"type": "summary"}', "garbage", '{"type": "assistant", "timestamp": "2026', "[1]",
    ]  # fmt: skip
    (folder / f"{session}.jsonl").write_text("\n".join(rows))


def test_logs_of_a_task_tell_its_transcript_and_its_audit_rows_in_order(project: Project) -> None:
    ident = project.add("A task")
    with project.client() as ledger:
        ledger.claim_task(ident, "code")
    with project.reader() as reader:
        session = reader.show(ident)["attempts"][0]["session_id"]
    transcript(project, ident, session)
    told = project.out("logs", ident[:20])
    order = [
        "files for code",
        "attempt 1",
        "is told: Project: testbed Do it",
        r"Let me look.\x1b[2J",
        "Bash ls -l",
        "Bash FAILED",
    ]
    assert [told.index(words) for words in order] == sorted(told.index(words) for words in order)
    kinds = [json.loads(line)["kind"] for line in project.out("logs", ident, "--json").splitlines()]
    assert kinds[:2] == ["task_inserted", "dispatch"] and "progress.tool_call" in kinds
    assert json.loads(project.out("task", "show", ident, "--json"))["attempts"][0]["transcript"].endswith(".jsonl")


def test_logs_without_a_task_are_the_last_events_with_titles(project: Project) -> None:
    for number in range(5):
        project.add(f"task {number}")
    assert "task 4" in project.out("logs", "-n", "2") and "task 1" not in project.out("logs", "-n", "2")
    assert project.out("logs", "-n", "0") == ""


def test_logs_follow_what_happens(project: Project, stand_in: Callable[[], StandIn]) -> None:
    ident, other_task = project.add("Mine"), project.add("Another's")
    other = stand_in()
    child = project.start("logs", ident, "-f")
    assert child.stdout is not None
    assert "files for code" in child.stdout.readline()
    later = time.time() + 3600
    other.events = [
        event("progress.text", later, other_task, text="not mine"),
        event("tool_call", later, ident, name="Bash"),
        event("progress.text", later, ident, text="mine\x1b[2J"),
    ]
    line = child.stdout.readline()
    assert r"says: mine\x1b[2J" in line
    other.leave()
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 0 and "has left" in stderr


def test_watch_in_a_pipe_is_one_line_for_each_event(
    project: Project, stand_in: Callable[[], StandIn], some_status: dict[str, Any]
) -> None:
    ident = project.add("A title")
    other = stand_in()
    other.answers["status"] = some_status
    other.events = [event("task_completed", time.time(), ident, new_id())]
    child = project.start("status", "--watch")
    assert child.stdout is not None
    assert child.stdout.readline().strip().endswith("code       A title: done")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130


SLOW_TO_LISTEN = """
import time
from producer.wire.client import Events
begin, end, opened = Events.__init__, Events.close, []
def slow(self, *given):
    if opened:
        time.sleep(0.5)  # what is told meanwhile is missed
    opened.append(self)
    begin(self, *given)
def held(self):
    time.sleep(0.2)  # so that the supervisor has heard of it
    end(self)
Events.__init__, Events.close = slow, held
"""


@pytest.mark.parametrize("site", ["", SLOW_TO_LISTEN], ids=["as it comes", "by its one connection"])
def test_a_run_is_told_from_its_first_word(project: Project, tmp_path: Path, site: str) -> None:
    titles = [f"short {number}" for number in range(3)]
    for title in titles:
        project.add(title)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(site)
    told = project.run("run", "--once", "--invoker", "echo", PYTHONPATH=str(tmp_path / "site")).stderr
    assert "supervisor started" in told
    assert [f"{title}: attempt 1" in told and f"{title}: done" in told for title in titles] == [True] * 3
