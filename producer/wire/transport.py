"""What the ends of all sockets have in common: keys and marks, how one dials and is found, how frames leave.

No event loop is needed for it, so that a command which asks one question does not import asyncio.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import zmq

from producer.places import Places
from producer.wire.auth import KeyPair, Keys
from producer.wire.codec import MAX_BODY

Socket = zmq.Socket[bytes]
MARK = 20_000
NOW = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK) | int(zmq.SNDMORE)


def send_frames(socket: Socket, frames: list[bytes]) -> None:
    """Send without waiting. Plain integers for flags: pyzmq's enums cost more than the rest of the call."""
    for frame in frames[:-1]:
        socket.send(frame, _MORE)
    socket.send(frames[-1], NOW)


def recv_frames(socket: Socket) -> list[zmq.Frame]:
    """Receive without waiting. Raises zmq.Again where nothing is there.

    A frame knows whether another follows; to ask the socket, as recv_multipart does, took more than all the rest.
    """
    frames = [socket.recv(NOW, copy=False)]
    while frames[-1].more:
        frames.append(socket.recv(NOW, copy=False))
    return frames


def configure(socket: Socket, keys: KeyPair, server: bytes | None) -> None:
    """What every socket has: keys, the limit of a message, marks."""
    socket.linger = 0
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BODY + 1024)
    socket.sndhwm = socket.rcvhwm = MARK
    socket.curve_publickey, socket.curve_secretkey = keys.public, keys.secret
    if server is None:
        socket.curve_server = True
    else:
        socket.curve_serverkey = server


def dial(context: Callable[[], zmq.Context[Socket]], kind: int, places: Places, name: str, socket_name: str) -> Socket:
    """A client's end. The keys first: a context that is left to the collector swallows a Ctrl-C when it is closed."""
    keys = Keys(places)
    own, server = keys.load(name), keys.server().public
    socket = context().socket(kind)
    configure(socket, own, server)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    socket.setsockopt(zmq.HANDSHAKE_IVL, 30_000)
    if kind == zmq.DEALER:
        socket.identity = name.encode() if socket_name == "tasks" else os.urandom(9).hex().encode()
    return socket


class Line:
    """A socket's connection to where the supervisor listens. Made before there is one, it waits for it there."""

    def __init__(self, socket: Socket, places: Places, name: str) -> None:
        self._socket, self._places, self._name = socket, places, name
        self._address = places.address(name)
        socket.connect(self._address)

    def follow(self) -> None:
        """Go where the supervisor listens now, if that is elsewhere; what was on its way to the old place is lost."""
        address = self._places.address(self._name)
        if address != self._address:
            self._socket.disconnect(self._address)
            self._socket.connect(address)
            self._address = address
