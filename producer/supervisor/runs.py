"""Attempts in flight: what workers say of them, and settling each once. How they begin: see dispatch.py.

1. Where the money goes through the gateway, an attempt is settled when the gateway has said that no request of it is
   open any more: until then its result waits, its hold stays, and the worker keeps the result.
2. What we did to a run (a kill, a stop, a deadline) is remembered at the attempt, so that a worker that dies under it
   is not taken for a failure of the task.
3. A run that vanished is charged the most that is known; where nothing is known, the full hold.
4. About an attempt, only the worker that it was given to is heard.
"""

from __future__ import annotations

from producer import killswitch
from producer.core.lifecycle import AttemptEvent, TaskEvent, TaskState
from producer.core.money import MicroUSD
from producer.core.retry import RetryPolicy, Settlement, settle
from producer.ledger.attempts import Ending
from producer.ledger.model import Running
from producer.ledger.operations import SCRIPT
from producer.supervisor.auth import Auth
from producer.supervisor.caps import Caps
from producer.supervisor.charges import Charges
from producer.supervisor.complaints import Complaints
from producer.supervisor.failures import Failures
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.run import Run, deadline
from producer.supervisor.workers import Worker, Workers
from producer.supervisor.workspaces import Workspaces
from producer.wire.auth import Peer
from producer.wire.messages import MOST, Cancel, Progress, Result, Started
from producer.wire.outbox import LOG, read

BUDGET_PAUSE = 30.0  # seconds before a task is tried again that a cap stopped for want of what others hold
STOPPED_AS = ("failed", "permanent", "lost")  # how a run may end that was asked to stop; none of it is its fault

OURS = ("self", "kind", "role", "task", "attempt")  # what an event says of a run is not for its worker to say


class Runs:
    """Runs inside the batch's transaction."""

    def __init__(
        self,
        kernel: Kernel,
        workers: Workers,
        gateway: Gateway,
        caps: Caps,
        auth: Auth,
        workspaces: Workspaces,
        by_attempt: dict[str, Run],
    ) -> None:
        self._kernel, self._workers, self._gateway, self._caps, self._auth = kernel, workers, gateway, caps, auth
        self._workspaces, self.by_attempt = workspaces, by_attempt
        self._charges, self.failures, self.complaints = Charges(kernel), Failures(kernel), Complaints(kernel)
        self.survivors = 0
        self.reload()

    def reload(self) -> None:
        """The configuration was replaced."""
        self._charges.reload()
        retries = {name: role.retry for name, role in self._kernel.config.roles.items()}
        self._policies = {name: RetryPolicy(r.max, r.base_seconds, r.cap_seconds) for name, r in retries.items()}

    # ---- from a supervisor to the next

    def recover(self) -> None:
        """Take up the attempts that a supervisor before this one left running."""
        now = self._kernel.monotonic()
        self.failures.recall()
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
                deadline(self._kernel.config, run.role, now, len(worker.attempts) if worker and not noted else 0),
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

    # ---- what workers say

    def started(self, peer: Peer, message: Started) -> None:
        """A run has begun."""
        run = self.by_attempt.get(message.attempt)
        if run is None or run.worker != peer.name:
            return
        if self._kernel.store.attempts.started(message.attempt, message.session_id, message.resumed, message.note):
            run.started = run.noted = True
            run.deadline = deadline(self._kernel.config, run.role, self._kernel.monotonic())
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
            run.streamed = min(MOST, run.streamed + self._charges.priced({str(data.get("model")): data}))
        said = {name: value for name, value in data.items() if name not in OURS}
        self._kernel.tell(f"progress.{message.kind}", role=run.role, task=run.task, attempt=run.attempt, **said)

    def result(self, peer: Peer, message: Result) -> None:
        """A run ended, by its worker's word."""
        run = self.by_attempt.get(message.attempt)
        if run is None:
            self._stale(peer, message)
            return
        if peer.kind != "worker" or peer.role != run.role or peer.name != run.worker:
            self.complaints.note("forged_result", peer.name, actor=peer.role or peer.kind, attempt=message.attempt)
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
        worker = store.db.value("SELECT worker FROM attempts WHERE id = ?", message.attempt)
        if worker and self.complaints.admits("stale_result", peer.name):
            store.attempts.stale(message.attempt, message.outcome)
        if worker == peer.name and message.cost and not self._auth.metered:
            self._charges.book(message.attempt, message.cost, "invoker", message.usage)
        self._kernel.acknowledge(peer.name.encode(), message.attempt)

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
            self._charges.charge(run, result)
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
            self.failures.count(run.role)
        if settlement.throttle_until is not None:
            self._caps.throttle(run.role, settlement.throttle_until, result.error or "the model API asked us to wait")
        if after is TaskState.ESCALATED and settlement.task is TaskEvent.EXHAUSTED:
            self._kernel.escalated(run.task, run.role, settlement.reason or "", audited=True)

    def _release(self, run: Run) -> None:
        del self.by_attempt[run.attempt]
        worker = self._workers.by_id.get(run.worker)
        if worker:
            worker.attempts.pop(run.attempt, None)
            self._kernel.acknowledge(worker.address, run.attempt)

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
        policy = self._policies.get(run.role) or RetryPolicy()
        stopped = known.cancel is not None and result.outcome in STOPPED_AS
        return settle(
            "cancelled" if stopped else result.outcome, retry_count=known.retry_count, policy=policy,
            now=self._kernel.store.db.now, jitter=self._kernel.jitter(), until=result.until, error=result.error,
        )  # fmt: skip

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
        self._kernel.escalated(run.task, run.role, reason)

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
