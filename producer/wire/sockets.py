"""The four sockets, and the ends of those who serve: the supervisor, workers, the gateway. client.py: those who ask.

    tasks    ROUTER (supervisor) to DEALER (workers, gateway)    results  PULL (supervisor) from PUSH (workers)
    control  ROUTER (supervisor) to DEALER (producerctl, ...)    events   XPUB (supervisor) to SUB (status --watch, ...)

1. ipc only, in a private directory, CURVE on every one, MAXMSGSIZE 1 MiB, high-water marks set.
2. The supervisor's end is synchronous and belongs to its one poller. The ends of workers and the gateway live in
   asyncio; they use the sockets' file descriptors directly, which costs less per message than zmq.asyncio's futures.
3. A message that cannot be delivered now (the peer is gone, its mark is full) is reported, never blocked on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import zmq

from producer.errors import WireError
from producer.places import Places
from producer.wire.auth import Gatekeeper, Keys, Peer
from producer.wire.client import MARK, Socket, configure, dial
from producer.wire.codec import BATCH, apart, decode, encode
from producer.wire.messages import Event, Message, Progress

Name = Literal["tasks", "results", "control"]
_NOW = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)
_AGAIN = 0.02  # seconds until a send that the socket did not take is tried again


class Incoming(NamedTuple):
    """One message: from which socket, from whom, where an answer goes, and what it says."""

    socket: Name
    peer: Peer
    address: bytes
    message: Message


@dataclass(frozen=True)
class Malformed:
    """A frame that was refused, for the log and the audit."""

    socket: Name
    peer: Peer | None
    problem: str


class Server:
    """The supervisor's ends. Create it only while holding the ledger's lock: a second bind would steal the traffic."""

    def __init__(self, places: Places, keys: Keys) -> None:
        self._listened = False
        self._context = zmq.Context()
        self._gatekeeper = Gatekeeper(self._context, keys)
        pair = keys.server()
        self._sockets: dict[str, Socket] = {}
        kinds = (("tasks", zmq.ROUTER), ("results", zmq.PULL), ("control", zmq.ROUTER), ("events", zmq.XPUB))
        for name, kind in kinds:
            socket = self._context.socket(kind)
            configure(socket, pair, None)
            socket.zap_domain = name.encode()
            if kind == zmq.ROUTER:
                socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            (places.runtime / name).unlink(missing_ok=True)
            socket.bind(places.address(name))
            self._sockets[name] = socket
        self._poller = zmq.Poller()
        for pollable in (self._gatekeeper.socket, *(self._sockets[n] for n in ("tasks", "results", "control"))):
            self._poller.register(pollable, zmq.POLLIN)
        self._paths = [places.runtime / name for name, _ in kinds]

    def watch(self, fd: int) -> None:
        """Wake ``wait`` when this file descriptor (a signal pipe, a pidfd) is readable."""
        self._poller.register(fd, zmq.POLLIN)

    def unwatch(self, fd: int) -> None:
        """The inverse of ``watch``."""
        self._poller.unregister(fd)

    def wait(self, seconds: float) -> set[int]:
        """Sleep until something is to be read, at most so long. Returns the watched descriptors that are readable."""
        try:
            ready = self._poller.poll(max(0, int(seconds * 1000)))
        except InterruptedError:
            return set()
        self._gatekeeper.answer()
        return {item for item, _ in ready if isinstance(item, int)}

    def receive(self, limit: int = 2_000) -> Iterator[Incoming | Malformed]:
        """What has arrived, about ``limit`` messages a socket: tasks, then results, then control."""
        names: tuple[Name, ...] = ("tasks", "results", "control")
        for name in names:
            socket, left = self._sockets[name], limit
            while left > 0 and socket.poll(0):  # asking is five times as quick as being refused
                try:
                    parts = socket.recv_multipart(_NOW, copy=False)
                except zmq.Again:  # what was there was of a connection that has gone
                    break
                for item in _read(name, parts):
                    left -= 1
                    yield item

    def send(self, socket: Literal["tasks", "control"], address: bytes, *messages: Message) -> bool:
        """Send to one peer; False where it is gone or does not take what it is sent.

        Raises WireError, with nothing sent, where one of the messages is too large.
        """
        try:
            for frames in [_together(messages[at : at + BATCH]) for at in range(0, len(messages), BATCH)]:
                _send(self._sockets[socket], [address, *frames])
        except zmq.ZMQError:
            return False
        return True

    def publish(self, event: Event) -> None:
        """Tell whoever listens on the events socket. The topic is the event's kind."""
        _send(self._sockets["events"], [event.kind.encode(), *encode(event)])

    def listeners(self) -> bool:
        """Whether anybody listens on the events socket: without one, no event need be made."""
        while self._sockets["events"].poll(0):
            with suppress(zmq.Again):
                self._listened = self._sockets["events"].recv(_NOW)[:1] == b"\x01"
        return self._listened

    def close(self, unlink: bool = True) -> None:
        """Close every socket and remove their files."""
        for socket in (self._gatekeeper.socket, *self._sockets.values()):
            socket.close(200)
        self._context.term()
        for path in self._paths if unlink else ():
            path.unlink(missing_ok=True)


def _send(socket: Socket, frames: list[bytes]) -> None:
    """Send without waiting. Plain integers for flags: pyzmq's enums cost more than the rest of the call."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], _NOW)


def _together(messages: Sequence[Message]) -> list[bytes]:
    """The frames of messages that leave as one."""
    frames = encode(messages[0])
    for message in messages[1:]:
        frames += encode(message)[1:]
    return frames


def _read(name: Name, parts: list[zmq.Frame]) -> Iterator[Incoming | Malformed]:
    peer = None
    try:
        peer = Peer.of_user_id(str(parts[-1].get("User-Id")))
    except (ValueError, zmq.ZMQError) as error:
        yield Malformed(name, None, str(error))
        return
    frames = [part.bytes for part in parts]
    address = b"" if name == "results" else frames.pop(0)
    if name == "tasks" and address != peer.name.encode():
        yield Malformed(name, peer, f"the connection calls itself {address[:40]!r}")
        return
    for one in apart(frames):
        try:
            message = decode(one)
        except WireError as error:
            yield Malformed(name, peer, str(error))
            continue
        if message is None:
            yield Malformed(name, peer, f"unknown message type {one[1][:40]!r}")
        else:
            yield Incoming(name, peer, address, message)


class AsyncPeer:
    """A worker's or the gateway's end of the tasks socket, in asyncio. Reconnects by itself, as zmq does."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
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
        socket.connect(places.address("tasks"))
        return cls(socket)

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
                _send(self._socket, self._outbox[0])
            except zmq.Again:
                break
            self._outbox.popleft()
        while True:
            try:
                frames = self._socket.recv_multipart(_NOW)
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

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._outbox: deque[list[bytes]] = deque()
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Handle | None = None

    @classmethod
    async def connect(cls, places: Places, name: str) -> AsyncPush:
        """Connect as the worker that ``name`` has a key for."""
        socket = dial(zmq.Context.instance, zmq.PUSH, places, name, "results")
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(places.address("results"))
        return cls(socket)

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
                _send(self._socket, [*batch[0], *(frame for frames in batch[1:] for frame in frames[1:])])
            except zmq.Again:
                self._next = self._loop.call_later(_AGAIN, self._flush)
                return
            for _ in batch:
                self._outbox.popleft()


def sockets_present(places: Places) -> bool:
    """Whether a supervisor's control socket has a file; it may still be a dead one's."""
    return Path(places.runtime / "control").exists()
