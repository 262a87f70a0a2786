"""The ends of those who ask and listen: producerctl, LedgerClient, the dashboard. The four sockets: see sockets.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import zmq

from producer.errors import NoSupervisor
from producer.places import Places
from producer.wire.codec import decode, encode
from producer.wire.messages import Event, JsonObject, Reply, Request
from producer.wire.transport import Line, dial

_LOOK = 0.25  # seconds between two looks at whether the supervisor is still there


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
