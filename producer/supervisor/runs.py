"""Attempts in flight: dispatching tasks to free workers, and settling each attempt once.

1. A dispatch is a claim, an attempt and a hold in one transaction; the task leaves for the worker after the commit.
2. Where the money goes through the gateway, an attempt is settled when the gateway has said that no request of it is
   open any more: until then its result waits, its hold stays, and the worker keeps the result.
3. What we did to a run (a kill, a stop, a deadline) is remembered at the attempt, so that a worker that dies under it
   is not taken for a failure of the task.
4. A run that vanished is charged the most that is known; where nothing is known, the full hold.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from producer.core.guards import Burst, burst
from producer.core.lifecycle import AttemptEvent, TaskEvent, TaskState
from producer.core.money import MicroUSD
from producer.core.retry import RetryPolicy, Settlement, settle
from producer.core.schedule import RoleView, claims
from producer.ledger.attempts import Ending
from producer.ledger.model import Claim, Cost, Running
from producer.ledger.operations import SCRIPT
from producer.supervisor.auth import Auth
from producer.supervisor.caps import PROJECT, Caps, role_state
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.prompt import dispatch_prompt
from producer.supervisor.workers import Worker, Workers
from producer.wire.auth import Peer
from producer.wire.messages import Ack, Cancel, Progress, Result, Started, TaskMsg
from producer.wire.outbox import LOG, read

NO_ID = "0" * 26
SLACK = 30.0
BUDGET_PAUSE = 30.0  # seconds before a task is tried again that a cap stopped for want of what others hold


@dataclass
class Run:
    """One attempt in flight. Times are monotonic seconds."""

    attempt: str
    task: str
    role: str
    root: str
    worker: str
    title: str
    begun: float
    deadline: float
    metered: bool
    started: bool = False
    result: Result | None = None
    stop_by: float | None = None
    refused: tuple[str, int] | None = None
    streamed: int = 0
    activity: str = ""


class Runs:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel, workers: Workers, gateway: Gateway, caps: Caps, auth: Auth) -> None:
        self._kernel, self._workers, self._gateway, self._caps, self._auth = kernel, workers, gateway, caps, auth
        self.by_attempt: dict[str, Run] = {}
        self.burst_roles: set[str] = set()
        self._failures: defaultdict[str, tuple[float, ...]] = defaultdict(tuple)
        self._turn = 0
        self._tasks = str(kernel.places.tasks)
        self._fixed: dict[str, TaskMsg] = {}
        self.reload()

    # ---- dispatch

    def recover(self) -> None:
        """Take up the attempts that a supervisor before this one left running."""
        now = self._kernel.monotonic()
        for run in self._kernel.store.attempts.all_running():
            if run.worker == SCRIPT:
                continue
            title = self._kernel.store.db.value("SELECT title FROM tasks WHERE id = ?", run.task)
            role = self._kernel.config.roles.get(run.role)
            limit = role.timeout_seconds if role else 3600.0
            self.by_attempt[run.attempt] = Run(
                run.attempt, run.task, run.role, run.root, run.worker, title, now, now + limit + SLACK,
                self._auth.metered, started=True,
            )  # fmt: skip
            worker = self._workers.by_id.get(run.worker)
            if worker:
                worker.attempts[run.attempt] = now
            else:
                self.lost(run.attempt, "its worker was gone when the supervisor started")

    def dispatch(self) -> int:
        """Give every free worker what it should do next; how many tasks were claimed."""
        if self._auth.metered and not self._gateway.connected:
            return 0
        standing = self._caps.review()
        if standing.get(PROJECT) and standing[PROJECT].state == "capped":
            return 0
        views = [
            RoleView(role, role_state(row), row.until, [(w.id, w.free) for w in self._workers.of_role(role)])
            for role, row in standing.items()
            if role in self._kernel.config.roles
        ]
        self._turn += 1
        count, done = 0, set[str]()
        for claim in claims(views, now=self._kernel.store.db.now, turn=self._turn):
            for _ in range(claim.n):
                if claim.role in done or not self._dispatch_one(claim.role, self._workers.by_id[claim.worker]):
                    done.add(claim.role)
                    break
                count += 1
        return count

    def _dispatch_one(self, role: str, worker: Worker) -> bool:
        store, config = self._kernel.store, self._kernel.config
        while (candidate := store.attempts.candidate(role)) and self._spent_by_itself(role, *candidate):
            continue
        if candidate is None or not self._caps.admits(role):
            return False
        settings = config.roles[role]
        claim = store.attempts.claim(
            candidate[0], worker.id, config.model_of(role), settings.dispatch_reservation, resume=settings.resume
        )
        now = self._kernel.monotonic()
        self.by_attempt[claim.attempt] = Run(
            claim.attempt, claim.task, role, candidate[1], worker.id, claim.title, now,
            now + settings.timeout_seconds + SLACK, self._auth.metered,
        )  # fmt: skip
        worker.attempts[claim.attempt] = now
        if self._auth.metered:
            self._gateway.open(claim)
        self._kernel.send("tasks", worker.address, self._message(claim))
        return True

    def _spent_by_itself(self, role: str, task: str, root: str) -> bool:
        """Whether a task's own or its lineage's budget is spent; then it is a human's."""
        for cap in self._caps.own(role, task, root):
            if cap.limit is not None and cap.limit - cap.spent <= 0:
                reason = f"{cap.name} has spent its own budget"
                self._kernel.store.queue.move(task, TaskEvent.ESCALATED, escalation_reason=reason)
                self._escalated(task, role, reason)
                return True
        return False

    def _message(self, claim: Claim) -> TaskMsg:
        fixed = self._fixed.get(claim.role)
        if fixed is None:
            fixed = self._fixed[claim.role] = self._of_role(claim.role)
        metered = self._auth.metered
        return fixed.model_copy(
            update={
                "attempt": claim.attempt,
                "task": claim.task,
                "title": claim.title,
                "description": claim.description,
                "payload": claim.payload,
                "number": claim.number,
                "prompt": dispatch_prompt(self._kernel.config.project_name, claim),
                "config_dir": f"{self._tasks}/{claim.task}/claude",
                "home": f"{self._tasks}/{claim.task}/home",
                "session_id": claim.session_id,
                "resume": claim.resume,
                "base_url": self._gateway.url if metered else None,
                "api_token": self._gateway.token(claim.attempt) if metered else None,
            }
        )

    def _of_role(self, name: str) -> TaskMsg:
        """What every task of a role has in common; made once for each configuration."""
        config = self._kernel.config
        role = config.roles[name]
        return TaskMsg(
            attempt=NO_ID, task=NO_ID, role=name, title="", description="", prompt="", session_id="", config_dir="",
            home="", system_prompt=self._system_prompt(name), model=config.model_of(name),
            allowed_tools=role.current_tools, max_turns=role.max_turns, max_budget=role.max_budget,
            timeout_seconds=role.timeout_seconds, idle_timeout_seconds=role.idle_timeout_seconds,
            permission_mode=role.permission_mode, mcp_servers=dict(role.mcp_servers), env=dict(role.env),
            cwd=str(config.project_root), auth=self._auth.kind,
        )  # fmt: skip

    def _system_prompt(self, role: str) -> str | None:
        """A role's standing instructions, as they were when the configuration was loaded."""
        path = self._kernel.config.prompt_path(role)
        return path.read_text(encoding="utf-8") if path else None

    def reload(self) -> None:
        """The configuration was replaced: read the prompts anew, all of them, so that a missing one is seen now."""
        self._fixed = {name: self._of_role(name) for name in self._kernel.config.roles}

    # ---- what workers say

    def started(self, message: Started) -> None:
        """A run has begun."""
        run = self.by_attempt.get(message.attempt)
        if run and self._kernel.store.attempts.started(
            message.attempt, message.session_id, message.resumed, message.note
        ):
            run.started = True
            self._kernel.tell(
                "attempt.started", role=run.role, task=run.task, attempt=run.attempt, title=run.title, note=message.note
            )

    def progress(self, message: Progress) -> None:
        """A run goes on. Tool calls get an audit row each; the rest is for whoever watches."""
        run = self.by_attempt.get(message.attempt)
        if run is None:
            return
        data = message.data
        if message.kind == "tool_call":
            run.activity = str(data.get("name", ""))
            self._kernel.audit(
                "tool_call", actor=run.role, task=run.task, attempt=run.attempt, tool=run.activity,
                input=data.get("input"), id=data.get("id"),
            )  # fmt: skip
        elif message.kind == "tool_result" and not data.get("ok", True):
            self._kernel.audit(
                "tool_failed", actor=run.role, task=run.task, attempt=run.attempt, tool=data.get("name"),
                id=data.get("id"), summary=str(data.get("summary", ""))[:500],
            )  # fmt: skip
        elif message.kind == "usage" and isinstance(data.get("cost_micros"), int):
            run.streamed += max(0, data["cost_micros"])
        self._kernel.tell(f"progress.{message.kind}", role=run.role, task=run.task, attempt=run.attempt, **data)

    def result(self, peer: Peer, message: Result) -> None:
        """A run ended, by its worker's word."""
        run = self.by_attempt.get(message.attempt)
        if run is None:
            self._stale(peer, message)
            return
        if peer.kind != "worker" or peer.role != run.role:
            self._kernel.audit("forged_result", actor=peer.role or peer.kind, attempt=message.attempt)
            return
        if run.result is None:
            self._conclude(run, message)

    def lost(self, attempt: str, why: str) -> None:
        """The worker of a run is gone. What it had written to its outbox counts; else the run is lost."""
        run = self.by_attempt.get(attempt)
        if run is None or run.result is not None:
            return
        found = self._from_outbox(run)
        if found is None:
            cancelled = self._kernel.store.db.value("SELECT cancel FROM attempts WHERE id = ?", attempt)
            late = run.stop_by is None and self._kernel.monotonic() > run.deadline
            if cancelled or not run.started:
                found = Result(attempt=attempt, task=run.task, outcome="cancelled", error=cancelled or why)
            else:
                error = "it passed its deadline and was killed" if late else why
                found = Result(attempt=attempt, task=run.task, outcome="lost", error=error)
        self._conclude(run, found)

    def _from_outbox(self, run: Run) -> Result | None:
        try:
            return read(self._kernel.places.outboxes / run.worker / LOG).results.get(run.attempt)
        except OSError:
            return None

    def _stale(self, peer: Peer, message: Result) -> None:
        """A result for an attempt that is settled: acknowledge it, so that the worker forgets it too."""
        store = self._kernel.store
        if store.db.one("SELECT 1 FROM attempts WHERE id = ?", message.attempt):
            store.attempts.stale(message.attempt, message.outcome)
        self._kernel.send("tasks", peer.name.encode(), Ack(attempt=message.attempt))

    # ---- settling

    def _conclude(self, run: Run, result: Result) -> None:
        run.result = result
        if run.metered:
            self._gateway.close(run.attempt)
        else:
            self._settle(run, result)

    def closed(self, attempt: str) -> None:
        """The gateway has no open request of this attempt, and everything it metered is booked."""
        run = self.by_attempt.get(attempt)
        if run and run.result is not None:
            self._settle(run, run.result)

    def _settle(self, run: Run, result: Result) -> None:
        store = self._kernel.store
        known = store.attempts.running(run.attempt)
        self._release(run)
        if known is None:
            store.attempts.stale(run.attempt, result.outcome)
            return
        if not run.metered:
            self._charge(run, result)
        settlement = self._judge(known, run, result)
        ending = Ending(
            result.outcome, result.text, result.error, tuple(result.output_refs),
            None if result.cost is None else MicroUSD(result.cost), result.turns, result.tool_calls,
        )  # fmt: skip
        after = store.attempts.settle(known, settlement, ending)
        if result.survivors:
            self._kernel.audit("survivors", task=run.task, attempt=run.attempt, count=result.survivors)
        if settlement.failed:
            self._failed(run.role)
        if settlement.throttle_until is not None:
            store.roles.set_state(run.role, "throttled", until=settlement.throttle_until, reason=result.error)
        if after is TaskState.ESCALATED and settlement.task is TaskEvent.EXHAUSTED:
            self._escalated(run.task, run.role, settlement.reason or "", audited=True)

    def _release(self, run: Run) -> None:
        del self.by_attempt[run.attempt]
        worker = self._workers.by_id.get(run.worker)
        if worker:
            worker.attempts.pop(run.attempt, None)
            self._kernel.send("tasks", worker.address, Ack(attempt=run.attempt))

    def _judge(self, known: Running, run: Run, result: Result) -> Settlement:
        if result.outcome == "budget":
            cap, floor = run.refused or (f"task {run.task}", 0)
            if cap == "project" or cap.startswith("role "):
                wait = None if self._caps.refuse(cap, run.role, floor) else self._kernel.store.db.now + BUDGET_PAUSE
                return Settlement(AttemptEvent.CANCELLED, TaskEvent.INTERRUPTED, known.retry_count, not_before=wait)
            reason = f"{cap} has spent its own budget: {result.error or ''}"
            return Settlement(AttemptEvent.CANCELLED, TaskEvent.EXHAUSTED, known.retry_count, reason=reason)
        role = self._kernel.config.roles.get(run.role)
        policy = RetryPolicy(role.retry.max, role.retry.base_seconds, role.retry.cap_seconds) if role else RetryPolicy()
        return settle(
            result.outcome, retry_count=known.retry_count, policy=policy, now=self._kernel.store.db.now,
            jitter=self._kernel.jitter(), until=result.until, error=result.error,
        )  # fmt: skip

    def _charge(self, run: Run, result: Result) -> None:
        """Book a run whose requests no gateway metered: what it reported, else the most that is known of it."""
        if result.outcome == "lost":
            amount, source = run.streamed, "stream"
            if not amount:
                hold = self._kernel.store.accounts.hold(run.attempt)
                amount, source = (hold[1] if hold else 0), "hold"
        else:
            amount, source = max(result.cost or 0, 0), "invoker"
        if amount:
            tokens: dict[str, int] = {}
            for usage in result.usage.values():
                for name, value in usage.model_dump().items():
                    tokens[name] = tokens.get(name, 0) + value
            model = next(iter(result.usage), self._kernel.options.invoker)
            cost = Cost(run.attempt, run.attempt, model, MicroUSD(amount), source, source == "invoker", tokens)
            if self._kernel.store.attempts.book(cost):
                self._caps.spent(run.role, amount)

    def _failed(self, role: str) -> None:
        policy = Burst(self._kernel.config.failure_burst.count, self._kernel.config.failure_burst.window_seconds)
        now = self._kernel.store.db.now
        self._failures[role] = (*self._failures[role], now)[-policy.count :]
        if burst(self._failures[role], now, policy):
            self._failures[role] = ()
            self.burst_roles.add(role)

    def _escalated(self, task: str, role: str, reason: str, *, audited: bool = False) -> None:
        if not audited:
            self._kernel.audit("escalation", actor=role, task=task, reason=reason)
        self._kernel.store.outbox.put("escalation", {"task": task})
        self._kernel.notify("escalation", f"a task of {role} needs you", f"{task}: {reason}"[:500])

    # ---- stopping

    def stop(self, attempt: str, reason: str, grace: float) -> None:
        """Have a run stopped by the ladder; past its grace its worker is killed with all below it."""
        run = self.by_attempt.get(attempt)
        if run is None or run.result is not None:
            return
        self._kernel.store.attempts.cancel(attempt, reason)
        by = self._kernel.monotonic() + grace + 1.5
        run.stop_by = min(run.stop_by or by, by)
        worker = self._workers.by_id.get(run.worker)
        if worker is None:
            self.lost(attempt, reason)
        else:
            message = Cancel(attempt=attempt, reason=reason, grace_seconds=grace)
            self._kernel.send("tasks", worker.address, message)

    def stop_all(self, reason: str, grace: float) -> int:
        """Stop every run; how many there were."""
        for attempt in list(self.by_attempt):
            self.stop(attempt, reason, grace)
        return len(self.by_attempt)

    def overdue(self) -> None:
        """End what has passed its deadline, or did not stop in its grace: the worker goes, and what is below it."""
        now = self._kernel.monotonic()
        for run in list(self.by_attempt.values()):
            if run.result is None and now > (run.deadline if run.stop_by is None else run.stop_by):
                worker = self._workers.by_id.get(run.worker)
                if worker:
                    worker.ending = run.stop_by is not None and worker.draining
                    self._workers.kill(worker)
                else:
                    self.lost(run.attempt, "its worker is gone")

    def reconcile(self, worker: Worker, running: list[str], outbox: list[str]) -> None:
        """A worker (re)connected and says what it has: what we think it has and it has not never reached it."""
        known = {run.attempt for run in self.by_attempt.values() if run.worker == worker.id}
        for attempt in known - set(running) - set(outbox):
            self.by_attempt[attempt].started = False
            self.lost(attempt, "it did not reach its worker")
        for attempt in set(running) - known:
            self._kernel.send("tasks", worker.address, Cancel(attempt=attempt, reason="stale", grace_seconds=1.0))
        for attempt in known & set(running):
            run = self.by_attempt[attempt]
            run.started = True
            worker.attempts.setdefault(attempt, run.begun)

    def escalated_by_agent(self, run: Running, reason: str) -> None:
        """An agent asked for a human: its run may end by itself, its task waits."""
        self._escalated(run.task, run.role, reason)

    def cost(self, run: Run) -> MicroUSD:
        """What a run has cost so far, as far as it is known."""
        booked = self._kernel.store.db.value("SELECT cost_micros FROM attempts WHERE id = ?", run.attempt) or 0
        return MicroUSD(max(booked, run.streamed))

    def live(self) -> list[tuple[str, str, str, str, bool]]:
        """(attempt, role, task, title, has ended) of every run, for the gateway."""
        return [(r.attempt, r.role, r.task, r.title, r.result is not None) for r in self.by_attempt.values()]

    def refused(self, attempt: str, cap: str, floor: int) -> None:
        """The gateway was told that a cap does not afford a run's next request."""
        run = self.by_attempt.get(attempt)
        if run:
            run.refused = (cap, floor)
