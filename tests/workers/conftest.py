"""Fixtures of the workers' tests: a task message, a runner's surroundings, and an end to every process they started."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer import reaper
from producer.ids import new_id
from producer.reaper import Family
from producer.wire.messages import JsonObject, Progress, Reply, Started, TaskMsg
from producer.workers.isolation import become_subreaper

MakeTask = Callable[..., TaskMsg]


@pytest.fixture
def make_task(tmp_path: Path) -> Iterator[MakeTask]:
    """Builds task messages in a directory of the test's own; afterwards no process of their attempts may be left."""
    attempts: list[str] = []
    (tmp_path / "project").mkdir()

    def make(**fields: Any) -> TaskMsg:
        ident = fields.pop("task", None) or new_id()
        given: dict[str, Any] = {
            "attempt": new_id(),
            "task": ident,
            "role": "code",
            "title": "a title",
            "description": "a description",
            "prompt": "do the task",
            "system_prompt": "you are the code role",
            "model": "claude-sonnet-5-5",
            "cwd": str(tmp_path / "project"),
            "config_dir": str(tmp_path / "tasks" / ident / "claude"),
            "home": str(tmp_path / "tasks" / ident / "home"),
            "session_id": str(uuid.uuid4()),
            "timeout_seconds": 60.0,
            "idle_timeout_seconds": 30.0,
        }
        task = TaskMsg(**(given | fields))
        attempts.append(task.attempt)
        return task

    yield make
    for attempt in attempts:
        reaper.end(Family.of_attempt(attempt))


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for a condition; fail when it does not come about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Surroundings:
    """Stands in for the session: keeps what a runner says and answers its ledger calls."""

    def __init__(self) -> None:
        self.said: list[Progress | Started] = []
        self.calls: list[tuple[str, JsonObject]] = []
        self.reply = Reply(call="1", ok=True, result={"id": "01JZZZZZZZZZZZZZZZZZZZZZZZ"})

    def emit(self, message: Progress | Started) -> None:
        self.said.append(message)

    async def call(self, tool: str, arguments: JsonObject) -> Reply:
        self.calls.append((tool, arguments))
        return self.reply

    def started(self) -> list[Started]:
        return [message for message in self.said if isinstance(message, Started)]

    def of_kind(self, kind: str) -> list[JsonObject]:
        return [message.data for message in self.said if isinstance(message, Progress) and message.kind == kind]


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def subreaper() -> None:
    if not become_subreaper():
        pytest.skip(f"no subreaper on {os.uname().sysname}")
