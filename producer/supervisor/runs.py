"""Attempts in flight: dispatching tasks to free workers, and settling each attempt once.

1. A dispatch is a claim, an attempt and a hold in one transaction; the task leaves for the worker after the commit.
2. Where the money goes through the gateway, an attempt is settled when the gateway has said that no request of it is
   open any more: until then its result waits, its hold stays, and the worker keeps the result.
3. What we did to a run (a kill, a stop, a deadline) is remembered at the attempt, so that a worker that dies under it
   is not taken for a failure of the task.
4. A run that vanished is charged the most that is known; where nothing is known, the full hold.
5. About an attempt, only the worker that it was given to is heard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from producer import killswitch
from producer.config import ProducerConfig
from producer.core.guards import Burst, burst
from producer.core.lifecycle import AttemptEvent, TaskEvent, TaskState
from producer.core.money import MicroUSD
from producer.core.retry import RetryPolicy, Settlement, settle
from producer.core.schedule import RoleView, claims
from producer.errors import UnknownModel
from producer.ids import from_iso, iso
from producer.ledger.attempts import Ending
from producer.ledger.model import Claim, Cost, Ready, Running
from producer.ledger.operations import SCRIPT
from producer.supervisor.again import why_again
from producer.supervisor.auth import Auth
from producer.supervisor.caps import PROJECT, Caps, role_state
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.prices import check_models, watched
from producer.supervisor.prompt import dispatch_prompt
from producer.supervisor.workers import Worker, Workers
from producer.supervisor.workspaces import Workspaces
from producer.supervisor.workspaces import check as check_workspaces
from producer.wire.auth import Peer
from producer.wire.messages import Ack, Cancel, Progress, Result, Started, TaskMsg, Usage
from producer.wire.outbox import LOG, read

NO_ID = "0" * 26
SLACK = 30.0
BUDGET_PAUSE = 30.0  # seconds before a task is tried again that a cap stopped for want of what others hold
STOPPED_AS = ("failed", "permanent", "lost")  # how a run may end that was asked to stop; none of it is its fault


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
    noted: bool = False  # its start, and so its session, is in the ledger
    result: Result | None = None
    silent: bool = False  # its worker went without a word about it
    stop_by: float | None = None
    refused: tuple[str, int] | None = None
    streamed: int = 0
    activity: str = ""


class Runs:
    """Runs inside the batch's transaction."""

    def __init__(
        self, kernel: Kernel, workers: Workers, gateway: Gateway, caps: Caps, auth: Auth, workspaces: Workspaces
    ) -> None:
        self._workspaces = workspaces
        self._kernel, self._workers, self._gateway, self._caps, self._auth = kernel, workers, gateway, caps, auth
        self.by_attempt: dict[str, Run] = {}
        self.burst_roles: set[str] = set()
        self.survivors = 0
        self._failures: defaultdict[str, tuple[float, ...]] = defaultdict(tuple)
        self._turn = 0
        self._tasks = str(kernel.places.tasks)
        self._fixed: dict[str, TaskMsg] = {}
        self._prices = watched(kernel.config, kernel.places)
        self.reload()

    # ---- dispatch

    def recover(self) -> None:
        """Take up the attempts that a supervisor before this one left running."""
        now = self._kernel.monotonic()
        self._recall_failures()
        for attempt in self._kernel.store.accounts.left_behind():
            amount = self._kernel.store.accounts.release(attempt)
            self._kernel.audit("hold_swept", attempt=attempt, held_micros=amount)
        for run in self._kernel.store.attempts.all_running():
            if run.worker == SCRIPT:
                continue
            title, noted = self._kernel.store.db.one(
                "SELECT title, a.started_at IS NOT NULL FROM attempts AS a JOIN tasks AS t ON t.id = task_id"
                " WHERE a.id = ?",
                run.attempt,
            ) or ("", 0)
            worker = self._workers.by_id.get(run.worker)
            self.by_attempt[run.attempt] = Run(
                run.attempt, run.task, run.role, run.root, run.worker, title, now,
                self._deadline(run.role, len(worker.attempts) if worker and not noted else 0),
                self._auth.metered, started=True, noted=bool(noted),
            )  # fmt: skip
            if worker:
                worker.attempts[run.attempt] = now
            else:
                self._gone_before(self.by_attempt[run.attempt])

    def _gone_before(self, run: Run) -> None:
        """A run whose worker was gone before we came: it may not have begun, or have been stopped by a human."""
        last = self._workers.last_runs
        run.started = run.noted or run.worker not in last or last[run.worker] == run.attempt
        switch = killswitch.read(self._kernel.config.kill_switch)
        if switch.now or self._stopped_without_us(run.attempt):
            self._kernel.store.attempts.cancel(run.attempt, f"kill switch: {switch.reason or 'armed'}")
        self.lost(run.attempt, "its worker was gone when the supervisor started")

    def _stopped_without_us(self, attempt: str) -> bool:
        """Whether somebody stopped everything, without a supervisor, since the attempt was claimed."""
        return bool(
            self._kernel.store.db.one(
                "SELECT 1 FROM attempts WHERE id = ? AND claimed_at <= (SELECT max(json_extract(CAST(body AS TEXT),"
                " '$.at')) FROM audit WHERE action = 'stopped_now')",
                attempt,
            )
        )

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
        count, waiting = 0, {view.name: self._takers(view) for view in views}
        for claim in claims(views, now=self._kernel.store.db.now, turn=self._turn):
            worker = self._workers.by_id[claim.worker]
            count += sum(self._dispatch_one(ready, worker) for ready in islice(waiting[claim.role], claim.n))
        return count

    def _takers(self, view: RoleView) -> Iterator[Ready]:
        """The tasks that a role's free workers should take, in order, as long as the caps admit one more."""
        free = sum(credit for _, credit in view.free)
        for ready in self._kernel.store.attempts.ready(view.name, free) if free else []:
            if not (self._spent_by_itself(ready) or self._workspaces.waits(ready.task)):
                if not self._caps.admits(view.name):
                    return
                yield ready

    def _dispatch_one(self, ready: Ready, worker: Worker) -> bool:
        store, config = self._kernel.store, self._kernel.config
        settings = config.roles[ready.role]
        claim = store.attempts.claim(
            ready, worker.id, config.model_of(ready.role), settings.dispatch_reservation, resume=settings.resume
        )
        now = self._kernel.monotonic()
        self.by_attempt[claim.attempt] = Run(
            claim.attempt, claim.task, ready.role, ready.root, worker.id, claim.title, now,
            self._deadline(ready.role, len(worker.attempts)), self._auth.metered,
        )  # fmt: skip
        worker.attempts[claim.attempt] = now
        if self._auth.metered:
            self._gateway.open(claim)
        self._kernel.send("tasks", worker.address, self._message(claim))
        return True

    def _deadline(self, role: str, ahead: int = 0) -> float:
        """Until when a run must have ended that begins now, or once the ``ahead`` before it have had their time."""
        settings = self._kernel.config.roles.get(role)
        limit = settings.timeout_seconds if settings else 3600.0
        return self._kernel.monotonic() + limit * (1 + ahead) + SLACK

    def _spent_by_itself(self, ready: Ready) -> bool:
        """Whether a task's own or its lineage's budget is spent; then it is a human's."""
        for cap in self._caps.own(ready.role, ready.task, ready.root):
            if cap.limit is not None and cap.limit - cap.spent <= 0:
                reason = f"{cap.name} has spent its own budget"
                self._kernel.store.queue.move(ready.task, TaskEvent.ESCALATED, escalation_reason=reason)
                self._escalated(ready.task, ready.role, reason)
                return True
        return False

    def _message(self, claim: Claim) -> TaskMsg:
        fixed = self._fixed.get(claim.role)
        if fixed is None:
            fixed = self._fixed[claim.role] = self._of_role(claim.role)
        metered = self._auth.metered
        prompt = dispatch_prompt(self._kernel.config.project_name, claim)
        return fixed.model_copy(
            update={
                "max_budget": self._stop_at(claim),
                "interrupted": why_again(self._kernel.store.db, claim, prompt) if claim.resume else None,
                "attempt": claim.attempt,
                "task": claim.task,
                "title": claim.title,
                "description": claim.description,
                "payload": claim.payload,
                "number": claim.number,
                "prompt": prompt,
                "config_dir": f"{self._tasks}/{claim.task}/claude",
                "home": f"{self._tasks}/{claim.task}/home",
                "session_id": claim.session_id,
                "resume": claim.resume,
                "base_url": self._gateway.url if metered else None,
                "api_token": self._gateway.token(claim.attempt) if metered else None,
                **self._workspaces.message(claim, prompt),
            }
        )

    def _stop_at(self, claim: Claim) -> MicroUSD | None:
        """Where the SDK itself shall stop: at the rest of the task's budget; without a gateway, also of the caps."""
        limit = self._kernel.config.roles[claim.role].max_budget
        if limit is not None:
            spent = self._kernel.store.db.value("SELECT cost_micros FROM tasks WHERE id = ?", claim.task)
            limit = MicroUSD(max(0, limit - spent))
        if self._auth.kind != "inherit":
            return limit
        cap, left = self._caps.tightest(claim.role)
        if limit is None or left < limit:
            self.by_attempt[claim.attempt].refused = (cap, 1)
            return left
        return limit

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
        self._prices = watched(self._kernel.config, self._kernel.places)
        self._workspaces.reload()
        self._gateway.reload()

    def check(self, config: ProducerConfig) -> None:
        """Whether a configuration can be taken over. Raises ConfigError, PricingError."""
        check_models(config, self._kernel.places, self._auth)
        check_workspaces(config)

    # ---- what workers say

    def started(self, peer: Peer, message: Started) -> None:
        """A run has begun."""
        run = self.by_attempt.get(message.attempt)
        if run is None or run.worker != peer.name:
            return
        if self._kernel.store.attempts.started(message.attempt, message.session_id, message.resumed, message.note):
            run.started = run.noted = True
            run.deadline = self._deadline(run.role)
            self._kernel.tell(
                "attempt.started", role=run.role, task=run.task, attempt=run.attempt, title=run.title, note=message.note
            )

    def progress(self, peer: Peer, message: Progress) -> None:
        """A run goes on. Tool calls get an audit row each; the rest is for whoever watches."""
        run = self.by_attempt.get(message.attempt)
        if run is None or run.worker != peer.name:
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
        elif message.kind == "usage" and not run.metered:
            run.streamed += self._priced({str(data.get("model")): data})
        self._kernel.tell(f"progress.{message.kind}", role=run.role, task=run.task, attempt=run.attempt, **data)

    def result(self, peer: Peer, message: Result) -> None:
        """A run ended, by its worker's word."""
        run = self.by_attempt.get(message.attempt)
        if run is None:
            self._stale(peer, message)
            return
        if peer.kind != "worker" or peer.role != run.role or peer.name != run.worker:
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
            run.started |= self._workers.last_runs.get(run.worker) == attempt  # its last word may not have left it
            run.silent = run.started
            if cancelled or not run.started:
                found = Result(attempt=attempt, task=run.task, outcome="cancelled", error=cancelled or why)
            else:
                error = "it passed its deadline and was killed" if late else why
                found = Result(attempt=attempt, task=run.task, outcome="lost", error=error)
        self._conclude(run, found)

    def undeliverable(self, attempt: str, why: str) -> None:
        """A task that does not fit into a message: no retry would help."""
        run = self.by_attempt.get(attempt)
        if run and run.result is None:
            self._conclude(run, Result(attempt=attempt, task=run.task, outcome="permanent", error=why))

    def _from_outbox(self, run: Run) -> Result | None:
        try:
            return read(self._kernel.places.outboxes / run.worker / LOG).results.get(run.attempt)
        except OSError:
            return None

    def _stale(self, peer: Peer, message: Result) -> None:
        """A result for an attempt that is settled: acknowledge it, so that the worker forgets it too.

        Its outcome comes too late, its cost does not, where nothing was booked for the attempt before.
        """
        store = self._kernel.store
        row = store.db.one("SELECT worker, role FROM attempts WHERE id = ?", message.attempt)
        if row:
            store.attempts.stale(message.attempt, message.outcome)
        if row and row[0] == peer.name and message.cost and not self._auth.metered:
            self._book(message.attempt, row[1], message.cost, "invoker", message.usage)
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
            None if run.noted else result.session_id,  # its Started was lost, comes behind the result, or was not sent
        )  # fmt: skip
        after = store.attempts.settle(known, settlement, ending)
        if after is TaskState.DONE:
            self._workspaces.done(run.task, run.attempt)
        self.survivors += result.survivors
        if result.survivors:
            self._kernel.audit("survivors", task=run.task, attempt=run.attempt, count=result.survivors)
        if settlement.failed:
            self._failed(run.role)
        if settlement.throttle_until is not None:
            self._caps.throttle(run.role, settlement.throttle_until, result.error or "the model API asked us to wait")
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
            later: float | None = self._kernel.store.db.now + BUDGET_PAUSE
            shared = cap == "project" or cap.startswith("role ")
            if shared or (run.refused and self._caps.comes_back(cap, run.role, run.task, run.root, floor)):
                later = None if shared and self._caps.refuse(cap, run.role, floor) else later
                return Settlement(AttemptEvent.CANCELLED, TaskEvent.INTERRUPTED, known.retry_count, not_before=later)
            reason = f"{cap} has spent its own budget: {result.error or ''}"
            return Settlement(AttemptEvent.CANCELLED, TaskEvent.EXHAUSTED, known.retry_count, reason=reason)
        role = self._kernel.config.roles.get(run.role)
        policy = RetryPolicy(role.retry.max, role.retry.base_seconds, role.retry.cap_seconds) if role else RetryPolicy()
        stopped = known.cancel is not None and result.outcome in STOPPED_AS
        return settle(
            "cancelled" if stopped else result.outcome, retry_count=known.retry_count, policy=policy,
            now=self._kernel.store.db.now, jitter=self._kernel.jitter(), until=result.until, error=result.error,
        )  # fmt: skip

    def _charge(self, run: Run, result: Result) -> None:
        """Book a run whose requests no gateway metered: what it reported, else the most that is known of it."""
        amount, source = result.cost or 0, "invoker"
        if result.cost is None:
            counted = {model: used.model_dump() for model, used in result.usage.items()}
            amount, source = max(run.streamed, self._priced(counted)), "stream"
        if run.silent and not amount:
            hold = self._kernel.store.accounts.hold(run.attempt)
            amount, source = (hold[1] if hold else 0), "hold"
        if amount:
            self._book(run.attempt, run.role, amount, source, result.usage)

    def _book(self, attempt: str, role: str, amount: int, source: str, used: Mapping[str, Usage]) -> None:
        """Book an attempt whose requests no gateway metered, once."""
        tokens: dict[str, int] = {}
        for usage in used.values():
            for name, value in usage.model_dump().items():
                tokens[name] = tokens.get(name, 0) + value
        model = next(iter(used), self._kernel.options.invoker)
        cost = Cost(attempt, attempt, model, MicroUSD(amount), source, source == "invoker", tokens)
        if self._kernel.store.attempts.book(cost):
            self._caps.spent(role, amount)

    def _priced(self, usage: Mapping[str, Mapping[str, Any]]) -> int:
        """Token counts by model at the table's prices, in micro-dollars. What has no price counts nothing here."""
        prices, total = self._prices.table(), 0
        for model, counts in usage.items():
            with suppress(UnknownModel, ValueError):
                known = {name: counts[name] for name in Usage.model_fields if name in counts}
                total += prices.lookup(model).cost_of(Usage(**known))
        return total

    def _recall_failures(self) -> None:
        """The failures that a supervisor before this one counted, as far as no human has looked since."""
        config, db = self._kernel.config.failure_burst, self._kernel.store.db
        seen = db.value(
            "SELECT max(json_extract(CAST(body AS TEXT), '$.at')) FROM audit WHERE action IN"
            " ('kill_switch_armed_by_producer', 'kill_switch_disarmed', 'kill_switch_released')"
        )
        for role, finished in db.rows(
            "SELECT role, finished_at FROM attempts WHERE state IN ('failed', 'lost') AND finished_at > ?"
            " ORDER BY finished_at",
            max(seen or "", iso(db.now - config.window_seconds)),
        ):
            self._failures[role] = (*self._failures[role], from_iso(finished))[-config.count :]

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
        self._kernel.notify("escalation", f"a task of {role} needs you", f"{task}: {reason}"[:500], push=task)

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
        """A worker (re)connected and says what it has."""
        for attempt in self.compare(worker, running, outbox):
            run = self.by_attempt[attempt]
            run.started = True
            worker.attempts.setdefault(attempt, run.begun)
            row = self._kernel.store.db.one("SELECT session_id, cancel FROM attempts WHERE id = ?", attempt)
            if row and not run.noted:
                run.noted = self._kernel.store.attempts.started(attempt, row[0], False, None)
            if row and row[1]:  # who asked may have died before the worker heard of it
                self.stop(attempt, row[1], 2.0)

    def compare(self, worker: Worker, running: list[str], outbox: list[str]) -> set[str]:
        """A worker says what it has: what it should have and has not never reached it. What both of us say it runs."""
        known = {run.attempt for run in self.by_attempt.values() if run.worker == worker.id}
        for attempt in (known & worker.asked) - set(running) - set(outbox):
            self.by_attempt[attempt].started = False
            self.lost(attempt, "it did not reach its worker")
        for attempt in set(running) - known:
            self._kernel.send("tasks", worker.address, Cancel(attempt=attempt, reason="stale", grace_seconds=1.0))
        return known & set(running)

    def escalated_by_agent(self, run: Running, reason: str) -> None:
        """An agent asked for a human: its run may end by itself, its task waits."""
        self._escalated(run.task, run.role, reason)

    def cost(self, run: Run) -> MicroUSD:
        """What a run has cost so far, as far as it is known."""
        known = self._kernel.store.attempts.running(run.attempt)
        return MicroUSD(max(known.cost if known else 0, run.streamed))

    def live(self) -> list[tuple[str, str, str, str, bool]]:
        """(attempt, role, task, title, has ended) of every run, for the gateway."""
        return [(r.attempt, r.role, r.task, r.title, r.result is not None) for r in self.by_attempt.values()]

    def refused(self, attempt: str, cap: str, floor: int) -> None:
        """The gateway was told that a cap does not afford a run's next request."""
        run = self.by_attempt.get(attempt)
        if run:
            run.refused = (cap, floor)
