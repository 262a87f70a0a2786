"""What operators, scripts and agents may ask, and who may ask what.

1. Operations on the ledger are the same as without a supervisor (producer/ledger/operations.py); a few have a
   consequence here: a task that is killed is also stopped.
2. An agent's call comes from its worker's connection; its role and its attempt are those of the connection, and what it
   files is marked, limited and placed below its own task.
3. An answer leaves after the commit. An error is answered with its class's name and its text; nothing of it was done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from producer import project
from producer.config import load_config
from producer.core.guards import check_recorded
from producer.core.lifecycle import TaskEvent
from producer.errors import LedgerError, ProducerError, UsageError
from producer.ledger.model import Draft, Filing, Running
from producer.ledger.operations import OPERATIONS, Context, perform
from producer.ledger.views import Reader
from producer.supervisor.brake import Brake
from producer.supervisor.dispatch import Dispatch
from producer.supervisor.kernel import Kernel
from producer.supervisor.runs import Runs
from producer.supervisor.workers import Workers
from producer.wire.auth import Peer
from producer.wire.messages import Call, JsonObject, Reply, Request

LATER = object()  # the answer comes by itself
NONSENSE = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)  # arguments of another shape
_REPORT_LIMIT = 200


class Control:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel, workers: Workers, dispatch: Dispatch, runs: Runs, brake: Brake) -> None:
        self._kernel, self._workers, self._runs, self._brake = kernel, workers, runs, brake
        self._dispatch = dispatch
        self.status: Callable[[bool], dict[str, Any]] = lambda brief: {}
        self.leave: Callable[[str], None] = lambda how: None
        self.report: Callable[[bytes, str, JsonObject, str], None] = lambda address, call, arguments, actor: None
        self._reader = Reader(kernel.places.ledger)
        self._operations: dict[str, Callable[[JsonObject, str], Any]] = {
            "status": lambda arguments, actor: self.status(bool(arguments.get("brief"))),
            "resume": self._resume,
            "scale": self._scale,
            "drain": self._drain,
            "role_reset": self._role_reset,
            "reload": lambda arguments, actor: {"changes": self.reload(actor)},
            "stop": lambda arguments, actor: self._leave("stop"),
            "restart": lambda arguments, actor: self._leave("restart"),
        }

    def close(self) -> None:
        """Close the view of the ledger: while one is open, the writer cannot fold the WAL into the file."""
        self._reader.close()

    # ---- operators and scripts

    def request(self, peer: Peer, address: bytes, message: Request) -> None:
        """Answer a question from the control socket."""
        if peer.kind != "operator":
            self._answer(address, message.call, UsageError("only operators use the control socket"))
            return
        actor = str(message.arguments.get("actor") or "operator")[:64]
        arguments = {name: value for name, value in message.arguments.items() if name != "actor"}
        try:
            answer = self._perform(address, message.call, message.op, arguments, actor)
        except ProducerError as error:
            answer = error
        except NONSENSE as error:
            answer = UsageError(f"{message.op}: {error}")
        if answer is not LATER:
            self._answer(address, message.call, answer)

    def _perform(self, address: bytes, call: str, op: str, arguments: JsonObject, actor: str) -> Any:
        if op == "kill":
            return self._kill(address, call, arguments, actor)
        if op == "morning_report":
            self.report(address, call, arguments, actor)
            return LATER
        if op in self._operations:
            with self._kernel.store.db.savepoint():
                return self._operations[op](arguments, actor)
        if op not in OPERATIONS:
            raise UsageError(f"no such operation: {op}")
        running = self._stopped_by(op, arguments)
        result = perform(self._kernel.store, op, arguments, Context(actor, self._kernel.limits))
        if running:
            self._runs.stop(running.attempt, f"task {op.split('_')[0]}ed by {actor}", 2.0)
        return result

    def _stopped_by(self, op: str, arguments: JsonObject) -> Running | None:
        if op not in ("kill_task", "escalate_task"):
            return None
        return self._kernel.store.attempts.running_of_task(str(arguments.get("task_id")))

    def _answer(self, address: bytes, call: str, answer: Any) -> None:
        if isinstance(answer, ProducerError):
            reply = Reply(call=call, ok=False, error=str(answer), result=type(answer).__name__)
        else:
            reply = Reply(call=call, ok=True, result=answer)
        self._kernel.send("control", address, reply)

    def _kill(self, address: bytes, call: str, arguments: JsonObject, actor: str) -> Any:
        reason = str(arguments.get("reason") or "no reason given")
        if arguments.get("now"):
            self._brake.stop_now(address, call, reason, actor)
            return LATER
        self._brake.arm(reason, actor)
        return {"armed": True}

    def _resume(self, arguments: JsonObject, actor: str) -> Any:
        self._brake.disarm(actor, str(arguments.get("reason") or ""))
        return {"armed": False}

    def _scale(self, arguments: JsonObject, actor: str) -> Any:
        desired = arguments.get("desired")
        if not isinstance(desired, dict) or not desired:
            raise UsageError("scale: say ROLE=N")
        for role, count in desired.items():
            self._known(role)
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 256:
                raise UsageError(f"scale: {role}: {count!r} is not a whole number from 0 to 256")
            self._kernel.store.roles.scale(role, count, actor)
        return {"desired": {role: row.desired for role, row in self._kernel.store.roles.all().items() if role != "*"}}

    def _drain(self, arguments: JsonObject, actor: str) -> Any:
        role = arguments.get("role")
        names = [self._known(role)] if role else list(self._kernel.config.roles)
        for name in names:
            self._kernel.store.roles.set_state(name, "draining", reason=f"drained by {actor}")
        return {"draining": names}

    def _role_reset(self, arguments: JsonObject, actor: str) -> Any:
        role = self._known(arguments.get("role"))
        self._workers.reset(role)
        changed = self._kernel.store.roles.set_state(role, "ok", reason=f"reset by {actor}")
        return {"role": role, "changed": changed}

    def _known(self, role: object) -> str:
        if not isinstance(role, str) or role not in self._kernel.config.roles:
            names = ", ".join(self._kernel.config.roles)
            raise UsageError(f"no role {role!r}: use one of {names}")
        return role

    def reload(self, actor: str) -> list[str]:
        """Read producer.yaml again; what changed, a line each. A bad file is refused and the old one stays in force."""
        old = self._kernel.config
        if old.source is None:
            raise UsageError("this supervisor was not started from a file")
        new = load_config(old.source)
        for name in ("ledger_db", "kill_switch", "project_root", "sockets"):
            if getattr(new, name) != getattr(old, name):
                raise UsageError(f"reload: {name} cannot change while the supervisor runs: use `producerctl stop`")
        self._dispatch.check(new)
        changes = difference(old, new)
        self._kernel.config = new
        self._dispatch.reload()
        self._runs.reload()
        self._kernel.store.roles.declare({"*": 0, **{name: role.workers for name, role in new.roles.items()}})
        for name, role in new.roles.items():
            before = old.roles.get(name)
            if before and before.workers != role.workers:
                self._kernel.store.roles.scale(name, role.workers, actor)
        self._kernel.audit("config_reloaded", actor=actor, sha256=new.sha256, changes=changes[:_REPORT_LIMIT])
        self._kernel.after.append(lambda: project.note(new, self._kernel.places))
        return changes

    def _leave(self, how: str) -> Any:
        self._kernel.after.append(lambda: self.leave(how))
        return {"leaving": how}

    # ---- agents

    def call(self, peer: Peer, address: bytes, message: Call) -> None:
        """Answer a ledger tool of an agent's."""
        run = self._kernel.store.attempts.running(message.attempt)
        if run is None or peer.kind != "worker" or run.worker != peer.name:
            answer: Any = LedgerError("this attempt is over")
        else:
            try:
                with self._kernel.store.db.savepoint():
                    answer = self._tool_once(run, message)
            except ProducerError as error:
                answer = error
            except NONSENSE as error:
                answer = LedgerError(f"{message.tool}: {error}")
        if isinstance(answer, ProducerError):
            self._kernel.audit(
                "tool_refused", actor=run.role if run else "unknown", attempt=message.attempt, tool=message.tool,
                task=run.task if run else None, error=str(answer)[:500], kind=type(answer).__name__,
            )  # fmt: skip
            reply = Reply(call=message.call, ok=False, error=str(answer))
        else:
            reply = Reply(call=message.call, ok=True, result=answer)
        self._kernel.send("tasks", address, reply)

    def _tool_once(self, run: Running, message: Call) -> Any:
        attempts = self._kernel.store.attempts
        answer = attempts.reply(message.call)
        if answer is None:
            answer = self._tool(run, message)
            if message.tool not in ("get_task", "list_tasks"):
                attempts.remember_reply(message.call, message.attempt, answer)
        return answer

    def _tool(self, run: Running, message: Call) -> Any:
        given, store = message.arguments, self._kernel.store
        match message.tool:
            case "insert_task":
                draft = Draft(
                    agent_owner=given["agent_owner"], title=given["title"], description=given["description"],
                    payload=given.get("payload") or {}, priority=given.get("priority", 3),
                    dependencies=tuple(given.get("dependencies") or ()), sprint_id=given.get("sprint_id"),
                    requires_approval=bool(given.get("requires_approval", False)),
                )  # fmt: skip
                filing = Filing(run.role, run.attempt, run.task)
                return {"task_id": store.queue.file([draft], filing, self._kernel.limits)[0]}
            case "record_decision":
                check_recorded(store.records.of_attempt(run.attempt))
                decision: dict[str, Any] = {n: given.get(n) for n in ("kind", "decision_text", "rationale", "artifact")}
                return {"id": store.records.decision(task_id=run.task, agent_owner=run.role, **decision)}
            case "record_asset":
                check_recorded(store.records.of_attempt(run.attempt))
                asset: dict[str, Any] = {
                    n: v for n, v in given.items() if n not in ("agent_id", "task_id", "agent_owner")
                }
                return {"id": store.records.asset(agent_id=run.role, task_id=run.task, **asset)}
            case "get_task":
                return self._reader.task(str(given["task_id"]))
            case "list_tasks":
                limit = min(max(int(given.get("limit", 50)), 1), 200)
                found = self._reader.list(status=given.get("status"), role=given.get("agent_owner"), limit=limit)
                return [{k: t[k] for k in ("id", "status", "agent_owner", "title", "priority")} for t in found]
            case "escalate":
                reason = str(given.get("reason") or "").strip() or "the agent gave no reason"
                store.queue.move(run.task, TaskEvent.ESCALATED, escalation_reason=reason[:2000])
                self._runs.escalated_by_agent(run, reason[:2000])
                return {"escalated": run.task}


