"""Runs one task through the Claude Agent SDK. The only module that imports it; import this one late, it costs a second.

1. One claude process a task, started by the launcher of isolation.py, in the task's own config directory and HOME, with
   exactly the role's tools (options.py). What the process says it has is checked before anything it does counts.
   It may have been started beforehand (standing.py): then its prompt is all that it lacks.
2. The session id is known before the run. A resumed session gets a short word to go on, not its prompt again; a
   transcript that is missing or damaged means a fresh session under a new id, said in Started.note.
3. One process a session: a lock on the task's directory is held meanwhile, and a process of an earlier attempt that
   still lives is ended before the transcript is taken up.
4. The result is made from the messages (classify.py): an API error is never output.
5. However the run ends, this module ends the processes that carry the attempt's marker before it returns.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import claude_agent_sdk as sdk

from producer import reaper
from producer.core.money import MicroUSD, to_float
from producer.reaper import Family
from producer.wire.messages import Result, TaskMsg
from producer.workers import ground, options, tools, transcript
from producer.workers.classify import MISSING_SESSION, SESSION_IN_USE, Ending, Verdict, classify
from producer.workers.enclosing import enclosed, outlet_of, survey
from producer.workers.isolation import Containment, write_launcher
from producer.workers.listener import Listener, clean
from producer.workers.outlet import outlet
from producer.workers.runner import CallLedger, Emit, Stop
from producer.workers.standing import Agent, Standing, Tell

CONTINUE = (
    "You were interrupted before you had finished this task; everything above was kept. "
    "Go on from where you are. Do not repeat what is already done. If everything is done, say so and sum up the result."
)
# what the machine may have again later: no verdict on the command line tool
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC, errno.EIO})
LINGER_SECONDS = 15.0
LEAVE_SECONDS = 1.0


def go_on(task: TaskMsg) -> str:
    """What a resumed session is told first, with the reason of its interruption where one is known."""
    return f"{CONTINUE}\nWhat interrupted you: {task.interrupted}" if task.interrupted else CONTINUE


@dataclass
class Run:
    """What is collected of one claude process."""

    listener: Listener
    stderr: deque[str]
    ending: Ending = field(default_factory=Ending)
    output: str | None = None
    cost: MicroUSD | None = None
    turns: int = 0
    abort: str | None = None
    heard: bool = False
    stood_by: bool = False


class ClaudeRunner:
    """Runs tasks with the claude CLI. ``standalone``: single calls of a script; no ledger tools, no lock."""

    spawns = True
    hung = False

    def __init__(self, project: str, *, standalone: bool = False, kind: Containment | None = None) -> None:
        self._project, self._ledger, self._kind = project, not standalone, kind
        self._standing = Standing(self._stand_by, lambda attempt: self._end_processes(Family.of_attempt(attempt)))

    async def warm(self) -> None:
        """Find out how a process can be held here (the SDK is imported with this module)."""
        self._kind = self._kind or await asyncio.to_thread(survey)

    def quick(self, task: TaskMsg) -> Result | None:
        """Never: a model takes its time."""
        return None

    def stand_by(self, task: TaskMsg | None, tell: Tell) -> None:
        """Have a process ready for this attempt; see Runner."""
        if task is None:
            self._standing.drop()
        else:
            self._standing.prepare(task, tell)

    async def leave(self) -> None:
        """Nothing stands by any more."""
        await self._standing.leave()

    def _stand_by(self, task: TaskMsg) -> Agent:
        ground.prepare(task)
        return self._start(task, ground.Session(task.session_id))

    async def run(self, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
        """Run one task; see Runner."""
        await self.warm()
        task = ground.settled(task)
        if task.max_budget == 0:
            return _result(task, Verdict("budget", "the task's own budget is used up"))
        try:
            with ground.only_one(Path(task.config_dir).parent) if self._ledger else nullcontext():
                return await self._attempt(task, emit, call, stop)
        except BlockingIOError:
            return _result(task, Verdict("failed", "another process still runs this task's session"))
        finally:
            self._standing.drop(keep=task.attempt)
            await self._end_processes(Family.of_attempt(task.attempt))

    async def _attempt(self, task: TaskMsg, emit: Emit, call: CallLedger, stop: Stop) -> Result:
        ground.prepare(task)
        if task.auth != "inherit" and (task.resume or task.number > 1):
            await self._end_processes(Family(entries=(f"CLAUDE_CONFIG_DIR={task.config_dir}",)))
        session = ground.choose_session(task)
        emit(ground.started(task, session))
        run = await self._process(task, session, emit, call, stop)
        if run.stood_by and not run.heard and not stop.is_set():  # it was gone, or went, before it had begun
            run = await self._process(task, session, emit, call, stop)
        if _unusable(run, session) and not stop.is_set():
            session = session.afresh(f"session {session.id} could not be resumed: started afresh")
            emit(ground.started(task, session))
            run = await self._process(task, session, emit, call, stop)
        run.listener.finish()
        return _conclude(task, session, run)

    async def _process(self, task: TaskMsg, session: ground.Session, emit: Emit, call: CallLedger, stop: Stop) -> Run:
        """One claude process from start to end."""
        agent = self._standing.take(task.attempt)
        run = Run(Listener(task.attempt, emit), agent.stderr if agent else deque(), stood_by=agent is not None)
        try:
            async with outlet(outlet_of(task), task.base_url):
                if agent is None:
                    agent = self._start(task, session)
                    run.stderr = agent.stderr
                agent.ledger = call
                agent.prompt.set_result(go_on(task) if session.resumed and session.prompted else task.prompt)
                await self._listen(agent, task, run, stop)
        except Exception as problem:
            run.ending = _with_exception(run.ending, problem, run.stderr)
        finally:
            await self._end_processes(Family.of_attempt(task.attempt), 0.0 if stop.is_set() else LEAVE_SECONDS)
            if agent is not None:
                await agent.close()
        return run

    async def _listen(self, agent: Agent, task: TaskMsg, run: Run, stop: Stop) -> None:
        """Hear every message until the stream ends; after a result the process has LINGER_SECONDS to leave."""
        while run.abort is None:
            try:
                async with asyncio.timeout(LINGER_SECONDS if run.ending.subtype else None):
                    message = await agent.hear()
            except (StopAsyncIteration, EOFError, TimeoutError):
                return
            stop.touch()
            run.heard = True
            _hear(message, task, run, self._ledger)

    def _start(self, task: TaskMsg, session: ground.Session) -> Agent:
        """Start a process; it waits for its prompt."""
        agent = Agent()
        agent.begin(sdk.query(prompt=agent.said(), options=self._options(task, session, agent)))
        return agent

    async def _end_processes(self, family: Family, grace: float = 0.0) -> None:
        await asyncio.to_thread(reaper.end, family, grace=grace)

    def _options(self, task: TaskMsg, session: ground.Session, agent: Agent) -> sdk.ClaudeAgentOptions:
        inherit = task.auth == "inherit"
        env = options.environment(task, self._project, os.environ, root=os.geteuid() == 0)
        system_prompt = ground.system_prompt(task)  # where it is a file, the sandbox has to show it
        held = enclosed(task, _executable(), env.get("PATH", ""), self._kind or Containment.PLAIN)
        env |= {name: value for name, value in held.env.items() if name not in task.env}
        unset = [name for name in os.environ if name not in env]
        path = Path(task.config_dir).parent / "claude.sh"
        launcher = write_launcher(path, _executable(), unset, held.kind, held.words)
        servers: dict[str, Any] = dict(task.mcp_servers)
        if self._ledger:
            servers[tools.SERVER] = _ledger_server(task, agent.call)
        return sdk.ClaudeAgentOptions(
            cwd=task.cwd,
            cli_path=launcher,
            env=env,
            system_prompt=system_prompt,
            model=task.model,
            tools=options.base_tools(task.allowed_tools),
            allowed_tools=options.approved(task.allowed_tools, ledger=self._ledger),
            permission_mode=cast(Any, options.permission_mode(task)),
            mcp_servers=servers,
            strict_mcp_config=True,
            setting_sources=["user"] if inherit else [],
            skills=None if inherit else [],
            extra_args={} if inherit else {"restricted": None},
            verbatim_prompts=True,
            session_id=None if session.resumed else session.id,
            resume=session.id if session.resumed else None,
            max_turns=task.max_turns,
            max_budget_usd=None if task.max_budget is None else to_float(task.max_budget),
            max_buffer_size=64 << 20,
            include_partial_messages=True,
            stderr=agent.stderr.append,
        )


def _hear(message: sdk.Message, task: TaskMsg, run: Run, ledger: bool) -> None:
    """Put one message of the SDK to the listener and into the ending."""
    match message:
        case sdk.StreamEvent():
            run.listener.stream(message.event)
        case sdk.AssistantMessage():
            _hear_assistant(message, run)
        case sdk.UserMessage() if isinstance(message.content, list):
            for block in message.content:
                if isinstance(block, sdk.ToolResultBlock):
                    run.listener.tool_result(block.tool_use_id, not block.is_error, block.content)
        case sdk.ResultMessage():
            _hear_result(message, task, run)
        case sdk.RateLimitEvent() if message.rate_limit_info.status == "rejected":
            run.ending = replace(run.ending, limited=True, resets_at=message.rate_limit_info.resets_at)
        case sdk.SystemMessage(subtype="init"):
            run.abort, absent = options.check_tools(list(message.data.get("tools", [])), task, ledger=ledger)
            for name in absent:
                run.listener.note(f"this version of claude has no tool {name}: the agent works without it")
        case sdk.SystemMessage(subtype="api_retry"):
            delay = float(message.data.get("retry_delay_ms") or 0) / 1000
            run.listener.retry(message.data.get("error_status"), str(message.data.get("error")), delay)


def _hear_assistant(message: sdk.AssistantMessage, run: Run) -> None:
    if message.error is not None or message.model == "<synthetic>":
        prose = " ".join(block.text for block in message.content if isinstance(block, sdk.TextBlock))
        if message.error is not None:
            run.ending = replace(run.ending, word=message.error, text=prose)
        return
    run.ending = replace(run.ending, word=None, text="")
    run.listener.message(message.message_id, message.model, message.usage)
    for block in message.content:
        if isinstance(block, sdk.TextBlock):
            run.listener.text(block.text)
        elif isinstance(block, sdk.ToolUseBlock):
            run.listener.tool_call(block.id, block.name, block.input)


def _hear_result(message: sdk.ResultMessage, task: TaskMsg, run: Run) -> None:
    prose = " ".join(message.errors or []) or ((message.result or "") if message.is_error else "")
    run.output = None if message.is_error else message.result
    run.turns = message.num_turns
    run.cost = transcript.amount(message.total_cost_usd, run.cost)
    run.ending = replace(
        run.ending,
        subtype=message.subtype,
        is_error=message.is_error,
        terminal_reason=message.terminal_reason,
        status=message.api_error_status,
        text=prose or run.ending.text,
        max_turns=task.max_turns,
    )


def _with_exception(ending: Ending, problem: Exception, stderr: deque[str]) -> Ending:
    """What the SDK raised at the end; after a result message it only repeats what that said."""
    if ending.subtype is not None:
        return ending
    prose = " ".join(stderr) if isinstance(problem, sdk.ProcessError) and stderr else str(problem)
    if isinstance(problem, sdk.ProcessError) and MISSING_SESSION in str(problem):
        prose = str(problem)
    cause = problem.__cause__
    short = isinstance(cause, OSError) and cause.errno in SHORTAGES
    name = type(cause if short else problem).__name__
    return replace(ending, exception=name, exit_code=getattr(problem, "exit_code", None), text=ending.text or prose)


def _unusable(run: Run, session: ground.Session) -> bool:
    """Whether the session's transcript was refused, before any model request."""
    if run.listener.turns or run.ending.subtype == "success":
        return False
    said = f"{run.ending.text} {' '.join(run.stderr)}"
    return (session.resumed and MISSING_SESSION in said) or SESSION_IN_USE in said


