"""A claude process that stands by for an attempt: the real CLI against a scripted Messages API."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from msgspec.structs import replace

from producer import reaper
from producer.ids import new_id
from producer.reaper import Family
from producer.wire.messages import Result, TaskMsg
from producer.workers.attempt import run_attempt
from producer.workers.claude import ClaudeRunner
from producer.workers.runner import Stop
from tests.workers.conftest import MakeTask, Surroundings, until
from tests.workers.scripted_api import Script, ScriptedApi, Turn

pytestmark = pytest.mark.e2e


@pytest.fixture
def pair(make_task: MakeTask, tmp_path: Path) -> Callable[..., tuple[TaskMsg, TaskMsg]]:
    """What a worker is told beforehand, and the task that comes for it later."""

    def make(api: ScriptedApi, **fields: Any) -> tuple[TaskMsg, TaskMsg]:
        ident, task = new_id(), new_id()
        given = {
            "auth": "gateway", "base_url": api.url, "api_token": "ap-token", "session_id": str(uuid.uuid4()),
            "config_dir": str(tmp_path / "tasks" / ident / "claude"), "home": str(tmp_path / "tasks" / ident / "home"),
            **fields,
        }  # fmt: skip
        real = make_task(task=task, known_as=str(tmp_path / "tasks" / task), **given)
        return replace(real, prompt="", title="", known_as=None), real

    return make


def claude_of(attempt: str) -> list[int]:
    """The claude processes of an attempt (not their launchers)."""
    found = []
    for process in reaper.find(Family.of_attempt(attempt)):
        if Path(process.exe()).name == "claude":
            found.append(process.pid)
    return found


def drive(work: Callable[[ClaudeRunner], Awaitable[None]]) -> None:
    """Run ``work`` with a runner, and let that leave."""

    async def main() -> None:
        runner = ClaudeRunner("project")
        await runner.warm()
        try:
            await work(runner)
        finally:
            await runner.leave()

    asyncio.run(main())


async def stands_by(runner: ClaudeRunner, task: TaskMsg, told: list[bool]) -> int:
    runner.stand_by(task, told.append)
    await until(lambda: told and told[-1])
    (pid,) = claude_of(task.attempt)
    return pid


async def run(runner: ClaudeRunner, task: TaskMsg, around: Surroundings) -> Result:
    ended = await run_attempt(runner, task, around.emit, around.call, Stop(), project="project")
    return ended.result


def seen(pids: list[list[int]], task: Callable[[], str]) -> Script:
    """Answers once, and keeps which claude processes the attempt had when it asked."""

    def script(body: dict[str, Any], number: int) -> Turn:
        pids.append(claude_of(task()))
        return Turn(text="done")

    return script


def test_the_process_that_stood_by_does_the_task_in_its_own_directory(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings, tmp_path: Path
) -> None:
    pids: list[list[int]] = []
    ids: list[str] = []

    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        ids.append(task.attempt)
        pid = await stands_by(runner, before, [])
        assert api.requests == [], "it costs nothing"
        result = await run(runner, task, around)
        assert (result.outcome, result.text, result.survivors) == ("succeeded", "done", 0)
        assert pids == [[pid]]
        assert "do the task" in str(api.requests[0]["messages"])
        assert [s.session_id for s in around.started()] == [task.session_id]
        link = tmp_path / "tasks" / task.task
        assert link.is_symlink() and link.resolve() == Path(task.config_dir).parent
        assert list(link.glob(f"claude/projects/*/{task.session_id}.jsonl"))
        assert reaper.find(Family.of_attempt(task.attempt)) == []

    with ScriptedApi(seen(pids, lambda: ids[0])) as api:
        drive(work)


def test_its_session_is_taken_up_again_by_way_of_the_tasks_directory(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings, tmp_path: Path, make_task: MakeTask
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        await stands_by(runner, before, [])
        await run(runner, task, around)
        again = make_task(
            task=task.task, auth="gateway", base_url=api.url, api_token="ap-token", number=2, resume=True,
            session_id=task.session_id,
        )  # fmt: skip
        assert Path(again.config_dir) == tmp_path / "tasks" / task.task / "claude"
        result = await run(ClaudeRunner("project"), again, around)
        assert result.outcome == "succeeded"
        assert [s.resumed for s in around.started()] == [False, True]
        assert "You were interrupted" in str(api.requests[-1]["messages"][-1])

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_another_task_starts_cold_and_the_process_goes_with_its_directory(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings, make_task: MakeTask
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, _ = pair(api)
        await stands_by(runner, before, [])
        other = make_task(auth="gateway", base_url=api.url, api_token="ap-token")
        result = await run(runner, other, around)
        assert result.outcome == "succeeded"
        assert claude_of(before.attempt) == []
        await until(lambda: not Path(before.config_dir).parent.exists())

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_a_process_that_was_killed_while_it_stood_by_is_replaced(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        told: list[bool] = []
        pid = await stands_by(runner, before, told)
        psutil.Process(pid).kill()
        await until(lambda: told == [True, False, True])
        (fresh,) = claude_of(before.attempt)
        assert fresh != pid
        assert (await run(runner, task, around)).outcome == "succeeded"

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_a_process_that_dies_as_its_task_comes_costs_the_task_nothing(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        pid = await stands_by(runner, before, [])
        psutil.Process(pid).kill()  # nobody has noticed when the run begins
        result = await run(runner, task, around)
        assert (result.outcome, len(api.requests)) == ("succeeded", 1)

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_a_task_that_comes_while_the_process_is_being_started_waits_for_it(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        runner.stand_by(before, lambda connected: None)
        await until(lambda: reaper.find(Family.of_attempt(before.attempt)))
        assert (await run(runner, task, around)).outcome == "succeeded"
        assert len(api.requests) == 1

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_a_process_with_other_tools_than_its_task_was_given_does_nothing(
    pair: Callable[..., tuple[TaskMsg, TaskMsg]], around: Surroundings
) -> None:
    async def work(runner: ClaudeRunner) -> None:
        before, task = pair(api)
        await stands_by(runner, replace(before, allowed_tools=["Read", "Bash"]), [])
        result = await run(runner, task, around)
        assert result.outcome == "permanent" and "tools that the role was not given: Bash, Read" in (result.error or "")

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)


def test_nothing_stands_by_once_the_worker_leaves(pair: Callable[..., tuple[TaskMsg, TaskMsg]]) -> None:
    gone: list[TaskMsg] = []

    async def work(runner: ClaudeRunner) -> None:
        before, _ = pair(api)
        await stands_by(runner, before, [])
        gone.append(before)

    with ScriptedApi(lambda body, number: Turn(text="done")) as api:
        drive(work)
    assert reaper.find(Family.of_attempt(gone[0].attempt, os.getpid())) == []
    assert not Path(gone[0].config_dir).parent.exists()
