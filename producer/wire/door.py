"""Who has come in and is not known yet: so many at a time, and no more.

zmq accepts whoever connects, and cuts off who has not ended the handshake after HANDSHAKE seconds. Until then each has
a file descriptor of ours and some 14 KiB. Over tcp that needs no key, so it is bounded here: of more than ``most`` that
are neither known (a message came) nor older than a handshake may take, those who have been there longest are cut off.
Who has a key is through in a moment, and who is cut off by mistake connects again.
"""

from __future__ import annotations

import os
import resource
import socket as socket_
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

from producer.wire.transport import Socket

HANDSHAKE = 10.0
MOST = 2_000
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED


class Door:
    """The unknown connections of some sockets, by file descriptor.

    ``look`` whenever one of ``monitors`` has news, and while somebody is unknown.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        sockets: Iterable[Socket],
        most: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = most or min(MOST, files // 4)
        self._clock = clock
        self._sockets = list(sockets)
        self.unknown: dict[int, float] = {}
        self.monitors = frozenset(_monitor(context, socket, number) for number, socket in enumerate(self._sockets))

    def look(self) -> None:
        """Read who came and went, and cut off those that are too many."""
        now = self._clock()
        for monitor in self.monitors:
            while monitor.poll(0):
                news = recv_monitor_message(monitor)
                self.unknown.pop(news["value"], None)
                if news["event"] == zmq.EVENT_ACCEPTED:
                    self.unknown[news["value"]] = now
        for descriptor, since in list(self.unknown.items()):
            if len(self.unknown) > self._most:
                _cut_off(descriptor)
            elif now - since <= HANDSHAKE:
                break
            del self.unknown[descriptor]

    def heard(self, part: zmq.Frame) -> None:
        """A message came: whoever sent it is known."""
        with suppress(zmq.ZMQError):
            self.unknown.pop(int(part.get(zmq.SRCFD)), None)

    def close(self) -> None:
        """Look no more."""
        for socket in self._sockets:
            socket.disable_monitor()
        for monitor in self.monitors:
            monitor.close(0)


def _monitor(context: zmq.Context[Socket], socket: Socket, number: int) -> Socket:
    """Without a mark: a full one would have zmq's own thread wait for us."""
    address = f"inproc://door.{number}"
    socket.monitor(address, _EVENTS)
    made = context.socket(zmq.PAIR)
    made.rcvhwm = 0
    made.connect(address)
    return made


def _cut_off(descriptor: int) -> None:
    """End a connection as its other end would; zmq sees it and closes. A descriptor that is none by now is let be."""
    with suppress(OSError), socket_.socket(fileno=os.dup(descriptor)) as found:
        found.shutdown(socket_.SHUT_RDWR)
