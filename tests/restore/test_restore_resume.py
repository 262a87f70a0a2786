"""A paid session goes on where it was, whatever ended its processes: what was answered is not asked again."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driving import Project, Supervisor, carriers, until
from rehearsing import LONG, equal_bills, rehearse, requests, shell, with_shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

TURNS = 10
STOPS_AT = 8
HANG = "[ -e room/hung ] || { touch room/hung; sleep 300; }"
RETRY = {"base_seconds": 0.05, "cap_seconds": 0.1}


def play(turns: int = TURNS, stops_at: int = STOPS_AT) -> dict[str, object]:
    """Ten answers; the tool of the eighth hangs, the first time."""
    return {
        "code": {
            "*": [
                *(shell(HANG if turn == stops_at else "true") for turn in range(1, turns)),
                {"text": "All of it done."},
            ]
        }
    }


def hangs(project: Project, supervise, turns: int, stops_at: int) -> tuple[Supervisor, str]:
    project.configure({"code": with_shell(retry=RETRY)}, gateway={"record": True})
    supervisor = rehearse(supervise, project, play(turns, stops_at))
    task = project.file_task("some turns")
    supervisor.until((project.room / "hung").exists, LONG, "the last turn before the end")
    began = time.monotonic()
    # The CLI writes its transcript a moment behind; what it has not written when it is killed is paid again.
    supervisor.until(lambda: answers_on_disk(project, task) == stops_at, LONG, "the last answer in the transcript")
    print(f"the transcript was complete {time.monotonic() - began:.2f} s after the tool had begun")
    assert len(requests(project, task)) == stops_at
    return supervisor, task


@pytest.fixture
def hung(project: Project, supervise) -> tuple[Supervisor, str]:
    """A supervisor whose one task hangs in its eighth turn, with eight answers paid."""
    return hangs(project, supervise, TURNS, STOPS_AT)


def answers_on_disk(project: Project, task: str) -> int:
    """How many of the model's answers the session's transcript holds."""
    found = set()
    for path in (project.places.tasks / task / "claude").glob("projects/*/*.jsonl"):
        for line in path.read_text().splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                if row.get("type") == "assistant":
                    found.add(row["message"]["id"])
    return len(found)


def kill_all(*pids: int) -> None:
    """SIGKILL, without a word to anybody."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def claude_of(project: Project) -> list[int]:
    """The pids of the project's claude processes and of what runs below them: all but its worker and its gateway."""
    found = []
    for pid in carriers(project.places.key):
        with suppress(psutil.Error):
            if "producer." not in " ".join(psutil.Process(pid).cmdline()):
                found.append(pid)
    return found


def finishes(project: Project, supervisor: Supervisor, task: str) -> None:
    """It ends well, by two more answers, and every bill says so."""
    shown = supervisor.until_status(task, "done", seconds=LONG)
    assert len(requests(project, task)) == TURNS, "an answer that was paid was paid again"
    assert [attempt["resumed"] for attempt in shown["attempts"]] == [0, 1]
    assert project.rows("SELECT result FROM tasks WHERE id = ?", task) == [("All of it done.",)]
    equal_bills(project)
    assert supervisor.stop() == 0


def test_a_worker_and_its_cli_are_killed(project: Project, hung: tuple[Supervisor, str]) -> None:
    supervisor, task = hung
    (worker,) = supervisor.workers()
    cli = claude_of(project)
    assert cli
    kill_all(worker["pid"], *cli)
    supervisor.until(lambda: len(project.task(task)["attempts"]) == 2, LONG, "another attempt")
    assert project.task(task)["attempts"][0]["state"] == "lost"
    finishes(project, supervisor, task)


def test_the_cli_alone_is_killed(project: Project, hung: tuple[Supervisor, str]) -> None:
    supervisor, task = hung
    kill_all(*claude_of(project))
    supervisor.until(lambda: len(project.task(task)["attempts"]) == 2, LONG, "another attempt")
    assert project.task(task)["attempts"][0]["state"] == "failed"
    finishes(project, supervisor, task)


def test_everything_is_killed_as_by_a_reboot(project: Project, supervise, hung: tuple[Supervisor, str]) -> None:
    supervisor, task = hung
    everything = [supervisor.pid, *carriers(project.places.key)]
    assert len(everything) >= 4, "supervisor, gateway, worker, claude"
    kill_all(*everything)
    supervisor.process.wait(10)
    until(lambda: not carriers(project.places.key), LONG, "the end of everything")
    finishes(project, rehearse(supervise, project, play()), task)


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_transcript_of_no_use_means_a_fresh_session_and_a_word_about_it(
    project: Project, supervise, harm: str
) -> None:
    supervisor, task = hangs(project, supervise, turns=3, stops_at=2)
    (transcript,) = Path(project.places.tasks / task / "claude").glob("projects/*/*.jsonl")
    if harm == "missing":
        transcript.unlink()
    else:
        transcript.write_bytes(b"\x00\xff\x01" * 100)
    kill_all(supervisor.workers()[0]["pid"], *claude_of(project))
    shown = supervisor.until_status(task, "done", seconds=LONG)
    assert [attempt["resumed"] for attempt in shown["attempts"]] == [0, 0]
    (note,) = project.actions("session_note")
    assert f"is {harm}: started afresh" in note["detail"]["note"]
    assert len(requests(project, task)) == 2 + 3
    equal_bills(project)
    assert supervisor.stop() == 0
