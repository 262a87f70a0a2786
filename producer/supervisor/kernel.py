"""What every part of the supervisor shares, and the rule that all of them keep: commit first, then send.

A part changes the ledger at once, inside the batch's transaction, and puts what has to leave the process (messages,
files, signals) into ``send`` and ``after``. The loop lets both out once the batch is committed. If the commit fails
nothing has left, and the loop is built anew from the ledger, as after a crash.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal, Protocol

from producer.config import ProducerConfig
from producer.core.guards import Limits
from producer.errors import WireError
from producer.ids import new_id
from producer.ledger.store import Store
from producer.places import Places
from producer.reaper import has_exited, runs
from producer.supervisor import notices
from producer.wire.auth import Keys
from producer.wire.messages import Ack, Event, Message, Reply, TaskMsg
from producer.wire.server import Server


class Child(Protocol):
    """A started process."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""


@dataclass
class Foreign:
    """A process that is no child of ours: forked by another, or left by the supervisor before this one. See Child.

    Without a ``pidfd``, where the system has none, it is looked up. The descriptor is closed with its last reference.
    """

    pid: int
    pidfd: FileIO | None
    gone: bool = False

    @classmethod
    def of(cls, pid: int) -> Foreign:
        """The process that has this pid now, if one has."""
        try:
            return cls(pid, FileIO(os.pidfd_open(pid)))
        except ProcessLookupError:
            return cls(pid, None, gone=True)
        except (AttributeError, OSError):
            return cls(pid, None)

    def poll(self) -> int | None:
        """None while it runs; how it ended is not known."""
        if not self.gone:
            self.gone = has_exited(self.pidfd.fileno()) if self.pidfd else not runs(self.pid)
        if self.gone and self.pidfd:
            self.pidfd.close()
        return -1 if self.gone else None


Channel = Literal["tasks", "control"]
Launch = Callable[[list[str], Mapping[str, str], Path], Child]


def spawn(command: list[str], env: Mapping[str, str], log: Path) -> Child:
    """Start a process in a session of its own, with its output in ``log``."""
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=log.parent,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@dataclass(frozen=True)
class RunOptions:
    """How `run` was called. ``invoker``: claude, echo or MODULE:NAME; ``rehearse``: the scripted model's script.

    ``launch`` starts worker processes. ``before``: this supervisor goes on where another left off, whose configuration
    named so many workers; the scale in the ledger then stands, but for roles whose number has changed since.
    ``watched``: somebody is about to listen to the events, and is waited for, so as to miss none.
    """

    once: bool = False
    rehearse: Path | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    invoker: str = "claude"
    actor: str = "operator"
    launch: Launch = spawn
    before: Mapping[str, int] | None = None
    watched: bool = False


class Kernel:
    """The supervisor's common ground."""

    def __init__(
        self,
        config: ProducerConfig,
        options: RunOptions,
        env: Mapping[str, str],
        places: Places,
        keys: Keys,
        store: Store,
        server: Server,
    ) -> None:
        self.config, self.options, self.env = config, options, env
        self.places, self.keys, self.store, self.server = places, keys, store, server
        self.id = new_id()
        self.clock: Callable[[], float] = time.time
        self.monotonic: Callable[[], float] = time.monotonic
        self.jitter: Callable[[], float] = random.random
        self.started = self.clock()
        self.after: deque[Callable[[], object]] = deque()
        self._leaving: defaultdict[tuple[Channel, bytes], list[Message]] = defaultdict(list)
        self._settled: defaultdict[bytes, list[str]] = defaultdict(list)
        self.events: deque[Event] = deque()
        self.undeliverable: deque[tuple[str, str]] = deque()
        self.listened = False
        self.seal = False  # sign the audit log with this batch
        store.audit.listener = self._audited

    @property
    def limits(self) -> Limits:
        """The runaway guards of the configuration in force."""
        limits = self.config.limits
        return Limits(
            limits.depth, limits.filed_per_attempt, limits.pending_per_role, limits.title_bytes, limits.payload_bytes
        )

    def send(self, socket: Channel, address: bytes, message: Message) -> None:
        """Send once the batch is committed, together with what else goes to this peer then."""
        self._leaving[socket, address].append(message)

    def acknowledge(self, address: bytes, attempt: str) -> None:
        """Tell a worker, once the batch is committed, that it may forget a result."""
        self._settled[address].append(attempt)

    def _deliver(self, socket: Channel, address: bytes, messages: list[Message]) -> None:
        try:
            self.server.send(socket, address, *messages)
        except WireError as error:  # one is over the size that a message may have
            if len(messages) > 1:
                for message in messages:
                    self._deliver(socket, address, [message])
            elif isinstance(messages[0], Reply):
                self.server.send(socket, address, Reply(call=messages[0].call, ok=False, error=str(error)))
            elif isinstance(messages[0], TaskMsg):
                self.undeliverable.append((messages[0].attempt, str(error)))

    def audit(self, action: str, *, actor: str = "producer", **more: Any) -> None:
        """One audit row in the batch."""
        self.store.audit.append(action, actor, **more)

    def tell(
        self, kind: str, *, role: str | None = None, task: str | None = None, attempt: str | None = None, **data: Any
    ) -> None:
        """Publish an event that has no audit row."""
        if self.listened:
            self.events.append(Event(at=self.clock(), kind=kind, role=role, task=task, attempt=attempt, data=data))

    def notify(self, event: str, title: str, body: str, push: str = "") -> None:
        """Tell a human, by way of the outbox: needs-attention.md, and a push where one is configured.

        ``title`` and ``push`` (ids and counts) may leave this machine, ``body`` does not.
        """
        notices.put(self.store, self.config, event, title, body, push)

    def escalated(self, task: str, role: str, reason: str, *, audited: bool = False) -> None:
        """A task needs a human: an audit row where there is none yet, its file, and a word to whoever listens."""
        if not audited:
            self.audit("escalation", actor=role, task=task, reason=reason)
        self.store.outbox.put("escalation", {"task": task})
        self.notify("escalation", f"a task of {role} needs you", f"{task}: {reason}"[:500], push=task)

    def flush(self) -> None:
        """The batch is committed: let it out."""
        while self._settled:
            address, attempts = self._settled.popitem()
            self._leaving["tasks", address].insert(0, Ack(attempts=attempts))
        leaving, self._leaving = self._leaving, defaultdict(list)
        for (socket, address), messages in leaving.items():
            self._deliver(socket, address, messages)
        while self.after:
            self.after.popleft()()
        while self.events:
            self.server.publish(self.events.popleft())

    def _audited(self, body: dict[str, Any]) -> None:
        if self.listened:
            self.events.append(
                Event(
                    at=self.store.db.now,
                    kind=body["action"],
                    role=body["actor"],
                    task=body.get("task"),
                    attempt=body.get("attempt"),
                    data={**body["detail"], "cost_micros": body.get("cost_micros", 0)},
                )
            )
