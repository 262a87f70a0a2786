"""Loopback tcp in the place of Unix sockets: nowhere else, found by a private file, and found again."""

from __future__ import annotations

import asyncio
import json
import os
import socket as socket_
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import zmq
from wire_rig import SECONDS, Supervisor

from producer.errors import CannotListen, NoSupervisor
from producer.ids import new_id
from producer.places import Places
from producer.wire.auth import Keys, Peer
from producer.wire.client import Control, Events
from producer.wire.door import Door
from producer.wire.listen import AsyncEvents
from producer.wire.messages import Event, Message, Ping, Pong, Progress, Ready, Reply, Request
from producer.wire.server import Incoming, Server
from producer.wire.sockets import AsyncPeer, AsyncPush

NAMES = ("tasks", "results", "control", "events")


@pytest.fixture
def over() -> str:
    return "tcp"


@pytest.fixture
def worker(keys: Keys) -> Peer:
    """A worker of role code with a key."""
    peer = Peer("worker", new_id(), "code")
    keys.issue(peer)
    return peer


def ports(places: Places) -> list[int]:
    return [int(places.address(name).removeprefix("tcp://127.0.0.1:")) for name in NAMES]


@contextmanager
def taken(*numbers: int) -> Iterator[None]:
    """Ports that another program listens on."""
    with ExitStack() as stack:
        for number in numbers:
            stack.enter_context(socket_.create_server(("127.0.0.1", number)))
        yield


def four_free() -> int:
    """The first of four free ports in a row."""
    for first in range(20_011 + os.getpid() % 1000 * 7, 60_000, 4):
        try:
            with taken(*range(first, first + 4)):
                return first
        except OSError:
            continue
    raise AssertionError("no four ports in a row are free")


async def until(condition: Callable[[], object], work: Callable[[], None] = lambda: None) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            work()
            await asyncio.sleep(0.005)


# ---- where it listens


def test_it_listens_on_loopback_alone_and_says_where_in_a_private_file(supervisor: Supervisor, places: Places) -> None:
    listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {(address.ip, address.port) for address in listening} >= {("127.0.0.1", port) for port in ports(places)}
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert set(json.loads(places.endpoints.read_text())) == set(NAMES)
    assert places.endpoints.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in places.runtime.iterdir()] == ["endpoints"]


def test_a_port_that_was_asked_for_and_the_three_after_it(places: Places, keys: Keys) -> None:
    first = four_free()
    Server(places, keys, f"tcp://127.0.0.1:{first}").close()
    assert ports(places) == list(range(first, first + 4))
    with taken(first + 2), pytest.raises(CannotListen) as refused:
        Server(places, keys, f"tcp://127.0.0.1:{first}")
    assert f"tcp://127.0.0.1:{first + 2}: Address already in use: give" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_unix_socket_that_cannot_be_made_is_refused_in_one_line(
    places: Places, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Places, "socket_path", lambda self, name: Path("/proc/self", name))  # a place without sockets
    with pytest.raises(CannotListen) as refused:
        Server(places, keys)
    assert "write `sockets: tcp` into producer.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_the_next_supervisor_takes_the_same_ports_or_others_where_they_are_taken(places: Places, keys: Keys) -> None:
    Server(places, keys, "tcp").close()
    before = ports(places)
    Server(places, keys, "tcp").close()
    assert ports(places) == before
    with taken(before[1]):
        Server(places, keys, "tcp").close()
        assert ports(places)[1] != before[1] and ports(places)[0] == before[0]


def test_unix_sockets_again_take_the_file_away_and_tcp_takes_theirs(places: Places, keys: Keys) -> None:
    Server(places, keys).close(unlink=False)
    with_unix = places.bound()
    Server(places, keys, "tcp").close()
    assert [path.name for path in places.runtime.iterdir()] == ["endpoints"]
    assert None not in (with_unix, places.bound()) and places.bound() != with_unix
    Server(places, keys).close(unlink=False)
    assert {path.name for path in places.runtime.iterdir()} == set(NAMES)


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "5", '{"tasks": 5}', '{"tasks": "tcp://192.0.2.1:99"}', '{"tasks": "inproc://x"}']
)
def test_a_file_that_names_no_loopback_address_leads_nowhere(places: Places, said: str) -> None:
    places.endpoints.write_text(said)
    assert places.address("tasks") == f"ipc://{places.runtime}/tasks"


# ---- who was there before


