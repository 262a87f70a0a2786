"""The worker's side of the conversation with the supervisor.

1. HELLO until WELCOME, then READY. A task that comes is queued (up to the prefetch) and run; one run at a time.
2. A result is written to the outbox, then sent, and stays until its ACK. Whoever becomes supervisor next gets what is
   still there.
3. The supervisor's death is survived: a run goes on, its result is kept, and the no-progress clock stands still, for
   model requests and ledger tools wait for a supervisor. A new one is noticed by its new socket file, and is told HELLO
   with what is in hand. HELLO is never repeated to a supervisor that has welcomed us: it might
   cross with a task on its way here.
4. An idle worker that has heard nothing for a while leaves. So does one that is told DRAIN, REFUSE, or gets SIGTERM.
5. The kill switch is read here too: armed, no queued task is begun; armed with `now`, the run is stopped, supervisor or
   not. A task that was not begun goes back as cancelled, which costs no retry.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from producer import killswitch
from producer.places import Places
from producer.version import __version__
from producer.wire.messages import (
    Ack,
    Bye,
    Cancel,
    Drain,
    Hello,
    Message,
    Ping,
    Pong,
    Progress,
    Ready,
    Refuse,
    Reply,
    Result,
    StandBy,
    Standing,
    Started,
    TaskMsg,
    Welcome,
)
from producer.wire.outbox import Outbox
from producer.workers.attempt import run_attempt
from producer.workers.calls import Calls
from producer.workers.deliveries import Deliveries, Push
from producer.workers.register import Register
from producer.workers.runner import Runner, Stop

log = logging.getLogger("producer.worker")
TICK = 0.1
HELLO_AGAIN = 5.0
LAST_WORDS = 2.0
REMEMBERED = 1000  # tasks, so that one that comes twice is not run twice
ALONE_AFTER = 15.0  # a living supervisor asks after five silent seconds
KILL_GRACE = 0.5


class Peer(Protocol):
    """What the session needs of the tasks socket; see wire.sockets.AsyncPeer."""

    def post(self, message: Message) -> None:
        """Queue a message."""

    async def recv(self) -> Message:
        """The next message."""

    def follow(self) -> None:
        """Go where the supervisor listens now."""


@dataclass(frozen=True)
class Settings:
    """Who this worker is and how it behaves. Durations are in seconds."""

    places: Places
    worker: str
    role: str
    slot: int
    kill_switch: Path
    prefetch: int = 1
    orphan_seconds: float = 600.0
    term_grace: float = 5.0


class Session:
    """One worker process's life. ``serve`` returns why it is over."""

    def __init__(
        self, settings: Settings, runner: Runner, outbox: Outbox, peer: Peer, push: Push, register: Register
    ) -> None:
        self._set, self._runner = settings, runner
        self._peer, self._push, self._register = peer, push, register
        self._queue: deque[TaskMsg] = deque()
        self._taken: OrderedDict[str, None] = OrderedDict()  # a dict's oldest key is found by looking at all that went
        self._deliveries = Deliveries(outbox, push)
        self._current: tuple[TaskMsg, Stop] | None = None
        self._arrived = asyncio.Event()
        self._calls = Calls(peer.post)
        self._supervisor: str | None = None
        self._welcomed = self._warm = self._draining = False
        self._leave: str | None = None
        self._announced = 0
        self._heard = self._greeted = time.monotonic()
        self._bound = settings.places.bound()
        self._switch = killswitch.read(settings.kill_switch)
        self.stuck = self._said_goodbye = False

    async def serve(self) -> str:
        """Work until there is a reason to leave; returns it. Results that nobody has taken stay in the outbox."""
        self._greet()
        helpers = [asyncio.ensure_future(part()) for part in (self._listen, self._tick, self._warm_up)]
        for helper in helpers:
            helper.add_done_callback(lambda _: self._arrived.set())
        try:
            await self._work(helpers)
            await self._last_words()
        finally:
            for helper in helpers:
                helper.cancel()
        return self._leave or "done"

    def terminate(self, reason: str) -> None:
        """Stop the run by the ladder, give back what was not begun, and leave."""
        self._leave = self._leave or reason
        self._say_goodbye()
        self._give_back(reason)
        if self._current:
            self._current[1].set(reason, grace=self._set.term_grace)
        self._arrived.set()

    # ---- working

    async def _work(self, helpers: Sequence[asyncio.Future[None]]) -> None:
        while not self._may_leave():
            for helper in helpers:
                if helper.done():
                    helper.result()  # they end only by an exception; it ends the worker
            if not self._queue:
                self._ready_again()
                self._arrived.clear()
                await self._arrived.wait()
            elif (reason := self._forbidden()) is not None:
                self._give_back(reason)
            else:
                await self._run(self._queue.popleft())

    def _may_leave(self) -> bool:
        if self._leave is not None:
            return True
        if self._draining and not self._queue:
            self._leave = "drained"
        return self._leave is not None

    async def _run(self, task: TaskMsg) -> None:
        stop = Stop()
        self._current = (task, stop)
        self._register.write(task)
        try:
            ended = await run_attempt(
                self._runner, task, self._emit, self._calls.of(task.attempt), stop, project=self._set.places.key
            )
        finally:
            self._current = None
            self._calls.forget(task.attempt)
        self._deliveries.deliver(ended.result)
        if ended.stuck:
            self.stuck, self._leave = True, "a run could not be ended inside this process"

    def _take(self, task: TaskMsg) -> None:
        """A task came: answer it at once where that is possible, else queue it."""
        if task.attempt in self._taken:
            return
        self._taken[task.attempt] = None
        if len(self._taken) > REMEMBERED:
            self._taken.popitem(last=False)
        if (reason := self._forbidden()) is not None:
            self._return(task, reason)
        elif self._current is None and not self._queue and (result := self._at_once(task)) is not None:
            self._deliveries.deliver(result)  # which says with its session that it has begun
        else:
            self._queue.append(task)
            self._arrived.set()

    def _forbidden(self) -> str | None:
        """Why no task may be begun now, or None."""
        if self._leave is None and self._switch.armed:
            self._read_switch()  # it may have been released since the last look
        return self._leave or (f"kill switch: {self._switch.reason or 'armed'}" if self._switch.armed else None)

    def _at_once(self, task: TaskMsg) -> Result | None:
        try:
            return self._runner.quick(task) if task.workspace is None else None
        except Exception:  # then it is run like any other, where its failure is reported
            return None

    def _give_back(self, reason: str) -> None:
        """Tasks that were not begun: cancelled, which costs them nothing."""
        while self._queue:
            self._return(self._queue.popleft(), reason)

    def _return(self, task: TaskMsg, reason: str) -> None:
        self._deliveries.deliver(
            Result(attempt=task.attempt, task=task.task, outcome="cancelled", error=f"not begun: {reason}")
        )

    def _emit(self, message: Progress | Started) -> None:
        if isinstance(message, Started):
            self._peer.post(message)
        elif self._welcomed:  # progress is advisory: nobody is there to hear it, nothing is hoarded
            self._push.post(message)

    # ---- listening

    async def _listen(self) -> None:
        while True:
            message = await self._peer.recv()
            self._heard = time.monotonic()
            self._handle(message)

    def _handle(self, message: Message) -> None:
        match message:
            case TaskMsg():
                self._take(message)
            case Ack():
                self._deliveries.acknowledged(message.attempts)
            case Reply():
                self._calls.answered(message)
            case Ping():
                self._peer.post(Pong(running=self._in_hand(), outbox=self._deliveries.attempts()))
                self._calls.ask_again()  # it has heard nothing of us: what we said may have been lost
                if self._announced:
                    self._peer.post(Ready(free=self._announced))
            case Cancel():
                self._cancel(message)
            case StandBy():
                self._stand_by(message)
            case Drain():
                self._draining = True
                self._arrived.set()
            case Welcome():
                self._welcome(message)
            case Refuse():
                self.terminate(f"refused: {message.reason}")
            case _:
                log.warning("unexpected message: %s", type(message).__name__)

    def _stand_by(self, message: StandBy) -> None:
        """Have a process ready; what is asked for while there is a task is out of date."""
        if self._current is None and not self._queue:
            task, post = message.task, self._peer.post
            self._runner.stand_by(
                task, lambda connected: post(Standing(attempt=task.attempt, connected=connected)) if task else None
            )

    def _cancel(self, message: Cancel) -> None:
        if self._current and self._current[0].attempt == message.attempt:
            self._current[1].set(message.reason, grace=message.grace_seconds)
            return
        for task in [task for task in self._queue if task.attempt == message.attempt]:
            self._queue.remove(task)
            self._return(task, message.reason)

    def _welcome(self, message: Welcome) -> None:
        again = self._supervisor is not None and self._supervisor != message.supervisor
        self._supervisor, self._welcomed = message.supervisor, True
        if again:
            log.info("supervisor %s took over", message.supervisor)
            self._calls.ask_again()
        self._deliveries.send_all()
        self._announced = 0
        self._announce()

    def _greet(self) -> None:
        """Say who we are and what is in hand."""
        self._welcomed, self._greeted = False, time.monotonic()
        self._peer.post(
            Hello(
                worker=self._set.worker,
                role=self._set.role,
                slot=self._set.slot,
                pid=os.getpid(),
                pid_start=self._register.pid_start,
                version=__version__,
                running=self._in_hand(),
                outbox=self._deliveries.attempts(),
            )
        )

    def _in_hand(self) -> list[str]:
        """The attempts that run or wait here."""
        return [task.attempt for task in ([self._current[0]] if self._current else []) + list(self._queue)]

    def _announce(self) -> None:
        free = self._set.prefetch - len(self._queue) - (self._current is not None)
        if self._welcomed and self._warm and not self._draining and free > self._announced:
            self._announced = free
            self._peer.post(Ready(free=free))

    def _ready_again(self) -> None:
        """All of the credit is free again; say so if less was announced."""
        if self._announced < self._set.prefetch:
            self._announce()

    # ---- watching

    async def _warm_up(self) -> None:
        await self._runner.warm()
        self._warm = True
        self._announce()
        await asyncio.Event().wait()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._read_switch()
            now = time.monotonic()
            if (found := self._set.places.bound()) != self._bound and found is not None:
                self._bound = found
                self._peer.follow()
                self._push.follow()
                self._greet()
            elif not self._welcomed and now - self._greeted > HELLO_AGAIN:
                self._greet()
            if self._welcomed:
                self._deliveries.send_late(now)
            if self._current and now - self._heard > ALONE_AFTER:
                self._current[1].touch()
            idle = self._current is None and not self._queue
            if idle:
                self._register.write(None)
            if idle and now - self._heard > self._set.orphan_seconds:
                self.terminate(f"heard nothing for {self._set.orphan_seconds:g} s")

    def _read_switch(self) -> None:
        self._switch = killswitch.read(self._set.kill_switch)
        if self._switch.now and self._current:
            self._current[1].set(f"kill switch: {self._switch.reason or 'armed'}", grace=KILL_GRACE)

    def _say_goodbye(self) -> None:
        """Before the last acknowledgement: what came until then would be given back, and come again."""
        if not self._said_goodbye:
            self._said_goodbye = True
            self._peer.post(Bye(reason=self._leave or "done"))

    async def _last_words(self) -> None:
        """Give the supervisor a moment to acknowledge what it was sent."""
        self._say_goodbye()
        self._give_back(self._leave or "leaving")
        await self._deliveries.settled(LAST_WORDS)