def _conclude(task: TaskMsg, session: ground.Session, run: Run) -> Result:
    ending = replace(run.ending, productive=run.listener.productive, retry_after=run.listener.retry_after)
    verdict = classify(ending, time.time()) if run.abort is None else Verdict("permanent", run.abort)
    text = (run.output or "\n\n".join(run.listener.texts)) if verdict.outcome == "succeeded" else ""
    kept, refs = ground.keep_text(task, clean(text))
    cost = None if run.cost is None else max(0, run.cost - session.spent)
    return _result(
        task,
        verdict,
        text=kept,
        output_refs=refs,
        cost=cost,
        usage=run.listener.usage(),
        session_id=session.id,
        turns=run.listener.turns or run.turns,
        tool_calls=run.listener.tool_calls,
    )


def _result(task: TaskMsg, verdict: Verdict, **fields: Any) -> Result:
    fields.setdefault("session_id", task.session_id)
    error = None if verdict.error is None else clean(verdict.error)
    return Result(
        attempt=task.attempt, task=task.task, outcome=verdict.outcome, error=error, until=verdict.until, **fields
    )


def _ledger_server(task: TaskMsg, call: CallLedger) -> Any:
    def make(definition: tools.ToolDef) -> sdk.SdkMcpTool[Any]:
        async def handle(arguments: dict[str, Any]) -> dict[str, Any]:
            return await tools.answer(definition.name, arguments, call)

        return sdk.tool(definition.name, definition.description, definition.schema)(handle)

    return sdk.create_sdk_mcp_server(tools.SERVER, tools=[make(each) for each in tools.granted(task.allowed_tools)])


def _executable() -> str:
    """The claude that the SDK itself would take: the one in its wheel, else the one on the PATH."""
    bundled = Path(sdk.__file__).parent / "_bundled" / "claude"
    if bundled.exists():
        return str(bundled)
    if found := shutil.which("claude"):
        return found
    raise sdk.CLINotFoundError("claude is neither in the SDK's wheel nor on the PATH")
