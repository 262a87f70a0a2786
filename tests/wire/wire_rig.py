"""The supervisor's ends of the sockets, as the wire's tests use them."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

from producer.places import Places
from producer.wire.auth import Keys
from producer.wire.messages import Message
from producer.wire.server import Incoming, Malformed, Server

SECONDS = 10.0


class Supervisor:
    """The supervisor's ends of the sockets, and what came in there."""

    def __init__(self, places: Places, keys: Keys, over: str = "ipc") -> None:
        self.server = Server(places, keys, over)
        self.heard: list[Incoming] = []
        self.refused: list[Malformed] = []
        self._stop = Event()
        self._thread: Thread | None = None

    def turn(self, seconds: float = 0.02) -> None:
        self.server.wait(seconds)
        for item in self.server.receive():
            (self.heard if isinstance(item, Incoming) else self.refused).append(item)  # type: ignore[arg-type]

    def until(self, condition: Callable[[], object], seconds: float = SECONDS) -> None:
        """Serve until the condition holds; fail when it does not come about."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about in time"
            self.turn()

    def for_a_while(self, seconds: float = 0.3) -> None:
        """Serve for a moment, to see that something does not come."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn()

    def messages(self) -> list[Message]:
        return [item.message for item in self.heard]

    def background(self, answer: Callable[[Incoming], Message | None]) -> None:
        """Serve in a thread, answering what comes to the control socket."""

        def serve() -> None:
            while not self._stop.is_set():
                self.turn()
                while self.heard:
                    item = self.heard.pop(0)
                    reply = answer(item)
                    if reply is not None:
                        self.server.send("control", item.address, reply)

        self._thread = Thread(target=serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(10)
        self.server.close()
