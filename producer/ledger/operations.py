"""What a script, an operator or an agent may ask of the ledger, by name.

One table serves both ways in: the supervisor calls it for requests from its control socket, LedgerClient calls it
itself while it holds the lock. Arguments and results are JSON; every operation runs inside one transaction.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from producer.core.guards import Limits
from producer.core.lifecycle import AttemptEvent, TaskEvent, TaskState
from producer.core.money import ZERO, parse_usd
from producer.core.retry import Settlement
from producer.errors import InvalidTask, LedgerError, ProducerError, TaskClaimRace, WireError
from producer.ids import is_id
from producer.ledger.attempts import READY, Ending
from producer.ledger.checks import draft_of
from producer.ledger.model import Cost, Filing
from producer.ledger.store import Store
from producer.wire.codec import strict_json

FILE = "@file"  # in place of all arguments: the name of a file in the inbox that holds them
FILE_BYTES = 64 << 20
SCRIPT = "script"  # the worker of attempts that a script claimed for itself


@dataclass(frozen=True)
class Context:
    """Who asks, and which guards apply."""

    actor: str = "operator"
    limits: Limits = field(default_factory=Limits)


Arguments = Mapping[str, Any]
Operation = Callable[[Store, Arguments, Context], Any]


def perform(store: Store, name: str, arguments: Arguments, context: Context) -> Any:
    """Run one operation inside the running transaction. Raises ProducerError; then nothing of it was done."""
    operation = OPERATIONS.get(name)
    if operation is None:
        raise LedgerError(f"no such operation: {name}")
    if FILE in arguments:
        arguments = _unpacked(store, arguments[FILE])
    with nullcontext() if name in CHECKS_FIRST else store.db.savepoint():
        try:
            return operation(store, arguments, context)
        except ProducerError:
            raise
        except KeyError as error:
            raise InvalidTask(f"{name}: {error} is missing") from error
        except (TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidTask(f"{name}: {error}") from error


def _unpacked(store: Store, name: object) -> Arguments:
    """Arguments that were too big for a message, from the file in the private inbox that it names."""
    if store.inbox is None or not isinstance(name, str) or not is_id(name):
        raise InvalidTask(f"{FILE}: {name!r} is not in the inbox")
    try:
        with os.fdopen(os.open(store.inbox / name, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            arguments = strict_json(file.read(FILE_BYTES + 1), FILE_BYTES)
    except (OSError, WireError) as error:
        raise InvalidTask(f"{FILE}: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidTask(f"{FILE}: must hold a JSON object")
    return arguments


def _insert_tasks(store: Store, arguments: Arguments, context: Context) -> list[str]:
    drafts = [draft_of(item, number) for number, item in enumerate(arguments["tasks"], 1)]
    return store.queue.file(drafts, Filing(context.actor), context.limits)


def _seed(store: Store, arguments: Arguments, context: Context) -> int:
    """File the tasks whose id is new; how many."""
    drafts = [draft_of(item, number) for number, item in enumerate(arguments["tasks"], 1)]
    fresh = [
        draft
        for draft in drafts
        if draft.task_id is None or not store.db.one("SELECT 1 FROM tasks WHERE id = ?", draft.task_id)
    ]
    return len(store.queue.file(fresh, Filing(context.actor), context.limits))


def _claim(store: Store, arguments: Arguments, context: Context) -> str:
    task, role = str(arguments["task_id"]), str(arguments["agent_owner"])
    if not store.db.one(f"SELECT 1 FROM tasks WHERE id = ? AND agent_owner = ? AND {READY}", task, role):
        state = store.queue.state(task)
        raise TaskClaimRace(f"task {task} cannot be claimed by {role}: it is {state}, not ready, or another role's")
    return store.attempts.claim(store.attempts.task(task), SCRIPT, SCRIPT, ZERO, resume=False).attempt


def _complete(store: Store, arguments: Arguments, context: Context) -> None:
    cost = parse_usd(arguments.get("cost_usd") or 0)
    ending = Ending("succeeded", output_refs=tuple(arguments.get("output_refs") or ()), actual=_actual(arguments))
    task = str(arguments["task_id"])
    run = store.attempts.running_of_task(task)
    if run is None:
        raise LedgerError(f"task {task} is {store.queue.state(task)}: only one that was claimed can be completed")
    if cost:
        store.attempts.book(Cost(run.attempt, run.attempt, SCRIPT, cost, "invoker"))
    store.attempts.settle(run, Settlement(AttemptEvent.SUCCEEDED, TaskEvent.COMPLETED, run.retry_count), ending)
    if arguments.get("config_isolation"):
        store.db.run("UPDATE tasks SET config_isolation = ? WHERE id = ?", arguments["config_isolation"], task)


def _fail(store: Store, arguments: Arguments, context: Context) -> int:
    task, error = str(arguments["task_id"]), str(arguments["error_summary"])
    run = store.attempts.running_of_task(task)
    if run is None:
        raise LedgerError(f"task {task} is {store.queue.state(task)}: only one that was claimed can fail")
    settlement = Settlement(AttemptEvent.FAILED, TaskEvent.FAILED, run.retry_count + 1, failed=True, reason=error)
    store.attempts.settle(run, settlement, Ending("failed", error=error))
    store.db.run("UPDATE tasks SET escalation_reason = ? WHERE id = ?", error, task)
    return run.retry_count + 1


def _requeue(store: Store, arguments: Arguments, context: Context) -> None:
    store.queue.requeue(str(arguments["task_id"]), context.actor, str(arguments.get("reason") or ""))


def _escalate(store: Store, arguments: Arguments, context: Context) -> None:
    task, reason = str(arguments["task_id"]), str(arguments["reason"])
    store.queue.move(task, TaskEvent.ESCALATED, escalation_reason=reason)
    store.audit.append("escalation", context.actor, task=task, reason=reason)
    store.outbox.put("escalation", {"task": task})


def _kill(store: Store, arguments: Arguments, context: Context) -> None:
    store.queue.kill(str(arguments["task_id"]), context.actor, str(arguments.get("reason") or ""))


def _route(store: Store, arguments: Arguments, context: Context) -> None:
    store.queue.route(str(arguments["task_id"]), str(arguments["role"]), context.actor)
    if store.queue.state(str(arguments["task_id"])) in (TaskState.ESCALATED, TaskState.KILLED, TaskState.FAILED):
        store.queue.requeue(str(arguments["task_id"]), context.actor, "routed")


def _approve(store: Store, arguments: Arguments, context: Context) -> None:
    store.queue.approve(str(arguments["task_id"]), context.actor)


def _edit(store: Store, arguments: Arguments, context: Context) -> None:
    store.queue.edit(str(arguments["task_id"]), dict(arguments["changes"]), context.actor, context.limits)


def _decision(store: Store, arguments: Arguments, context: Context) -> str:
    return store.records.decision(**arguments)


def _asset(store: Store, arguments: Arguments, context: Context) -> str:
    return store.records.asset(**arguments)


def _spend(store: Store, arguments: Arguments, context: Context) -> None:
    """Book what a script spent outside any task, on a role's budget of today."""
    role, amount = str(arguments["agent_owner"]), parse_usd(arguments["delta_usd"])
    store.accounts.spend_outside(role, amount)
    store.accounts.set_caps(role, parse_usd(arguments["hard_cap_usd"]), parse_usd(arguments["soft_cap_usd"]))
    if amount:
        store.audit.append("cost", role, cost=amount, source="script")


