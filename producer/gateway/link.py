"""The link to the supervisor: the tasks socket, seen from the gateway.

1. Everything said twice means once: GatewayHello, Reserve and Metered carry ids, so after any doubt all that is not
   answered is said again, in order: hello, then what is not booked, then what is not granted.
2. After ``QUIET`` seconds without a word, and every ``RENEW`` seconds in any case, the gateway says hello again; a
   living supervisor answers with Welcome, having forgotten what waits for money: then rule 1, and what was lost on the
   way in either direction is made good. If it does not answer within ``ANSWER``, the socket is made anew, which also
   drops what a dead one would never read.
3. A Reserve waits as long as its client does, through restarts of the supervisor. An answer that comes too late for its
   client meets a Metered of zero, sent when the client left.
4. Close cuts and refuses; Closed is said after every Metered of the attempt. Drain: leave once no attempt is open.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from producer.core.money import MicroUSD
from producer.errors import WireError
from producer.gateway.grants import Attempts, Refused
from producer.gateway.journal import Journal
from producer.places import Places
from producer.wire.auth import GATEWAY
from producer.wire.messages import (
    Booked,
    Close,
    Closed,
    Drain,
    GatewayHello,
    Message,
    Metered,
    Open,
    Ping,
    Pong,
    Refuse,
    Reply,
    Reserve,
    Welcome,
)
from producer.wire.sockets import AsyncPeer

log = logging.getLogger(__name__)
QUIET = 2.0
RENEW = 10.0
ANSWER = 1.0


class Link:
    """A Supervisor (see grants.py) over the tasks socket. ``hello`` makes the first words, ``leave`` ends us."""

    def __init__(
        self, places: Places, hello: Callable[[], GatewayHello], attempts: Attempts, leave: Callable[[str], None]
    ) -> None:
        self._places, self._hello, self._attempts, self._leave = places, hello, attempts, leave
        self._peer: AsyncPeer | None = None
        self._waiting: dict[str, tuple[Reserve, asyncio.Future[MicroUSD]]] = {}
        self._unbooked: dict[str, Metered] = {}
        self._supervisor: str | None = None
        self._heard = 0.0
        self._draining = False
        self.journal: Journal | None = None

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of a supervisor."""
        return asyncio.get_running_loop().time() - self._heard

    @property
    def present(self) -> bool:
        """Whether anything was heard of a supervisor lately."""
        return self.silent_seconds < 2 * (QUIET + ANSWER)

    async def reserve(self, request: Reserve) -> MicroUSD:
        """Ask for money and wait for the answer. Raises Refused."""
        future: asyncio.Future[MicroUSD] = asyncio.get_running_loop().create_future()
        self._waiting[request.request] = (request, future)
        self._post(request)
        try:
            return await future
        finally:
            self._waiting.pop(request.request, None)

    def report(self, record: Metered) -> None:
        """Tell how a request ended; said again after every reconnection until it is booked."""
        self._unbooked[record.request] = record
        self._post(record)

    def closed(self, attempt: str) -> None:
        """Tell that the attempt is over here."""
        self._post(Closed(attempt=attempt))
        if self.journal:
            self.journal.tidy(attempt)
        self._leave_when_empty()

    async def run(self, recovered: list[Metered]) -> None:
        """Keep the link, for ever. ``recovered``: what earlier gateways left unbooked."""
        self._unbooked |= {record.request: record for record in recovered}
        self._heard = asyncio.get_running_loop().time()
        while True:
            try:
                self._peer = await AsyncPeer.connect(self._places, GATEWAY)
            except WireError as error:
                log.warning("no link: %s", error)
                await asyncio.sleep(ANSWER)
                continue
            try:
                self._say_all()
                await self._listen(self._peer)
            finally:
                self._peer.close()
                self._peer = None

    async def _listen(self, peer: AsyncPeer) -> None:
        """Until the supervisor does not even answer a hello."""
        asked, clock = True, asyncio.get_running_loop().time
        renewed = clock()
        while True:
            try:
                async with asyncio.timeout(ANSWER if asked else QUIET):
                    message = await peer.recv()
            except TimeoutError:
                if asked:
                    return
                asked = True
                self._post(self._hello())
                continue
            asked = False
            self._heard = clock()
            self._handle(message)
            if clock() - renewed > RENEW:
                renewed = clock()
                self._post(self._hello())

    def _say_all(self) -> None:
        self._post(self._hello())
        self._say_open()

    def _say_open(self) -> None:
        """All that is not answered: booking and granting are done once a request, however often it is said."""
        for record in list(self._unbooked.values()):
            self._post(record)
        for request, _ in list(self._waiting.values()):
            self._post(request)

    def _handle(self, message: Message) -> None:
        match message:
            case Welcome():
                if self._supervisor is not None and message.supervisor != self._supervisor:
                    self._say_all()
                elif self._supervisor is not None:
                    self._say_open()
                self._supervisor = message.supervisor
            case Open():
                self._attempts.open(message)
            case Close():
                if self._attempts.close(message.attempt):
                    self.closed(message.attempt)
            case Reply():
                self._answer(message)
            case Booked():
                record = self._unbooked.pop(message.request, None)
                if record and self.journal:
                    self.journal.booked(record.attempt, record.request)
            case Ping():
                self._post(Pong())
            case Drain():
                self._draining = True
                self._leave_when_empty()
            case Refuse():
                self._leave(message.reason)
            case _:
                log.warning("unexpected %s", type(message).__name__)

    def _answer(self, reply: Reply) -> None:
        request, future = self._waiting.get(reply.call, (None, None))
        if request is None or future is None or future.done():
            return
        result = reply.result if isinstance(reply.result, dict) else {}
        granted = result.get("granted") if reply.ok else None
        if type(granted) is int and granted >= request.floor:
            future.set_result(MicroUSD(min(granted, request.need)))
        else:
            future.set_exception(Refused(reply.error or "the supervisor gave no reason", result.get("cap") == "closed"))

    def _leave_when_empty(self) -> None:
        if self._draining and not self._attempts.names:
            self._leave("drained")

    def _post(self, message: Message) -> None:
        if self._peer is not None:
            self._peer.post(message)