def test_workers_find_a_supervisor_that_listens_elsewhere(places: Places, keys: Keys, worker: Peer) -> None:
    async def main() -> None:
        first = Supervisor(places, keys, "tcp")
        peer, push = await AsyncPeer.connect(places, worker.name), await AsyncPush.connect(places, worker.name)
        peer.post(Ready(free=1))
        await until(lambda: first.heard, lambda: first.turn(0))
        first.close()
        with taken(*ports(places)):
            second = Supervisor(places, Keys(places), "tcp")
            peer.follow(), push.follow()
            peer.post(Ready(free=2))

            def speak() -> None:
                """What is pushed in the moment of a death may be lost: a result is therefore sent until it is acknowledged."""
                push.post(Progress(attempt="0" * 26, kind="note", data={}))
                second.turn(0)

            await until(lambda: {"tasks", "results"} <= {item.socket for item in second.heard}, speak)
            assert [message for message in second.messages() if not isinstance(message, Progress)] == [Ready(free=2)]
            assert second.server.send("tasks", worker.name.encode(), Ping())
            assert await asyncio.wait_for(peer.recv(), SECONDS) == Ping()
            peer.close(), push.close()
            second.close()

    asyncio.run(main())


def test_an_operator_who_dialled_too_early_is_answered_by_who_comes(places: Places, keys: Keys) -> None:
    Server(places, keys, "tcp").close()
    with taken(*ports(places)):
        control = Control(places)
        with pytest.raises(NoSupervisor):
            control.ask("status", seconds=0.1)
        asked: list[str] = []

        def answer(item: Incoming) -> Message:
            assert isinstance(item.message, Request)
            asked.append(item.message.op)
            return Reply(call=item.message.call, ok=True, result="here")

        supervisor = Supervisor(places, keys, "tcp")
        supervisor.background(answer)
        assert control.ask("status").result == "here"
        assert asked == ["status"], "what was asked of nobody is not asked later, and nothing twice"
        control.close()
        supervisor.close()


def test_listeners_find_a_supervisor_that_listens_elsewhere(places: Places, keys: Keys) -> None:
    async def main() -> None:
        Server(places, keys, "tcp").close()
        with taken(*ports(places)):
            heard: list[Event] = []
            events, live = Events(places), AsyncEvents(places, heard.append)
            supervisor = Supervisor(places, keys, "tcp")
            live.follow()
            told: list[Event] = []

            def tell() -> None:
                supervisor.server.publish(Event(at=1, kind="x"))
                supervisor.turn(0)
                found = events.next(0)
                told.extend([found] if found else [])

            await until(lambda: told and heard, tell)
            events.close(), live.close()
            supervisor.close()

    asyncio.run(main())


# ---- the door


class Crowd:
    """Connections that say nothing."""

    def __init__(self, port: int) -> None:
        self.port, self.all = port, list[socket_.socket]()

    def grow(self, number: int) -> None:
        for _ in range(number):
            self.all.append(socket_.create_connection(("127.0.0.1", self.port), 10))
            self.all[-1].setblocking(False)

    def left(self) -> list[int]:
        """Which of them are still connected."""
        found = []
        for number, one in enumerate(self.all):
            try:
                while said := one.recv(1000):  # zmq's own greeting
                    assert said
            except BlockingIOError:
                found.append(number)
            except OSError:
                continue
        return found

    def close(self) -> None:
        for one in self.all:
            one.close()


def test_of_too_many_who_say_nothing_the_oldest_are_cut_off_and_who_speaks_stays(
    supervisor: Supervisor, places: Places, worker: Peer
) -> None:
    server = supervisor.server
    server._door._most = 20

    async def main() -> None:
        peer = await AsyncPeer.connect(places, worker.name)
        peer.post(Pong())
        await until(lambda: supervisor.heard, lambda: supervisor.turn(0))
        crowd = Crowd(ports(places)[0])
        crowd.grow(60)
        await until(lambda: len(crowd.left()) == 20, lambda: supervisor.turn(0))
        assert crowd.left() == list(range(40, 60)), "the newest are left"
        late = await AsyncPush.connect(places, worker.name)
        late.post(Progress(attempt="0" * 26, kind="note", data={}))
        await until(lambda: len(supervisor.heard) == 2, lambda: supervisor.turn(0))
        assert server.send("tasks", worker.name.encode(), Ping()), "who is known was not cut off"
        assert await asyncio.wait_for(peer.recv(), SECONDS) == Ping()
        crowd.close(), peer.close(), late.close()
        await until(lambda: not server._door.unknown, lambda: supervisor.turn(0))

    asyncio.run(main())


def test_who_is_through_the_handshake_and_silent_is_not_unknown_for_ever() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket, now = context.socket(zmq.PULL), [0.0]
    door = Door(context, [socket], most=5, clock=lambda: now[0])
    socket.bind("tcp://127.0.0.1:*")
    silent = context.socket(zmq.PUSH)
    silent.connect(socket.getsockopt(zmq.LAST_ENDPOINT).decode())  # type: ignore[union-attr]
    [monitor] = door.monitors
    assert monitor.poll(10_000)
    door.look()
    assert len(door.unknown) == 1
    now[0] = 11.0
    door.look()
    assert not door.unknown
    door.close()
    context.destroy(0)
