"""Results that come late, twice, in the wrong order or from somebody else, spoken to the supervisor word by word."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from typing import TypeVar

import psutil
import pytest
from driving import Project, Supervisor

from producer.ids import new_id
from producer.reaper import PROJECT_MARKER
from producer.wire.auth import Keys, Peer
from producer.wire.messages import (
    Ack,
    Hello,
    Message,
    Ping,
    Pong,
    Progress,
    Ready,
    Refuse,
    Result,
    Started,
    TaskMsg,
    Welcome,
)
from producer.wire.sockets import AsyncPeer, AsyncPush

NO_WORKERS = "from producer.supervisor import workers; workers.Workers.start = lambda self, role, slot: None"
QUICK = {"base_seconds": 0.05, "cap_seconds": 0.1}
PATIENCE = 30.0
M = TypeVar("M", bound=Message)


class Fake:
    """A worker made of its two sockets; the process that it says it is does nothing at all."""

    def __init__(self, project: Project, pid: int) -> None:
        self.project, self.pid, self.ident = project, pid, new_id()
        Keys(project.places).issue(Peer("worker", self.ident, "code"))

    async def join(self, slot: int) -> None:
        self.peer = await AsyncPeer.connect(self.project.places, self.ident)
        self.push = await AsyncPush.connect(self.project.places, self.ident)
        start = psutil.Process(self.pid).create_time()
        self.peer.post(
            Hello(worker=self.ident, role="code", slot=slot, pid=self.pid, pid_start=start, version="a test's")
        )
        await self.hears(Welcome)

    async def hears(self, kind: type[M]) -> M:
        """The next message of a kind; pings are answered, others are passed over."""
        async with asyncio.timeout(PATIENCE):
            while not isinstance(message := await self.peer.recv(), kind):
                assert not isinstance(message, Refuse), message.reason
                if isinstance(message, Ping):
                    self.peer.post(Pong())
        return message

    async def takes(self) -> TaskMsg:
        self.peer.post(Ready(free=1))
        return await self.hears(TaskMsg)

    def says(self, task: TaskMsg, outcome: str, text: str = "") -> None:
        self.push.post(Result(attempt=task.attempt, task=task.task, outcome=outcome, text=text, session_id="of-a-fake"))

    def leave(self) -> None:
        self.push.close()
        self.peer.close()


@pytest.fixture
def pids(project: Project) -> Iterator[list[int]]:
    processes = [
        subprocess.Popen(["sleep", "300"], env={**project.env, PROJECT_MARKER: project.places.key}) for _ in range(2)
    ]
    yield [process.pid for process in processes]
    for process in processes:
        process.kill()
        process.wait()


def test_a_result_counts_once_and_only_from_the_worker_that_was_asked(
    project: Project, supervise, pids: list[int]
) -> None:
    project.configure({"code": {"workers": 2, "retry": QUICK}})
    supervisor: Supervisor = supervise(prelude=NO_WORKERS).ready(0)
    asyncio.run(conversation(project, supervisor, pids))
    project.books_balance()


async def conversation(project: Project, supervisor: Supervisor, pids: list[int]) -> None:
    mine, other = Fake(project, pids[0]), Fake(project, pids[1])
    await mine.join(0)
    await other.join(1)
    try:
        await out_of_order_and_twice(project, mine)
        await from_somebody_else(project, supervisor, mine, other)
    finally:
        mine.leave()
        other.leave()


async def out_of_order_and_twice(project: Project, mine: Fake) -> None:
    ident = project.file_task("first")
    task = await mine.takes()
    mine.says(task, "succeeded", "the first word")
    assert (await mine.hears(Ack)).attempts == [task.attempt]
    mine.peer.post(Started(attempt=task.attempt, session_id="too-late"))
    for outcome in ("succeeded", "failed", "lost"):
        mine.says(task, outcome, "another word")
        assert (await mine.hears(Ack)).attempts == [task.attempt]
    shown = project.task(ident)
    assert (shown["status"], shown["retry_count"], len(shown["attempts"])) == ("done", 0, 1)
    assert project.rows("SELECT result FROM tasks WHERE id = ?", ident) == [("the first word",)]
    assert project.rows("SELECT session_id FROM attempts WHERE task_id = ?", ident) == [("of-a-fake",)]
    assert [row["detail"]["outcome"] for row in project.actions("stale_result")] == ["succeeded", "failed", "lost"]
    nobodys = new_id()
    mine.push.post(Result(attempt=nobodys, task=nobodys, outcome="succeeded"))
    assert (await mine.hears(Ack)).attempts == [nobodys]


async def from_somebody_else(project: Project, supervisor: Supervisor, mine: Fake, other: Fake) -> None:
    ident = project.file_task("second")
    old = await mine.takes()
    other.peer.post(Started(attempt=old.attempt, session_id="stolen"))
    other.push.post(Progress(attempt=old.attempt, kind="tool_call", data={"name": "Bash", "input": {}}))
    other.says(old, "succeeded", "not mine to say")
    await asyncio.sleep(0)  # what is pushed leaves when the event loop turns
    supervisor.until_action("forged_result")
    assert project.actions("tool_call") == [] and project.task(ident)["status"] == "in_progress"
    assert project.rows("SELECT started_at FROM attempts WHERE task_id = ?", ident) == [(None,)]
    mine.says(old, "failed")
    await mine.hears(Ack)
    fresh = await mine.takes()
    assert (fresh.task, fresh.number) == (ident, 2) and fresh.attempt != old.attempt
    mine.says(old, "succeeded", "the dead speak")
    assert (await mine.hears(Ack)).attempts == [old.attempt]
    assert project.task(ident)["status"] == "in_progress", "the end of an old attempt ended the new one"
    mine.says(fresh, "succeeded", "the second word")
    assert (await mine.hears(Ack)).attempts == [fresh.attempt]
    assert project.rows("SELECT result FROM tasks WHERE id = ?", ident) == [("the second word",)]
    assert [attempt["state"] for attempt in project.task(ident)["attempts"]] == ["failed", "succeeded"]
