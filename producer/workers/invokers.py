"""The invoker interface of 0.3.x, from both sides, and the choice of a runner by name.

1. Any object with `invoke(agent_role, prompt, *, system_prompt, max_turns, allowed_tools, model)`, plain or async, that
   returns an InvocationResult (or anything with its fields) runs tasks: `--invoker MODULE:NAME`.
2. An invoker that reports an sdk_error has failed, whatever text came with it: an error is never output.
3. An async invoker is cancelled when the attempt must stop. A plain one runs in a thread and cannot be; if it does not
   return in the grace, its worker process leaves.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from producer.core.money import MicroUSD, parse_usd
from producer.errors import MoneyError, ProducerError, UsageError
from producer.wire.messages import Result, Started, TaskMsg, Usage
from producer.workers.classify import Ending, classify
from producer.workers.echo import EchoRunner
from producer.workers.invocation import InvocationResult, Invoker
from producer.workers.listener import clean, counts
from producer.workers.runner import CallLedger, Emit, Runner, Stop
from producer.workers.standalone import ClaudeAgentInvoker

__all__ = ["ClaudeAgentInvoker", "InvocationResult", "Invoker", "InvokerRunner", "load_invoker", "make_runner"]


def make_runner(name: str, project: str, root: Path | None = None) -> Runner:
    """The runner for `claude`, `echo` or `MODULE:NAME`, for a project's key. Raises UsageError for anything else.

    MODULE is looked for in ``root`` first.
    """
    if name == "echo":
        return EchoRunner()
    if name == "claude":
        from producer.workers.claude import ClaudeRunner  # a second of import, only where it is needed

        return ClaudeRunner(project)
    return InvokerRunner(load_invoker(name, root))


def load_invoker(name: str, root: Path | None = None) -> Any:
    """The object that `MODULE:NAME` names; a class is instantiated without arguments. Raises UsageError."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise UsageError(f"invoker {name!r} is not known: use claude, echo or MODULE:NAME")
    if root is not None and str(root) not in sys.path:
        sys.path.insert(0, str(root))
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        invoker = found() if inspect.isclass(found) else found
    except Exception as problem:
        raise UsageError(f"invoker {name} cannot be loaded: {type(problem).__name__}: {problem}") from problem
    if not callable(getattr(invoker, "invoke", None)):
        raise UsageError(f"invoker {name} has no method `invoke`")
    return invoker


class InvokerRunner:
    """Runs tasks through a 0.3.x invoker."""

    spawns = True
    hung = False

    def __init__(self, invoker: Any) -> None:
        self._invoker = invoker

    async def warm(self) -> None:
        """Nothing to prepare."""

    def stand_by(self, task: TaskMsg | None, tell: Callable[[bool], None]) -> None:
        """Nothing to have ready."""

    async def leave(self) -> None:
        """Nothing to let go of."""

    def quick(self, task: TaskMsg) -> Result | None:
        """Never: nobody knows how long an invoker takes."""
        return None

    async def run(self, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
        """Run one task; see Runner."""
        emit(Started(attempt=task.attempt, session_id=task.session_id, resumed=False))
        given: dict[str, Any] = {
            "system_prompt": task.system_prompt,
            "max_turns": task.max_turns,
            "allowed_tools": list(task.allowed_tools),
            "model": task.model,
        }
        invoke: Callable[..., Any] = self._invoker.invoke
        if inspect.iscoroutinefunction(invoke):
            running = asyncio.ensure_future(invoke(task.role, task.prompt, **given))
        else:
            running = asyncio.ensure_future(asyncio.to_thread(self._watched, invoke, task.role, task.prompt, **given))
        told = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and inspect.iscoroutinefunction(invoke):
                running.cancel()
            answer = await running
            if inspect.isawaitable(answer):
                answer = await answer
        except asyncio.CancelledError:
            if not stop.is_set():
                raise
            return _result(task, outcome=stop.outcome, error=stop.reason)
        finally:
            told.cancel()
        return _from_invocation(task, answer)

    def _watched(self, invoke: Callable[..., Any], role: str, prompt: str, **given: Any) -> Any:
        """Runs in a thread, which nothing can end from outside."""
        self.hung = True
        try:
            return invoke(role, prompt, **given)
        finally:
            self.hung = False


def _from_invocation(task: TaskMsg, answer: Any) -> Result:
    """An InvocationResult, or anything with its fields, as a Result."""
    text = clean(str(getattr(answer, "text", "") or ""))
    calls = list(getattr(answer, "tool_calls", None) or [])
    fields: dict[str, Any] = {
        "cost": _cost(answer),
        "usage": {task.model: Usage(**known)} if (known := counts(getattr(answer, "usage", None))) else {},
        "tool_calls": len(calls),
    }
    problem = getattr(answer, "sdk_error", None)
    productive = bool(text.strip() or calls)
    subtype = "error_during_execution" if problem else "success"
    verdict = classify(Ending(subtype=subtype, is_error=bool(problem), text=problem or "", productive=productive), 0.0)
    return _result(task, outcome=verdict.outcome, error=verdict.error, text="" if problem else text[:100_000], **fields)


def _cost(answer: Any) -> MicroUSD | None:
    actual = getattr(answer, "actual_cost_usd", None)
    value = getattr(answer, "cost_usd", None) if actual is None else actual
    try:
        return None if value is None else parse_usd(value)
    except MoneyError as problem:
        raise ProducerError(f"the invoker reported an impossible cost: {problem}") from None


def _result(task: TaskMsg, **fields: Any) -> Result:
    return Result(attempt=task.attempt, task=task.task, session_id=task.session_id, **fields)
