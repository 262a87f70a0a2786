"""The supervisor's ends of the four sockets: they listen, and know who speaks.

1. They listen on Unix sockets in the private directory; where producer.yaml says so on loopback tcp, and never on
   another address. On both a connection without a key that was issued is refused in the handshake.
2. The ports of tcp are written to ``Places.endpoints``, where every other end finds them. The file outlives the
   supervisor, and the next one takes the same ports if it can: who was connected comes back by itself.
3. Everything that a peer may cause is bounded: how long a handshake takes, how many are answered in a turn, how many
   connections there are, how much is read in a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import zmq

from producer.errors import CannotListen, WireError
from producer.places import IPC, LOOPBACK, Places
from producer.wire.auth import Gatekeeper, Keys, Peer, write_private
from producer.wire.codec import BATCH, apart, decode, encode
from producer.wire.door import HANDSHAKE, Door
from producer.wire.messages import Event, Message
from producer.wire.transport import NOW, Socket, configure, recv_frames, send_frames

Name = Literal["tasks", "results", "control"]
DELIVERIES = 200  # that wait for us, before a peer is held up; or for the peer, before it counts as gone
MOST_BYTES = 16 << 20  # of one socket, at once; a single delivery may pass it
KINDS = (("tasks", zmq.ROUTER), ("results", zmq.PULL), ("control", zmq.ROUTER), ("events", zmq.XPUB))


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
    """The supervisor's ends. Create it only while holding the ledger's lock: a second bind would steal the traffic.

    ``where`` is producer.yaml's `sockets`. Raises PathTooLong and CannotListen.
    """

    def __init__(self, places: Places, keys: Keys, where: str = IPC) -> None:
        self._listened = False
        self._context = zmq.Context()
        self._gatekeeper = Gatekeeper(self._context, keys)
        self._sockets: dict[str, Socket] = {}
        try:
            for name, kind in KINDS:
                self._sockets[name] = _listener(self._context, name, kind, keys)
            self._door = Door(self._context, self._sockets.values())
            self._paths = _bind(self._sockets, places, where)
        except BaseException:
            self._context.destroy(0)
            raise
        self._poller = zmq.Poller()
        heard = (self._sockets[name] for name in ("tasks", "results", "control"))
        for pollable in (self._gatekeeper.socket, *heard, *self._door.monitors):
            self._poller.register(pollable, zmq.POLLIN)

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
        if self._door.unknown or any(item in self._door.monitors for item, _ in ready):
            self._door.look()
        return {item for item, _ in ready if isinstance(item, int)}

    def receive(self, limit: int = 2_000) -> Iterator[Incoming | Malformed]:
        """What has arrived, about ``limit`` messages or MOST_BYTES a socket: tasks, then results, then control."""
        names: tuple[Name, ...] = ("tasks", "results", "control")
        for name in names:
            socket, left, room = self._sockets[name], limit, MOST_BYTES
            while left > 0 and room > 0 and socket.poll(0):  # asking is five times as quick as being refused
                try:
                    parts = recv_frames(socket)
                except zmq.Again:  # what was there was of a connection that has gone
                    break
                if self._door.unknown:
                    self._door.heard(parts[-1])
                room -= sum(map(len, parts))
                for item in _read(name, parts):
                    left -= 1
                    yield item

    def send(self, socket: Literal["tasks", "control"], address: bytes, *messages: Message) -> bool:
        """Send to one peer; False where it is gone or does not take what it is sent.

        Raises WireError, with nothing sent, where one of the messages is too large.
        """
        try:
            for frames in [_together(messages[at : at + BATCH]) for at in range(0, len(messages), BATCH)]:
                send_frames(self._sockets[socket], [address, *frames])
        except zmq.ZMQError:
            return False
        return True

    def publish(self, event: Event) -> None:
        """Tell whoever listens on the events socket. The topic is the event's kind."""
        send_frames(self._sockets["events"], [event.kind.encode(), *encode(event)])

    def listeners(self) -> bool:
        """Whether anybody listens on the events socket: without one, no event need be made."""
        while self._sockets["events"].poll(0):
            with suppress(zmq.Again):
                said = self._sockets["events"].recv(NOW, copy=False)
                self._door.heard(said)
                self._listened = said.bytes[:1] == b"\x01"
        return self._listened

    def close(self, unlink: bool = True) -> None:
        """Close every socket and remove their files; the one that names tcp's ports stays for who listens next."""
        self._door.close()
        for socket in (self._gatekeeper.socket, *self._sockets.values()):
            socket.close(200)
        self._context.term()
        for path in self._paths if unlink else ():
            path.unlink(missing_ok=True)


def _listener(context: zmq.Context[Socket], name: str, kind: int, keys: Keys) -> Socket:
    socket = context.socket(kind)
    configure(socket, keys.server(), None)
    socket.zap_domain = name.encode()
    socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000))
    socket.rcvhwm = DELIVERIES
    if kind == zmq.ROUTER:
        socket.sndhwm = DELIVERIES
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    return socket


def _bind(sockets: Mapping[str, Socket], places: Places, where: str) -> list[Path]:
    """Have the sockets listen; the files of those that have one. Who looked for the ones before finds these."""
    files = [places.runtime / name for name in sockets]
    if where == IPC:
        places.endpoints.unlink(missing_ok=True)
    addresses = _unix(places) if where == IPC else _ports(places, where)
    for file in files:
        file.unlink(missing_ok=True)
    for (name, socket), choice in zip(sockets.items(), addresses, strict=True):
        _bind_one(name, socket, choice)
    if where == IPC:
        return files
    write_private(places.endpoints, {name: _address(socket) for name, socket in sockets.items()})
    return []


def _address(socket: Socket) -> str:
    found = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(found, bytes)
    return found.decode()


def _unix(places: Places) -> list[list[str]]:
    return [[places.address(name)] for name, _ in KINDS]


def _ports(places: Places, where: str) -> list[list[str]]:
    """For each socket the addresses to try: what was asked for; else what was used last, else any port."""
    _, _, port = where.partition(LOOPBACK)
    if port:
        return [[f"{LOOPBACK}{int(port) + number}"] for number, _ in enumerate(KINDS)]
    return [[*filter(None, [places.listening(name)]), f"{LOOPBACK}*"] for name, _ in KINDS]


def _bind_one(name: str, socket: Socket, addresses: list[str]) -> None:
    for address in addresses:
        try:
            socket.bind(address)
            return
        except zmq.ZMQError as error:
            problem = CannotListen(name, address, zmq.strerror(error.errno or 0))
    raise problem


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
