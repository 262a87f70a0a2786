"""The events socket for programs that live in asyncio, as the dashboard does.

What is not taken in time is dropped by the socket, never waited for by the supervisor: a listener that must not miss
anything reads the ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

from producer.errors import WireError
from producer.places import Places
from producer.wire.codec import decode
from producer.wire.messages import Event
from producer.wire.transport import NOW, Line, dial

_BURST = 200  # events read in one turn of the asyncio loop


class AsyncEvents:
    """A listener's end of the events socket, in asyncio: every event is handed to ``hear`` as it comes.

    It reconnects by itself, to a supervisor that comes later too; ``follow`` finds one that listens elsewhere.
    Raises WireError where no keys have been made yet.
    """

    def __init__(self, places: Places, hear: Callable[[Event], None]) -> None:
        self._socket = dial(zmq.Context, zmq.SUB, places, "operator", "events")
        self._context = self._socket.context
        self._socket.subscribe(b"")
        self.follow = Line(self._socket, places, "events").follow
        self._hear, self._fd = hear, self._socket.fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._turn)
        self._loop.call_soon(self._turn)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._fd)
        self._socket.close()
        self._context.term()

    def _turn(self) -> None:
        """Read what is there. The descriptor is edge-triggered; a burst is read in parts, so that others get a turn."""
        for _ in range(_BURST):
            if self._socket.closed:
                return
            try:
                event = decode(self._socket.recv_multipart(NOW)[1:])
            except zmq.Again:
                return
            except WireError:
                continue
            if isinstance(event, Event):
                self._hear(event)
        self._loop.call_soon(self._turn)
