"""The loop: read what came in, decide, commit once, send. One thread, one poller, no waiting anywhere else.

A turn is: drain the sockets, the signals and the pidfds; let each part act on the ledger inside one transaction;
dispatch; commit; let out what was put into ``after``. A commit that fails ends the loop with LedgerError; whoever runs
it builds a new one from the ledger, and the workers, who keep their results until they are acknowledged, come back.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections import deque
from typing import Any

from producer import git, project
from producer.core.schedule import RoleState
from producer.errors import ProducerError
from producer.ledger.roles import PROJECT
from producer.ledger.standing import waiting
from producer.ledger.views import Reader
from producer.reaper import ATTEMPT_MARKER, Family, end, reap_orphans
from producer.supervisor import powercut
from producer.supervisor.auth import Auth
from producer.supervisor.brake import Brake
from producer.supervisor.caps import Caps, role_state
from producer.supervisor.control import Control
from producer.supervisor.courier import Courier
from producer.supervisor.dispatch import Dispatch
from producer.supervisor.gateway import Gateway
from producer.supervisor.idle import Idleness
from producer.supervisor.journal import Journal
from producer.supervisor.kernel import Kernel
from producer.supervisor.logins import Logins
from producer.supervisor.prices import Prices
from producer.supervisor.reports import Reports
from producer.supervisor.router import Router
from producer.supervisor.run import Run
from producer.supervisor.runs import Runs
from producer.supervisor.schedule import Schedule
from producer.supervisor.status import status
from producer.supervisor.suspects import Suspects
from producer.supervisor.systemd import Notifier, restarting, status_line
from producer.supervisor.wallclock import WallClock
from producer.supervisor.witness import Witness
from producer.supervisor.workers import Worker, Workers
from producer.supervisor.workspaces import Workspaces
from producer.version import __version__

log = logging.getLogger("producer.supervisor")
TURN = 0.25
LAST_WORDS = 3.0
LISTENER_SECONDS = 1.0
FEWEST = 64  # messages of a socket that a turn takes at least, if they are there


class Loop:
    """One run of the supervisor over one ledger connection."""

    def __init__(
        self, kernel: Kernel, auth: Auth, signals: deque[int], wake_fd: int, notifier: Notifier, suspects: Suspects
    ) -> None:
        self._kernel, self._auth, self._notifier = kernel, auth, notifier
        self._signals, self._wake_fd = signals, wake_fd
        self._caps = Caps(kernel)
        self._workers = Workers(kernel)
        self._gateway = Gateway(kernel, self._caps, auth)
        self._workspaces = Workspaces(kernel)
        parts = (kernel, self._workers, self._gateway, self._caps, auth, self._workspaces)
        by_attempt: dict[str, Run] = {}
        self._dispatch, self._runs = Dispatch(*parts, by_attempt), Runs(*parts, by_attempt)
        self._brake = Brake(kernel, self._runs, self._workers)
        self._control = Control(kernel, self._workers, self._dispatch, self._runs, self._brake)
        self._router = Router(kernel, suspects, self._workers, self._dispatch, self._runs, self._gateway, self._control)
        self._courier = Courier(lambda: kernel.config, kernel.places, kernel.env, self._workspaces.deliver)
        self._idleness, self._reports, self._prices = Idleness(kernel), Reports(kernel), Prices(kernel)
        self._schedule = Schedule(kernel)
        self._witness, self._wall_clock = Witness(kernel), WallClock(kernel)
        self._logins = Logins(kernel, auth)
        self._reader = Reader(kernel.places.ledger)
        self._gateway.live, self._gateway.on_refused = self._runs.live, self._runs.refused
        self._control.status = self._status
        self._control.leave = self.leave
        self._control.report = self._reports.ask
        self._leaving: str | None = None
        self._leave_by = 0.0
        self._day = ""
        self._next_housekeeping = 0.0
        self._next_watchdog = 0.0
        self._escalated_before = 0
        kernel.server.watch(wake_fd)
        self._journal = Journal(kernel.env)
        if self._journal.there:
            self._published, kernel.store.audit.listener = kernel.store.audit.listener, self._audited

    # ---- from start to end

    def run(self) -> str:
        """Run until somebody says stop or restart, or `--once` has nothing left; returns which."""
        self._begin()
        try:
            while not self._finished():
                self._turn(self._kernel.server.wait(self._patience()))
            return self._leaving or "stop"
        finally:
            self._workers.nursery.close()
            self._courier.stop()
            self._reader.close()
            self._control.close()

    def _begin(self) -> None:
        kernel, config = self._kernel, self._kernel.config
        self._await_listener()
        with kernel.store.transaction():
            self._witness.begin()
            desired = {name: kernel.options.workers.get(name, role.workers) for name, role in config.roles.items()}
            before = kernel.options.before
            kernel.store.roles.declare({PROJECT: 0, **desired}, keep_scale=before is not None)
            for name, count in desired.items():
                if before is not None and before.get(name, count) != count:
                    kernel.store.roles.scale(name, count, kernel.options.actor)
            for row in kernel.store.roles.all().values():
                if row.state in ("failed", "draining"):
                    kernel.store.roles.set_state(row.role, "ok", reason="the supervisor started")
            action = "producer_boot_once" if kernel.options.once else "producer_boot"
            kernel.audit(
                action, actor=kernel.options.actor, pid=os.getpid(), version=__version__, config=config.sha256,
                auth=self._auth.mode, invoker=kernel.options.invoker,
            )  # fmt: skip
            if warning := self._auth.warning:
                kernel.notify("auth", "how agents authenticate", warning)
                kernel.after.append(lambda: log.warning(warning))
            powercut.settle(kernel)
            self._gateway.adopt()
            self._workers.adopt_registered()
            kernel.store.queue.count_all()
            self._runs.recover()
            self._dispatch.standby.recover()
            self._schedule.tend()
            self._escalated_before = self._escalations()
        kernel.flush()
        self._sweep()
        self._courier.start()
        project.note(config, kernel.places)
        gc.freeze()  # what is there now stays; to look through it again and again took 4 % of the time
        self._notifier.tell("READY=1", f"STATUS=serving {config.project_name}")

    def _await_listener(self) -> None:
        """Whoever watches this run is let in before there is something to see; not for long, for it may have failed."""
        kernel = self._kernel
        until = kernel.monotonic() + (LISTENER_SECONDS if kernel.options.watched else 0.0)
        while not (heard := kernel.server.listeners()) and kernel.monotonic() < until:
            kernel.server.wait(0.01)
        kernel.listened = heard

    def leave(self, how: str) -> None:
        """Begin to stop (everyone goes), to restart, or to hand over to a new process (the fleet stays)."""
        if self._leaving is None:
            self._leaving = how
            self._leave_by = self._kernel.monotonic() + self._kernel.config.shutdown_grace_seconds
            self._notifier.tell("RELOADING=1" if how == "restart" else "STOPPING=1")

    def _finished(self) -> bool:
        if self._leaving in ("restart", "handover"):
            return True
        if self._leaving == "stop":
            late = self._kernel.monotonic() > self._leave_by + LAST_WORDS
            return late or not (self._runs.by_attempt or self._told_left())
        if self._kernel.options.once and self._idle():
            self.leave("stop")
        return False

    def _told_left(self) -> bool:
        return self._kernel.options.once and self._kernel.store.outbox.untried(self._kernel.clock())

    def _idle(self) -> bool:
        """Nothing runs, and nothing is ready or will be by itself soon."""
        if self._runs.by_attempt:
            return False
        if self._brake.state.armed:
            return True
        if self._workspaces.busy():
            return False
        for name, row in self._kernel.store.roles.all().items():
            if role_state(row) is RoleState.OK and name != PROJECT and self._kernel.store.attempts.ready(name):
                return False
        return not self._kernel.store.db.one(
            "SELECT 1 FROM tasks JOIN roles ON role = agent_owner WHERE status = 'pending' AND not_before IS NOT NULL"
            " AND roles.state = 'ok' AND declared = 1 LIMIT 1"
        )

    def escalations(self) -> int:
        """How many tasks were escalated in this run."""
        return self._escalations() - self._escalated_before

    def _escalations(self) -> int:
        return int(self._kernel.store.db.value("SELECT count(*) FROM audit WHERE action = 'escalation'"))

    # ---- one turn

    def _patience(self) -> float:
        due = self._kernel.store.queue.next_due()
        return TURN if due is None else min(TURN, max(0.0, due - self._kernel.clock()))

    def _turn(self, readable: set[int]) -> None:
        kernel = self._kernel
        kernel.listened = kernel.server.listeners()
        # Half of what runs, so that workers have the other half to do while this half is settled.
        arrived = list(kernel.server.receive(max(FEWEST, len(self._runs.by_attempt) // 2)))
        with kernel.store.transaction():
            self._wall_clock.look()
            self._heed_signals(readable)
            self._router.handle_all(arrived)
            self._heed_exits()
            self._brake.look()
            self._tend()
            if self._leaving == "stop":
                self._stop_everything()
            elif self._brake.state.now:
                self._dispatch.standby.dismiss()
            elif not self._brake.state.armed and self._leaving is None:
                kernel.store.queue.release_due()
                self._workers.converge(self._desired())
                self._dispatch.dispatch()
            self._courier.collect(kernel)
            self._witness.tend()
        kernel.flush()
        self._courier.wake(kernel.store.outbox)

    def _heed_signals(self, readable: set[int]) -> None:
        if self._wake_fd in readable:
            os.read(self._wake_fd, 4096)
        while self._signals:
            number = self._signals.popleft()
            if number == signal.SIGHUP:
                self._reload()
            else:
                self._kernel.audit("signal", number=number)
                self.leave("handover" if number == signal.SIGTERM and restarting(self._kernel.env) else "stop")

    def _reload(self) -> None:
        try:
            self._control.reload("SIGHUP")
        except ProducerError as error:
            self._kernel.audit("reload_refused", problem=str(error))

    def _heed_exits(self) -> None:
        dead = self._workers.gone()
        for worker in dead:
            for attempt in list(worker.attempts):
                self._runs.lost(attempt, "its worker exited")
            if self._leaving is None:
                self._workers.ended(worker)
        if dead:
            self._kernel.after.append(lambda: self._sweep(dead))

    def _tend(self) -> None:
        kernel = self._kernel
        self._gateway.tend()
        self._runs.overdue()
        self._caps.look()
        while kernel.undeliverable:
            self._runs.undeliverable(*kernel.undeliverable.popleft())
        while self._runs.failures.burst_roles:
            self._brake.burst(self._runs.failures.burst_roles.pop())
        self._idleness.look(stopped=self._brake.state.armed or self._leaving is not None)
        now = kernel.monotonic()
        if self._notifier.interval and now >= self._next_watchdog:
            self._next_watchdog = now + self._notifier.interval
            kernel.after.append(lambda: self._notifier.tell("WATCHDOG=1"))
        if now < self._next_housekeeping:
            return
        self._next_housekeeping = now + 1.0
        self._workers.ping()
        self._runs.complaints.tend()
        self._gateway.review()
        self._reports.tend()
        self._schedule.tend()
        self._workspaces.tend()
        self._prices.tend()
        self._logins.tend()
        if self._notifier.heard:
            waits = waiting(kernel.store.db)
            kernel.after.append(lambda: self._notifier.tell(status_line(self._status(True), waits)))
        if (today := kernel.store.accounts.today()) != self._day:
            self._day = today
            self._caps.declare()

    def _desired(self) -> dict[str, int]:
        rows = self._kernel.store.roles.all()
        return {
            name: 0 if row.state in ("failed", "draining") else row.desired
            for name, row in rows.items()
            if name in self._kernel.config.roles
        }

    def _stop_everything(self) -> None:
        grace = max(0.2, self._leave_by - self._kernel.monotonic())
        if any(run.stop_by is None and run.result is None for run in self._runs.by_attempt.values()):
            self._runs.stop_all("the supervisor stops", max(0.2, grace - 1.5))
        for worker in self._workers.by_id.values():
            if not worker.attempts:
                self._workers.drain(worker)

    # ---- the end of it

    def dismiss(self) -> int:
        """End every worker and the gateway after the loop; how many processes survived (0)."""
        kernel, survivors = self._kernel, 0
        for worker in self._workers.by_id.values():
            worker.ending = True
            self._workers.drain(worker)
        kernel.flush()
        deadline = kernel.monotonic() + 2.0
        while any(self._workers.alive(w) for w in self._workers.by_id.values()) and kernel.monotonic() < deadline:
            kernel.server.wait(0.02)
            for _ in kernel.server.receive():
                pass  # last words; what matters of them is in an outbox
        for worker in list(self._workers.by_id.values()):
            survivors += self._workers.end_tree(worker, 0.0)
        survivors += self._gateway.stop()
        with kernel.store.transaction():
            self._workers.forget_all()
            self._dispatch.standby.recover()
            self._runs.complaints.tend(leaving=True)
            kernel.audit("producer_shutdown", survivors=survivors)
        kernel.flush()
        return survivors

    def let_go(self) -> None:
        """This loop is over; the fleet may not be."""
        self._workers.let_go()
        gc.unfreeze()  # what stays for good is the next loop's

    def seal(self, how: str) -> None:
        """The last words are written: sign them."""
        self._witness.end(stop=how == "stop")

    def _sweep(self, dead: list[Worker] | None = None) -> None:
        """End what a dead worker left behind: orphans that came to us, and holders of its attempts' marks."""
        known = frozenset(
            pid
            for pid in (*(w.pid for w in self._workers.by_id.values()), self._gateway.pid, self._workers.nursery.pid)
            if pid is not None
        )
        entries = tuple(f"{ATTEMPT_MARKER}={attempt}" for worker in dead or [] for attempt in worker.attempts)
        with git.still() as ours:
            end(Family(os.getpid(), entries, spare=known | ours), limit=2.0)
            reap_orphans(known | ours)

    def _audited(self, body: dict[str, Any]) -> None:
        if self._published:
            self._published(body)
        if body.get("task"):
            self._kernel.after.append(lambda: self._journal.send(body))

    def _status(self, brief: bool) -> dict[str, Any]:
        reader = None if brief else self._reader
        return status(self._kernel, self._workers, self._runs, self._gateway, self._brake.state, self._auth, reader)
