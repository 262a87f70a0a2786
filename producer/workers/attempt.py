"""Drives one attempt from its start to the moment at which nothing of it is left.

1. An attempt ends by itself, by its wall-clock limit, by its no-progress limit, or because someone set its Stop.
2. Stopping is a ladder: the runner is told; its processes get TERM; after the grace, or once the runner has returned,
   what is left of them is frozen and killed; the runner is cancelled if it still has not returned.
3. A sweep follows EVERY attempt, a successful one too: nothing outlives its attempt. What it could not end is counted
   in the result.
4. Work that was finished before the stop counts as finished. Everything else of a stopped attempt gets the stop's
   outcome and reason, and keeps the cost, usage and session that the runner reported.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from producer import reaper, worktree
from producer.errors import BudgetExceeded, ProducerError, UnknownModel, WireError
from producer.reaper import Family
from producer.wire.codec import body_of
from producer.wire.messages import Outcome, Progress, Result, Started, TaskMsg
from producer.workers.isolation import markers
from producer.workers.runner import CallLedger, Emit, Runner, Stop

TELL_SECONDS = 0.05
CANCEL_SECONDS = 3.0
TIMEOUT_GRACE = 5.0
SWEEP_LIMIT = 5.0


@dataclass(frozen=True)
class Ended:
    """How the attempt ended. ``stuck``: code of it still runs inside this process, which must therefore leave."""

    result: Result
    stuck: bool = False


async def run_attempt(
    runner: Runner, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop, *, project: str
) -> Ended:
    """Run one attempt under its limits; returns when its processes are gone. Raises nothing but CancelledError."""
    began = time.monotonic()
    stop.touch()
    marks = markers(project, task.attempt)
    os.environ.update(marks)
    running = asyncio.ensure_future(_run(runner, task, _sign_of_life(emit, stop), call, stop))
    try:
        await _until_over(running, task, stop, began)
        stuck = not running.done() and not await _climb_down(running, runner, task, stop)
        stuck = stuck or runner.hung
        result = _outcome(running, task, stop)
        survivors = await _sweep(task.attempt) if runner.spawns else 0
    finally:
        running.cancel()
        for name in marks:
            os.environ.pop(name, None)
    return Ended(replace(result, survivors=survivors, seconds=time.monotonic() - began), stuck)


async def _run(runner: Runner, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
    """The run; before it the task's own worktree, where it has one, is made."""
    if task.workspace is not None:
        await asyncio.to_thread(worktree.prepare, worktree.Place.of(task.workspace), Path(task.cwd))
    return await runner.run(task, emit, call, stop)


def _sign_of_life(emit: Emit, stop: Stop) -> Emit:
    def signed(message: Progress | Started) -> None:
        stop.touch()
        emit(message)

    return signed


async def _until_over(running: asyncio.Future[Result], task: TaskMsg, stop: Stop, began: float) -> None:
    """Wait until the run has returned or its Stop is set, and set it when a limit has passed."""
    told = asyncio.ensure_future(stop.wait())
    try:
        while not running.done() and not stop.is_set():
            now = time.monotonic()
            if now >= began + task.timeout_seconds:
                stop.set(f"ran longer than {task.timeout_seconds:g} s", outcome="failed", grace=TIMEOUT_GRACE)
            elif now >= stop.last_sign + task.idle_timeout_seconds:
                stop.set(f"made no progress for {task.idle_timeout_seconds:g} s", outcome="failed", grace=TIMEOUT_GRACE)
            else:
                limit = min(began + task.timeout_seconds, stop.last_sign + task.idle_timeout_seconds)
                both: set[asyncio.Future[Any]] = {running, told}
                await asyncio.wait(both, timeout=limit - now, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()


async def _climb_down(running: asyncio.Future[Result], runner: Runner, task: TaskMsg, stop: Stop) -> bool:
    """The ladder for a run that was told to stop. False when it still has not returned at the end."""
    await asyncio.wait({running}, timeout=TELL_SECONDS)
    if not running.done() and runner.spawns:
        family = Family.of_attempt(task.attempt, os.getpid())
        await asyncio.to_thread(reaper.end, family, grace=stop.grace, limit=SWEEP_LIMIT, enough=running.done)
    elif not running.done():
        await asyncio.wait({running}, timeout=stop.grace)
    if not running.done():
        await asyncio.wait({running}, timeout=CANCEL_SECONDS / 3)
        running.cancel()
        await asyncio.wait({running}, timeout=CANCEL_SECONDS)
    return running.done()


async def _sweep(attempt: str) -> int:
    swept = await asyncio.to_thread(reaper.end, Family.of_attempt(attempt, os.getpid()), limit=SWEEP_LIMIT)
    with suppress(OSError):
        reaper.reap()
    return swept.survivors


def _outcome(running: asyncio.Future[Result], task: TaskMsg, stop: Stop) -> Result:
    result = _returned(running, task) if running.done() else _bare(task, "failed", "the run could not be stopped")
    if not stop.is_set() or result.outcome == "succeeded":
        return result
    return replace(result, outcome=stop.outcome, error=stop.reason, until=None)


def _returned(running: asyncio.Future[Result], task: TaskMsg) -> Result:
    if running.cancelled():
        return _bare(task, "failed", "the run was cancelled")
    problem = running.exception()
    if problem is None:
        return _tellable(running.result(), task)
    if isinstance(problem, BudgetExceeded):
        return _bare(task, "budget", str(problem))
    if isinstance(problem, UnknownModel):
        return _bare(task, "permanent", str(problem))
    text = str(problem) if isinstance(problem, ProducerError) else f"{type(problem).__name__}: {problem}"
    return _bare(task, "failed", text[:2000])


def _tellable(result: Result, task: TaskMsg) -> Result:
    """The result, where it can be told: what an invoker made may hold what no message can."""
    try:
        body_of(result)
    except WireError as problem:
        return _bare(task, "failed", f"the run's result cannot be told: {problem}"[:2000])
    return result


def _bare(task: TaskMsg, outcome: Outcome, error: str) -> Result:
    return Result(attempt=task.attempt, task=task.task, outcome=outcome, error=error)
