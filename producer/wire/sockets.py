"""The four sockets, and the ends of workers and the gateway. server.py: the supervisor's. client.py: who asks.

    tasks    ROUTER (supervisor) to DEALER (workers, gateway)    results  PULL (supervisor) from PUSH (workers)
    control  ROUTER (supervisor) to DEALER (producerctl, ...)    events   XPUB (supervisor) to SUB (status --watch, ...)

1. ipc in a private directory, or loopback tcp where producer.yaml says so; CURVE on every one, MAXMSGSIZE 1 MiB,
   high-water marks set. ``Places.address`` says where they are.
2. The supervisor's ends (server.py) are synchronous and belong to its one poller. The ends of workers and the gateway
   live in asyncio; they use the sockets' file descriptors directly, which costs less than zmq.asyncio's futures.
3. A message that cannot be delivered now (the peer is gone, its mark is full) is reported, never blocked on.
4. zmq reconnects to a supervisor that listens where the one before did. ``follow`` goes to one that listens elsewhere.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from itertools import islice

import zmq

from producer.errors import WireError
from producer.places import Places
from producer.wire.codec import BATCH, apart, decode, encode
from producer.wire.messages import Message, Progress
from producer.wire.transport import MARK, Line, Socket, dial, recv_frames, send_frames

_AGAIN = 0.02  # seconds until a send that the socket did not take is tried again


class AsyncPeer:
    """A worker's or the gateway's end of the tasks socket, in asyncio. Reconnects by itself, as zmq does."""

    def __init__(self, socket: Socket, line: Line) -> None:
        self._socket = socket
        self.follow = line.follow
        self._fd = socket.fileno()
        self._inbox: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._outbox: deque[list[bytes]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._turn)
        self._loop.call_soon(self._turn)

    @classmethod
    async def connect(cls, places: Places, name: str) -> AsyncPeer:
        """Connect as the peer that ``name`` has a key for (a worker's ULID, or `gateway`)."""
        socket = dial(zmq.Context.instance, zmq.DEALER, places, name, "tasks")
        return cls(socket, Line(socket, places, "tasks"))

    async def send(self, message: Message) -> None:
        """Queue a message; it leaves as soon as the socket takes it, in order."""
        self.post(message)

    def post(self, message: Message) -> None:
        """``send`` for callers that are not coroutines."""
        self._outbox.append(encode(message))
        self._turn()

    async def recv(self) -> Message:
        """The next message. Malformed and unknown ones are dropped."""
        while not self._inbox:
            self._turn()
            if self._inbox:
                break
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._inbox.popleft()

    def close(self) -> None:
        """Close the socket; what was queued gets 200 ms to leave."""
        self._turn()
        if self._retry:
            self._retry.cancel()
        self._loop.remove_reader(self._fd)
        self._socket.close(200)

    def _turn(self) -> None:
        """Move what can be moved. The descriptor is edge-triggered: look at both directions until neither moves."""
        if self._socket.closed:
            return
        while self._outbox:
            try:
                send_frames(self._socket, self._outbox[0])
            except zmq.Again:
                break
            self._outbox.popleft()
        while True:
            try:
                frames = [frame.bytes for frame in recv_frames(self._socket)]
            except zmq.Again:
                break
            for one in apart(frames):
                with suppress(WireError):
                    message = decode(one)
                    if message is not None:
                        self._inbox.append(message)
        if self._retry:
            self._retry.cancel()
        self._retry = self._loop.call_later(_AGAIN, self._turn) if self._outbox else None
        if self._inbox and self._waiter and not self._waiter.done():
            self._waiter.set_result(None)


class AsyncPush:
    """A worker's end of the results socket. PROGRESS and RESULT leave in order; nothing comes back this way.

    What is posted before the event loop turns leaves together.
    """

    def __init__(self, socket: Socket, line: Line) -> None:
        self._socket = socket
        self.follow = line.follow
        self._outbox: deque[list[bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    @classmethod
    async def connect(cls, places: Places, name: str) -> AsyncPush:
        """Connect as the worker that ``name`` has a key for."""
        socket = dial(zmq.Context.instance, zmq.PUSH, places, name, "results")
        socket.setsockopt(zmq.IMMEDIATE, 1)
        return cls(socket, Line(socket, places, "results"))

    def post(self, message: Message) -> None:
        """Queue a message; it leaves as soon as a supervisor is there. Progress may be lost while none is."""
        if isinstance(message, Progress) and len(self._outbox) >= MARK:
            return
        self._outbox.append(encode(message))
        if self._next is None:
            self._next = self._loop.call_soon(self._flush)

    async def send(self, message: Message) -> None:
        """``post``, for symmetry with AsyncPeer."""
        self.post(message)

    def close(self) -> None:
        """Close the socket; what was queued gets 200 ms to leave."""
        if self._next:
            self._next.cancel()
        self._flush()
        if self._next:
            self._next.cancel()
        self._socket.close(200)

    def _flush(self) -> None:
        self._next = None
        while self._outbox:
            batch = list(islice(self._outbox, BATCH))
            try:
                send_frames(self._socket, [*batch[0], *(frame for frames in batch[1:] for frame in frames[1:])])
            except zmq.Again:
                self._next = self._loop.call_later(_AGAIN, self._flush)
                return
            for _ in batch:
                self._outbox.popleft()
