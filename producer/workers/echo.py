"""The runner that says what it was told: the whole path of a task without a model.

payload keys, all optional, for tests, drills and benchmarks:
    sleep_seconds  how long the run takes
    fail           true, or the number of first attempts that fail; or an outcome word (permanent, throttled, budget)
    until          epoch seconds, with fail: throttled
    cost_usd       what the run says it cost
    insert         a list of insert_task arguments, filed through the ledger tool
    crash          true, or the number of first attempts in which the process ends at once, without a word
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast, get_args

from producer.core.money import parse_usd
from producer.wire.messages import Outcome, Result, Started, TaskMsg
from producer.workers.runner import CallLedger, Emit, Stop

WAITING_KEYS = frozenset({"sleep_seconds", "insert", "crash"})


class EchoRunner:
    """Answers every task with its own description."""

    spawns = False
    hung = False

    async def warm(self) -> None:
        """Nothing to prepare."""

    def stand_by(self, task: TaskMsg | None, tell: Callable[[bool], None]) -> None:
        """Nothing to have ready."""

    async def leave(self) -> None:
        """Nothing to let go of."""

    def quick(self, task: TaskMsg) -> Result | None:
        """The result at once, unless the payload asks for something that takes time."""
        if task.payload and not WAITING_KEYS.isdisjoint(task.payload):
            return None
        return _answer(task)

    async def run(self, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
        """Do what the payload asks for, in the order crash, sleep, insert."""
        emit(Started(attempt=task.attempt, session_id=task.session_id, resumed=task.resume))
        if _applies(task, "crash"):
            os._exit(17)
        try:
            async with asyncio.timeout(float(task.payload.get("sleep_seconds", 0))):
                await stop.wait()
            return _result(task, outcome=stop.outcome, error=stop.reason)
        except TimeoutError:
            pass
        refused = []
        for arguments in task.payload.get("insert", []):
            reply = await call("insert_task", arguments)
            if not reply.ok:
                refused.append(reply.error or "refused")
        if refused:
            return _result(task, outcome="failed", error="; ".join(refused), tool_calls=len(task.payload["insert"]))
        return _answer(task, tool_calls=len(task.payload.get("insert", [])))


def _answer(task: TaskMsg, tool_calls: int = 0) -> Result:
    if not task.payload:
        return _result(task, outcome="succeeded", text=task.description)
    cost = parse_usd(task.payload["cost_usd"]) if "cost_usd" in task.payload else None
    fail = task.payload.get("fail")
    if isinstance(fail, str):
        known = fail in get_args(Outcome)
        outcome = cast(Outcome, fail) if known else "failed"
        return _result(task, outcome=outcome, error=f"told to fail: {fail}", cost=cost, until=task.payload.get("until"))
    if _applies(task, "fail"):
        return _result(task, outcome="failed", error="told to fail", cost=cost)
    return _result(task, outcome="succeeded", text=task.description, cost=cost, tool_calls=tool_calls)


def _applies(task: TaskMsg, key: str) -> bool:
    """Whether a payload switch is on for this attempt: true always, a number for the first so many attempts."""
    value = task.payload.get(key, False)
    return value if isinstance(value, bool) else isinstance(value, int) and task.number <= value


def _result(task: TaskMsg, **fields: Any) -> Result:
    fields.update(usage={}, output_refs=[])  # given, because defaults would be copied every time
    return Result(attempt=task.attempt, task=task.task, session_id=task.session_id, **fields)
