"""The worker processes: starting, adopting, watching, restarting, ending.

1. The ledger says how many workers a role should have; ``converge`` closes the gap, one start or drain at a time.
2. A worker is known by the ULID of its process start, which is its key's name and its socket's identity. It is adopted
   when it says HELLO under that key, whoever started it: so a new supervisor takes over the fleet of a dead one.
3. Only three things end a worker: it exits (its pidfd says so), an operator, or a deadline. Silence makes it suspect.
4. An unexpected exit is answered by the restart policy; too many park the role and tell a human.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from producer.core.fleet import DrainWorker, Start, WorkerState, WorkerView, plan
from producer.core.restart import Park, RestartPolicy, on_exit
from producer.ids import new_id
from producer.reaper import PROJECT_MARKER, Family, end, marked
from producer.supervisor.kernel import Child, Foreign, Kernel
from producer.supervisor.nursery import Nursery
from producer.version import __version__
from producer.wire.auth import Peer
from producer.wire.messages import Cancel, Drain, Hello, Ping, Ready, Refuse, Welcome

PING_AFTER = 5.0
SUSPECT_AFTER = 30.0
START_LIMIT = 120.0
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR", "USER", "LOGNAME", "SHELL",
                  "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "STATE_DIRECTORY", "RUNTIME_DIRECTORY", "PYTHONPATH",
                  "LD_PRELOAD", "CLAUDE_CONFIG_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR")  # fmt: skip


@dataclass
class Worker:
    """One worker process, as far as this supervisor knows it. Times are monotonic seconds."""

    id: str
    role: str
    slot: int
    child: Child
    started: float
    pidfd: int | None = None
    connected: bool = False
    ready: bool = False
    draining: bool = False
    ending: bool = False
    left: bool = False  # it said so, and may still wait for acknowledgements
    capacity: int = 0
    heard: float = 0.0
    attempts: dict[str, float] = field(default_factory=dict)
    asked: frozenset[str] = frozenset()  # what it should know of, when it says next what it has

    @property
    def pid(self) -> int:
        """Its process."""
        return self.child.pid

    @property
    def address(self) -> bytes:
        """Where messages to it go."""
        return self.id.encode()

    @property
    def free(self) -> int:
        """How many more tasks it can take now."""
        if not (self.connected and self.ready) or self.draining or self.ending or self.left:
            return 0
        return max(0, self.capacity - len(self.attempts))

    def state(self, now: float) -> WorkerState:
        """What `status` shows."""
        if self.draining or self.ending:
            return WorkerState.DRAINING
        if not self.ready:
            return WorkerState.STARTING
        if now - self.heard > SUSPECT_AFTER:
            return WorkerState.SUSPECT
        return WorkerState.BUSY if self.attempts else WorkerState.IDLE


class Workers:
    """The fleet."""

    def __init__(self, kernel: Kernel, policy: RestartPolicy | None = None) -> None:
        self._kernel = kernel
        self._policy = policy or RestartPolicy()
        self.nursery = Nursery(kernel)
        self.by_id: dict[str, Worker] = {}
        self._exits = select.poll()
        self.survivors = 0
        self.last_runs: dict[str, str | None] = {}  # the attempt that a worker which we found dead was in
        self._history: dict[str, tuple[float, ...]] = {}
        self._resting: dict[tuple[str, int], float] = {}

    # ---- who is there

    def of_role(self, role: str) -> list[Worker]:
        """A role's workers, by slot."""
        return sorted((w for w in self.by_id.values() if w.role == role), key=lambda w: w.slot)

    def adopt_registered(self) -> None:
        """Find the living workers of a supervisor before this one, from the files that they keep."""
        for path in self._kernel.places.workers.glob("*.json"):
            try:
                data = json.loads(path.read_text())
                ident, role, slot = str(data["worker"]), str(data["role"]), int(data["slot"])
                process = psutil.Process(int(data["pid"]))
                alive = abs(process.create_time() - float(data["pid_start"])) < 1.5
                alive = alive and process.status() != psutil.STATUS_ZOMBIE  # an init that reaps nothing
            except (OSError, ValueError, KeyError, TypeError, psutil.Error):
                alive = False
            if not alive:
                self._bury(path)
                self._kernel.keys.revoke(path.stem)
                continue
            self._add(Worker(ident, role, slot, Foreign.of(process.pid), self._kernel.monotonic()))
        for name in self._kernel.keys.names():
            if name not in self.by_id and name not in ("operator", "gateway"):
                self._kernel.keys.revoke(name)

    def _bury(self, path: Path) -> None:
        """A dead worker's file says what it was running, and goes."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            self.last_runs[path.stem] = json.loads(path.read_text())["attempt"]
        path.unlink(missing_ok=True)

    def hello(self, peer: Peer, message: Hello) -> Worker | None:
        """A worker says who it is; None where it may not take part."""
        kernel = self._kernel
        if peer.kind != "worker" or peer.name != message.worker or peer.role != message.role:
            kernel.send("tasks", message.worker.encode(), Refuse(reason="the key is another worker's"))
            return None
        worker = self.by_id.get(message.worker)
        if worker is None:
            ours = marked(PROJECT_MARKER).get(kernel.places.key, ())
            if message.pid not in ours:  # it would be ended with its worker
                kernel.send("tasks", message.worker.encode(), Refuse(reason="its process is not one of this project"))
                return None
            process = Foreign.of(message.pid)
            worker = Worker(message.worker, message.role, message.slot, process, kernel.monotonic())
            if not self._add(worker):
                return None
        # A second greeting (the first Welcome was lost) may have crossed with a task: only a Pong tells then.
        worker.asked = frozenset() if worker.connected else frozenset(worker.attempts)
        worker.connected, worker.heard = True, kernel.monotonic()
        kernel.send("tasks", worker.address, Welcome(supervisor=kernel.id, version=__version__))
        role = kernel.config.roles.get(worker.role)
        if message.running and role:
            worker.ready, worker.capacity = True, role.prefetch
        if worker.draining or role is None:
            worker.draining = True
            kernel.send("tasks", worker.address, Drain())
        return worker

    def heard(self, ident: str) -> Worker | None:
        """Any message is a sign of life."""
        worker = self.by_id.get(ident)
        if worker:
            worker.heard = self._kernel.monotonic()
        return worker

    def ready(self, ident: str, message: Ready) -> None:
        """A worker can take tasks; its capacity is what it first announces, at most what its role fetches ahead."""
        worker = self.by_id.get(ident)
        if worker and worker.connected:
            role = self._kernel.config.roles.get(worker.role)
            worker.capacity = max(worker.capacity, min(message.free, role.prefetch if role else 1), 1)
            worker.ready = True

    def bye(self, ident: str) -> None:
        """A worker leaves: a task that it was sent now would only come back."""
        if worker := self.by_id.get(ident):
            worker.left = True

    def _add(self, worker: Worker) -> bool:
        try:
            worker.pidfd = os.pidfd_open(worker.pid)
        except ProcessLookupError:
            return False
        except OSError:
            worker.pidfd = None
        worker.heard = self._kernel.monotonic()
        self.by_id[worker.id] = worker
        if worker.pidfd is not None:
            self._exits.register(worker.pidfd, select.POLLIN)
            self._kernel.server.watch(worker.pidfd)
        return True

    # ---- closing the gap

    def converge(self, desired: dict[str, int]) -> None:
        """Start and drain what brings every role to its number."""
        now = self._kernel.monotonic()
        self._resting = {place: at for place, at in self._resting.items() if at > now}
        staying = Counter(worker.role for worker in self.by_id.values() if not (worker.draining or worker.ending))
        for role in {*desired, *staying}:
            if staying[role] == desired.get(role, 0):
                continue
            views = [WorkerView(w.id, w.slot, w.state(now)) for w in self.of_role(role)]
            resting = [slot for (name, slot) in self._resting if name == role]
            for action in plan(desired.get(role, 0), views, resting):
                match action:
                    case Start(slot):
                        self.start(role, slot)
                    case DrainWorker(ident):
                        self.drain(self.by_id[ident])
        self.nursery.rest()

    def start(self, role: str, slot: int) -> None:
        """Start one worker process, in a session of its own, once that can be done."""
        if not self.nursery.ready(env := self.environment()):
            return
        kernel, ident = self._kernel, new_id()
        kernel.keys.issue(Peer("worker", ident, role))
        command = [
            sys.executable, "-P", "-m", "producer.workers", "--ledger", str(kernel.places.ledger), "--role", role,
            "--slot", str(slot), "--worker", ident, "--invoker", kernel.options.invoker,
            "--kill-switch", str(kernel.config.kill_switch), "--project-root", str(kernel.config.project_root),
            "--prefetch", str(kernel.config.roles[role].prefetch),
            "--orphan-seconds", str(kernel.config.orphan_seconds),
        ]  # fmt: skip
        log = kernel.places.workers / f"{ident}.log"
        child = self.nursery.launch(command, env, log)
        if child is None:
            kernel.keys.revoke(ident)
            return
        worker = Worker(ident, role, slot, child, kernel.monotonic())
        self._add(worker)
        kernel.tell("worker_started", role=role, worker=ident, pid=child.pid)

    def environment(self) -> dict[str, str]:
        """What a worker process sees of ours: no key, no token, nothing that is not named here."""
        inherited = self._kernel.env
        clean = {name: inherited[name] for name in KEPT_VARIABLES if name in inherited}
        clean |= {name: value for name, value in inherited.items() if name.startswith("LC_")}
        clean |= {name: value for name, value in inherited.items() if name.startswith("FAKETIME")}
        return {**clean, PROJECT_MARKER: self._kernel.places.key}

    def drain(self, worker: Worker) -> None:
        """Let it finish what it has, and leave."""
        if not worker.draining:
            worker.draining = True
            self._kernel.send("tasks", worker.address, Drain())

    # ---- watching and ending

    def gone(self) -> list[Worker]:
        """Workers whose process has exited; they are forgotten here, and their files go."""
        exited = {descriptor for descriptor, _ in self._exits.poll(0)}  # one question for all of them
        dead = [
            worker
            for worker in self.by_id.values()
            if worker.pidfd in exited or (worker.pidfd is None and not self.alive(worker))
        ]
        for worker in dead:
            self._forget(worker)
        return dead

    def ended(self, worker: Worker) -> None:
        """Decide whether the place of a worker that exited is filled again."""
        kernel = self._kernel
        self.last_runs.pop(worker.id, None)
        if worker.draining or worker.ending:
            return
        now = kernel.monotonic()
        history = self._history.get(worker.role, ())
        decision = on_exit(history, self._policy, worker.started, now, kernel.jitter())
        self._history[worker.role] = decision.history
        kernel.audit("worker_exited", role=worker.role, worker=worker.id, log=str(self._log_tail(worker)))
        if isinstance(decision, Park):
            reason = f"its workers exited {len(decision.history)} times in a short while"
            if kernel.store.roles.set_state(worker.role, "failed", reason=reason):
                kernel.notify("role_parked", f"role {worker.role} is parked", f"{reason}: see `producerctl doctor`, "
                              f"then `producerctl role reset {worker.role}`")  # fmt: skip
        else:
            self._resting[worker.role, worker.slot] = decision.at

    def reset(self, role: str) -> None:
        """Forget a role's bad exits."""
        self._history.pop(role, None)
        self._resting = {place: at for place, at in self._resting.items() if place[0] != role}

    def ping(self) -> None:
        """Ask those that have been silent for a while."""
        now = self._kernel.monotonic()
        for worker in self.by_id.values():
            if worker.connected and now - worker.heard > PING_AFTER:
                worker.asked = frozenset(worker.attempts)
                self._kernel.send("tasks", worker.address, Ping())
                if worker.draining:
                    self._kernel.send("tasks", worker.address, Drain())  # the first may not have reached it
            if not worker.ready and now - worker.started > START_LIMIT:
                self.kill(worker)

    def cancel(self, worker: Worker, attempt: str, reason: str, grace: float) -> None:
        """Have one attempt stopped by the worker's own ladder."""
        self._kernel.send("tasks", worker.address, Cancel(attempt=attempt, reason=reason, grace_seconds=grace))

    def kill(self, worker: Worker) -> None:
        """End a worker and everything below it, now. Its exit is then seen like any other."""
        self._kernel.after.append(lambda: self._count(self.end_tree(worker, 0.0)))

    def _count(self, survivors: int) -> None:
        self.survivors += survivors

    def end_tree(self, worker: Worker, grace: float) -> int:
        """End a worker process and all its descendants; how many survive."""
        entries = tuple(f"AI_PRODUCER_ATTEMPT={attempt}" for attempt in worker.attempts)
        if worker.pidfd is not None and grace == 0.0:
            _signal(worker.pidfd, signal.SIGSTOP)
        swept = end(Family(worker.pid, entries), grace=grace, limit=3.0)
        if worker.pidfd is not None:
            _signal(worker.pidfd, signal.SIGKILL)
        return swept.survivors

    def forget_all(self) -> None:
        """The fleet is dismissed: no key, file or descriptor of it stays."""
        for worker in list(self.by_id.values()):
            self._forget(worker)
            (self._kernel.places.workers / f"{worker.id}.log").unlink(missing_ok=True)

    def let_go(self) -> None:
        """Close what is held of workers who go on without us, for whoever comes after us finds them by their files."""
        for worker in self.by_id.values():
            if worker.pidfd is not None:
                os.close(worker.pidfd)
        self.by_id.clear()

    def alive(self, worker: Worker) -> bool:
        """Whether its process still runs."""
        return worker.child.poll() is None

    def _forget(self, worker: Worker) -> None:
        self.by_id.pop(worker.id, None)
        if worker.pidfd is not None:
            self._exits.unregister(worker.pidfd)
            self._kernel.server.unwatch(worker.pidfd)
            os.close(worker.pidfd)
            worker.pidfd = None
        worker.child.poll()  # takes its exit status, which nobody else asks for
        self._kernel.keys.revoke(worker.id)
        self._bury(self._kernel.places.workers / f"{worker.id}.json")

    def _log_tail(self, worker: Worker) -> str:
        path: Path = self._kernel.places.workers / f"{worker.id}.log"
        try:
            return path.read_text(errors="replace")[-400:].strip()
        except OSError:
            return ""
        finally:
            path.unlink(missing_ok=True)


def _signal(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, AttributeError):
        return
