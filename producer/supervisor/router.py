"""What a message from outside is, and who it is for.

1. A peer is who its key says. What a socket does not carry, and what cannot be read, gets an audit row (complaints.py),
   nothing else.
2. A message that breaks the loop is blamed and tried once more (suspects.py); one that breaks it again is dropped. A
   result's run then ends here, for nobody would end it otherwise.
"""

from __future__ import annotations

from typing import Any

from producer.errors import LedgerRefused
from producer.supervisor.control import Control
from producer.supervisor.dispatch import Dispatch
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.runs import Runs
from producer.supervisor.suspects import Suspects
from producer.supervisor.workers import Workers
from producer.wire.messages import (
    Bye,
    Call,
    Closed,
    GatewayHello,
    Hello,
    Metered,
    Pong,
    Progress,
    Ready,
    Request,
    Reserve,
    Result,
    Standing,
    Started,
)  # fmt: skip
from producer.wire.server import Incoming, Malformed


class Router:
    """Runs inside the batch's transaction."""

    def __init__(
        self,
        kernel: Kernel,
        suspects: Suspects,
        workers: Workers,
        dispatch: Dispatch,
        runs: Runs,
        gateway: Gateway,
        control: Control,
    ) -> None:
        self._kernel, self._suspects = kernel, suspects
        self._workers, self._dispatch, self._runs = workers, dispatch, runs
        self._gateway, self._control = gateway, control

    def handle_all(self, arrived: list[Incoming | Malformed]) -> None:
        """Hand over a batch of messages, in their order, and write what they change."""
        database = self._kernel.store.db
        for item in arrived:
            try:
                if self._suspects.drops(item):
                    self._drop(item)
                else:
                    self._handle(item)
                if self._suspects.wary:
                    database.catch_up()
            except Exception as error:
                self._suspects.blame(item, error)
                raise
        try:
            database.catch_up()
        except LedgerRefused:
            self._suspects.wary = True
            raise

    def _drop(self, item: Incoming | Malformed) -> None:
        if not self._suspects.first(item):
            return
        name = item.peer.name if item.peer else "unknown"
        message = item.message if isinstance(item, Incoming) else None
        self._kernel.audit("message_dropped", socket=item.socket, peer=name, type=type(message).__name__)
        if isinstance(message, Result):
            run = self._runs.by_attempt.get(message.attempt)
            if run and run.worker == name:
                self._runs.undeliverable(message.attempt, "its result could not be handled: see the log")

    def _handle(self, item: Incoming | Malformed) -> None:
        if isinstance(item, Malformed):
            name = item.peer.name if item.peer else "unknown"
            self._runs.complaints.note("malformed_message", name, socket=item.socket, problem=item.problem[:300])
            return
        peer, message = item.peer, item.message
        if peer.kind == "worker":
            self._workers.heard(peer.name)
        match message:
            case Result() if item.socket == "results":
                self._runs.result(peer, message)
            case Progress() if item.socket == "results":
                self._runs.progress(peer, message)
            case Request() if item.socket == "control":
                self._control.request(peer, item.address, message)
            case _ if item.socket == "tasks" and peer.kind == "worker":
                self._from_worker(item)
            case _ if item.socket == "tasks" and peer.kind == "gateway":
                self._from_gateway(message)
            case _:
                self._runs.complaints.note(
                    "misplaced_message", peer.name, socket=item.socket, type=type(message).__name__
                )

    def _from_worker(self, item: Incoming) -> None:
        peer, message = item.peer, item.message
        if item.address != peer.name.encode():
            return
        match message:
            case Hello():
                worker = self._workers.hello(peer, message)
                if worker:
                    self._runs.reconcile(worker, message.running, message.outbox)
            case Ready():
                self._workers.ready(peer.name, message)
            case Started():
                self._runs.started(peer, message)
            case Standing():
                self._dispatch.standby.said(peer.name, message)
            case Call():
                self._control.call(peer, item.address, message)
            case Bye():
                self._workers.bye(peer.name)
                self._kernel.tell("worker_left", role=peer.role, worker=peer.name, reason=message.reason)
            case Pong() if message.running is not None and peer.name in self._workers.by_id:
                self._runs.compare(self._workers.by_id[peer.name], message.running, message.outbox)
            case _:
                pass

    def _from_gateway(self, message: Any) -> None:
        match message:
            case GatewayHello():
                self._gateway.hello(message)
            case Reserve():
                self._gateway.reserve(message)
            case Metered():
                self._gateway.metered_request(message)
            case Closed():
                self._runs.closed(message.attempt)
                self._gateway.review()