def _audit(store: Store, arguments: Arguments, context: Context) -> str:
    detail = {} if arguments.get("detail") is None else arguments["detail"]
    if not isinstance(detail, Mapping):
        raise InvalidTask("detail: must be a JSON object")
    store.audit.append_free(
        str(arguments["action"]), str(arguments["agent_owner"]), task=_optional(arguments, "task_id"),
        cost=parse_usd(arguments.get("cost_usd") or 0), detail=dict(detail),
    )  # fmt: skip
    return store.audit.head().chain.hex()


def _sign_audit(store: Store, arguments: Arguments, context: Context) -> int:
    """Sign what no checkpoint covers yet; how many rows are covered then."""
    store.checkpoints.sign()
    return store.audit.size - store.checkpoints.unsigned()


def _acknowledge(store: Store, arguments: Arguments, context: Context) -> None:
    store.audit.append("audit_acknowledged", context.actor, reason=str(arguments["reason"]))


def _optional(arguments: Arguments, name: str) -> str | None:
    value = arguments.get(name)
    return None if value is None else str(value)


def _actual(arguments: Arguments) -> Any:
    value = arguments.get("actual_cost_usd")
    return None if value is None else parse_usd(value)


OPERATIONS: dict[str, Operation] = {
    "insert_tasks": _insert_tasks,
    "seed": _seed,
    "claim_task": _claim,
    "complete_task": _complete,
    "fail_task": _fail,
    "requeue_task": _requeue,
    "escalate_task": _escalate,
    "kill_task": _kill,
    "route_task": _route,
    "approve_task": _approve,
    "edit_task": _edit,
    "record_decision": _decision,
    "record_asset": _asset,
    "spend": _spend,
    "append_audit": _audit,
    "sign_audit": _sign_audit,
    "acknowledge_audit": _acknowledge,
}

CHECKS_FIRST = frozenset({"insert_tasks"})  # they raise before they write: a savepoint would undo nothing


def error_class(name: str) -> type[ProducerError]:
    """The class of an error that came over the wire by its name; ProducerError where it is not one of ours."""
    import producer.errors as errors

    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, ProducerError) else ProducerError
