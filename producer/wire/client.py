"""The ends of those who ask and listen: producerctl, LedgerClient, the dashboard. See sockets.py for the four sockets.

Nothing here needs an event loop, so that a command which asks one question does not import asyncio for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

import zmq

from producer.errors import NoSupervisor
from producer.places import Places
from producer.wire.auth import KeyPair, Keys
from producer.wire.codec import MAX_BODY, decode, encode
from producer.wire.messages import Event, JsonObject, Reply, Request

Socket = zmq.Socket[bytes]
MARK = 20_000
_LOOK = 0.25  # seconds between two looks at whether the supervisor is still there


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


class Control:
    """An operator's end of the control socket: one question at a time, each with a deadline."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._socket = dial(zmq.Context, zmq.DEALER, places, "operator", "control")
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # a question leaves once, to a supervisor that is there
        self._context = self._socket.context
        self._line = Line(self._socket, places, "control")
        self._calls = 0

    def ask(
        self,
        op: str,
        arguments: JsonObject | None = None,
        seconds: float = 10.0,
        there: Callable[[], bool] = lambda: True,
    ) -> Reply:
        """Ask the supervisor; the answer comes after its commit.

        Raises NoSupervisor when none answers in ``seconds``, or sooner, once ``there`` says that it is gone.
        """
        self._calls += 1
        call = str(self._calls)
        question: list[bytes] | None = encode(Request(call=call, op=op, arguments=arguments or {}))
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            waiting_for = zmq.POLLIN if question is None else zmq.POLLOUT
            if self._socket.poll(int(min(left, _LOOK) * 1000) + 1, waiting_for):
                if question is not None:
                    with suppress(zmq.Again):
                        self._socket.send_multipart(question, zmq.NOBLOCK)
                        question = None
                    continue
                reply = decode(self._socket.recv_multipart())
                if isinstance(reply, Reply) and reply.call == call:
                    return reply
            elif not there():
                break
            elif question is not None:
                self._line.follow()
        raise NoSupervisor(self._places.ledger)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._context.term()


class Events:
    """A listener's end of the events socket."""

    def __init__(self, places: Places) -> None:
        self._socket = dial(zmq.Context, zmq.SUB, places, "operator", "events")
        self._context = self._socket.context
        self._socket.subscribe(b"")
        self._line = Line(self._socket, places, "events")

    def next(self, seconds: float) -> Event | None:
        """The next event, None when none comes in time."""
        if not self._socket.poll(max(0, int(seconds * 1000))):
            self._line.follow()
            return None
        event = decode(self._socket.recv_multipart()[1:])
        return event if isinstance(event, Event) else None

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._context.term()