def difference(old: Any, new: Any, prefix: str = "") -> list[str]:
    """What differs between two configurations: `key: before -> after`, a line each."""
    import dataclasses

    if dataclasses.is_dataclass(old) and dataclasses.is_dataclass(new):
        pairs = [(f.name, getattr(old, f.name), getattr(new, f.name)) for f in dataclasses.fields(old)]
    elif isinstance(old, dict) and isinstance(new, dict):
        pairs = [(key, old.get(key), new.get(key)) for key in dict.fromkeys((*old, *new))]
    elif isinstance(old, list) and isinstance(new, list) and any(map(dataclasses.is_dataclass, (*old, *new))):
        return [] if old == new else [f"{prefix}: {len(old)} entries -> {len(new)} entries"]
    else:
        return [] if old == new else [f"{prefix}: {old} -> {new}"]
    lines: list[str] = []
    for name, before, after in pairs:
        if name in ("sha256", "source"):
            continue
        where = f"{prefix}.{name}" if prefix else str(name)
        if before is None or after is None:
            lines += [] if before == after else [f"{where}: {_brief(before)} -> {_brief(after)}"]
        else:
            lines += difference(before, after, where)
    return lines


def _brief(value: Any) -> str:
    import dataclasses

    return "a new entry" if dataclasses.is_dataclass(value) else str(value)
