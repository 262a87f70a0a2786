"""Both ends of the sockets: order, absence, return, and answers that come late or never."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import pytest
import zmq
from wire_rig import SECONDS, Supervisor

import producer
from producer.errors import NoSupervisor, WireError
from producer.ids import new_id
from producer.places import Places
from producer.wire import sockets
from producer.wire.auth import Keys, Peer
from producer.wire.client import Control, Events
from producer.wire.codec import BATCH, encode
from producer.wire.messages import Drain, Event, Message, Ping, Pong, Progress, Ready, Reply, Request, Result
from producer.wire.server import Incoming, Server
from producer.wire.sockets import AsyncPeer, AsyncPush
from producer.wire.transport import dial


@pytest.fixture
def worker(keys: Keys) -> Peer:
    """A worker of role code with a key."""
    peer = Peer("worker", new_id(), "code")
    keys.issue(peer)
    return peer


async def until(condition: Callable[[], object], work: Callable[[], None] = lambda: None) -> None:
    """Let the loop go on until the condition holds; fail when it does not come about."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            work()
            await asyncio.sleep(0.005)


def progress(number: int) -> Progress:
    return Progress(attempt="0" * 26, kind="note", data={"n": number})


# ---- tasks


def test_sending_to_a_peer_that_is_not_there_says_so(supervisor: Supervisor, worker: Peer) -> None:
    assert supervisor.server.send("tasks", worker.name.encode(), Ping()) is False
    assert supervisor.server.send("control", b"nobody", Reply(call="1", ok=True)) is False


def test_a_message_too_big_to_send_is_an_error_and_not_an_absence(supervisor: Supervisor, worker: Peer) -> None:
    with pytest.raises(WireError):
        supervisor.server.send("tasks", worker.name.encode(), Reply(call="1", ok=True, result="x" * (1 << 20)))


def test_messages_go_both_ways_in_order(supervisor: Supervisor, places: Places, worker: Peer) -> None:
    count = 1500

    async def main() -> list[Message]:
        peer = await AsyncPeer.connect(places, worker.name)
        for number in range(count):
            peer.post(Ready(free=number))
        await until(lambda: len(supervisor.heard) == count, lambda: supervisor.turn(0))
        replies = [Reply(call=str(number), ok=True) for number in range(count)]
        assert supervisor.server.send("tasks", worker.name.encode(), *replies)
        async with asyncio.timeout(SECONDS):
            received = [await peer.recv() for _ in range(count)]
        peer.close()
        return received

    received = asyncio.run(main())
    assert supervisor.messages() == [Ready(free=number) for number in range(count)]
    assert all(item.peer == worker and item.address == worker.name.encode() for item in supervisor.heard)
    assert received == [Reply(call=str(number), ok=True) for number in range(count)]


def test_a_waiting_receiver_is_woken_and_a_cancelled_one_loses_nothing(
    supervisor: Supervisor, places: Places, worker: Peer
) -> None:
    async def main() -> None:
        peer = await AsyncPeer.connect(places, worker.name)
        await peer.send(Pong())
        await until(lambda: supervisor.heard, lambda: supervisor.turn(0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.recv(), 0.02)
        waiting = asyncio.create_task(peer.recv())
        await asyncio.sleep(0)
        assert supervisor.server.send("tasks", worker.name.encode(), Drain())
        assert await asyncio.wait_for(waiting, SECONDS) == Drain()
        waiting = asyncio.create_task(peer.recv())
        await asyncio.sleep(0)
        supervisor.server.send("tasks", worker.name.encode(), Ping())
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await asyncio.wait_for(peer.recv(), SECONDS) == Ping()
        peer.close()

    asyncio.run(main())


def test_what_is_malformed_does_not_reach_a_worker(
    supervisor: Supervisor, places: Places, worker: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        peer = await AsyncPeer.connect(places, worker.name)
        peer.post(Pong())
        await until(lambda: supervisor.heard, lambda: supervisor.turn(0))
        socket = supervisor.server._sockets["tasks"]
        for frames in ([b"PRD2", b"Ping", b"{}"], [b"PRD1", b"Sing", b"{}"], [b"x"], [b"PRD1", b"Ping", b"{"]):
            socket.send_multipart([worker.name.encode(), *frames])
        supervisor.server.send("tasks", worker.name.encode(), Drain())
        assert await asyncio.wait_for(peer.recv(), SECONDS) == Drain()
        peer.close()

    asyncio.run(main())


def test_a_peer_comes_back_to_the_next_supervisor(places: Places, keys: Keys, worker: Peer) -> None:
    async def main(ends: ExitStack) -> None:
        first = Supervisor(places, keys)
        peer, push = await AsyncPeer.connect(places, worker.name), await AsyncPush.connect(places, worker.name)
        ends.callback(push.close)
        ends.callback(peer.close)
        peer.post(Ready(free=1))
        await until(lambda: first.heard, lambda: first.turn(0))
        first.close()
        await until(lambda: not push._socket.poll(0, zmq.POLLOUT))  # what leaves before is lost with the connection
        await asyncio.sleep(0.1)
        peer.post(Ready(free=2))
        for number in range(50):
            push.post(progress(number))
        await asyncio.sleep(0.1)
        second = Supervisor(places, Keys(places))
        ends.callback(second.close)
        await until(lambda: len(second.heard) >= 51, lambda: second.turn(0))
        assert [item.message for item in second.heard if item.socket == "results"] == [progress(n) for n in range(50)]
        assert Ready(free=2) in second.messages()
        assert second.server.send("tasks", worker.name.encode(), Ping())
        assert await asyncio.wait_for(peer.recv(), SECONDS) == Ping()

    async def closed() -> None:
        with ExitStack() as ends:  # a socket that is left to the collector hangs whatever test runs then
            await main(ends)

    asyncio.run(closed())


def test_a_peer_that_waits_to_send_keeps_one_timer_and_not_one_a_message(
    supervisor: Supervisor, places: Places, worker: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        peer = await AsyncPeer.connect(places, worker.name)
        timers: list[asyncio.TimerHandle] = []
        loop, call_later = asyncio.get_running_loop(), asyncio.get_running_loop().call_later
        monkeypatch.setattr(loop, "call_later", lambda *given: timers.append(call_later(*given)) or timers[-1])
        full, send = True, sockets.send_frames

        def take(socket: object, frames: list[bytes]) -> None:
            """A socket whose mark is full for a while."""
            if full:
                raise zmq.Again
            send(socket, frames)  # type: ignore[arg-type]

        monkeypatch.setattr(sockets, "send_frames", take)
        for number in range(500):
            peer.post(Ready(free=number))
        assert sum(not timer.cancelled() for timer in timers) == 1
        full = False
        await until(lambda: len(supervisor.heard) == 500, lambda: supervisor.turn(0))
        assert supervisor.messages() == [Ready(free=number) for number in range(500)]
        peer.close()

    asyncio.run(main())


def test_progress_is_dropped_before_memory_is_full_and_results_never_are(
    places: Places, keys: Keys, worker: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "MARK", 10)
    result = Result(attempt="0" * 26, task="0" * 26, outcome="succeeded")

    async def main() -> None:
        push = await AsyncPush.connect(places, worker.name)
        for number in range(30):
            push.post(progress(number))
        await push.send(result)
        supervisor = Supervisor(places, keys)
        await until(lambda: result in supervisor.messages(), lambda: supervisor.turn(0))
        assert supervisor.messages() == [*(progress(number) for number in range(10)), result]
        push.close()
        supervisor.close()

    asyncio.run(main())


def test_a_peer_that_was_killed_is_gone_for_the_sender(supervisor: Supervisor, places: Places, worker: Peer) -> None:
    """In another process, so that it is the kernel that says so."""
    code = (
        "import asyncio, sys; from pathlib import Path; from producer.places import Places;"
        "from producer.wire.messages import Pong; from producer.wire.sockets import AsyncPeer\n"
        "async def main():\n"
        "    places = Places(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))\n"
        "    peer = await AsyncPeer.connect(places, sys.argv[5]); peer.post(Pong()); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    words = [places.ledger, places.key, places.state, places.runtime, worker.name]
    env = {**os.environ, "PYTHONPATH": str(Path(producer.__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], env=env)
    try:
        supervisor.until(lambda: supervisor.heard, 30)
        assert supervisor.server.send("tasks", worker.name.encode(), Ping())
    finally:
        child.kill()
        child.wait(10)
    supervisor.until(lambda: not supervisor.server.send("tasks", worker.name.encode(), Ping()))


# ---- the supervisor's wait


def test_waiting_ends_when_a_watched_descriptor_is_readable(supervisor: Supervisor) -> None:
    reader, writer = os.pipe()
    supervisor.server.watch(reader)
    assert supervisor.server.wait(0.01) == set()
    os.write(writer, b"x")
    assert supervisor.server.wait(SECONDS) == {reader}
    supervisor.server.unwatch(reader)
    assert supervisor.server.wait(0.01) == set()
    os.close(reader)
    os.close(writer)


def test_one_turn_takes_a_bounded_number_of_messages(supervisor: Supervisor, places: Places, worker: Peer) -> None:
    async def main() -> None:
        push = await AsyncPush.connect(places, worker.name)
        for number in range(4 * BATCH):
            push.post(progress(number))
        taken: list[int] = []

        def turn() -> None:
            supervisor.server.wait(0)
            taken.append(len(list(supervisor.server.receive(limit=4))))

        await until(lambda: sum(taken) == 4 * BATCH, turn)
        assert max(taken) <= BATCH, "one delivery that goes over the limit is taken, none after it"
        push.close()

    asyncio.run(main())


LARGE = encode(Reply(call="1", ok=True, result="x" * 500_000))  # more of them than a kernel keeps is soon there
MANY = 600


def test_who_sends_while_nobody_reads_is_held_up(supervisor: Supervisor, places: Places, worker: Peer) -> None:
    push, sent = dial(zmq.Context, zmq.PUSH, places, worker.name, "results"), 0
    push.sndhwm, push.immediate = 1, 1
    push.connect(places.address("results"))
    supervisor.until(lambda: push.poll(0, zmq.POLLOUT))  # the handshake needs the supervisor's turns
    while sent < MANY and push.poll(1000, zmq.POLLOUT):
        push.send_multipart(LARGE)
        sent += 1
    assert 100 < sent < 400, "a few hundred wait in the supervisor's memory, and no more"
    supervisor.server.wait(0)
    assert 0 < len(list(supervisor.server.receive())) < 50, "and a turn takes a few dozen of so large ones"
    push.context.destroy(0)


def test_what_leaves_together_arrives_in_order(supervisor: Supervisor, places: Places, worker: Peer) -> None:
    count = 3 * BATCH + 5

    async def main() -> None:
        peer, push = await AsyncPeer.connect(places, worker.name), await AsyncPush.connect(places, worker.name)
        peer.post(Ready(free=1))
        for number in range(count):
            push.post(progress(number))
        heard: list[Message] = []

        def turn() -> None:
            supervisor.server.wait(0)
            heard.extend(item.message for item in supervisor.server.receive() if isinstance(item, Incoming))

        await until(lambda: len(heard) == count + 1, turn)
        assert [item.data["n"] for item in heard if isinstance(item, Progress)] == list(range(count))
        answers = [Reply(call=str(number), ok=True) for number in range(count)]
        assert supervisor.server.send("tasks", worker.name.encode(), *answers)
        assert [await peer.recv() for _ in answers] == answers
        peer.close()
        push.close()

    asyncio.run(main())


def test_closing_removes_the_files(places: Places, keys: Keys) -> None:
    server = Server(places, keys)
    assert {path.name for path in places.runtime.iterdir()} == {"tasks", "results", "control", "events"}
    server.close(unlink=False)
    assert places.bound()
    Server(places, keys).close()
    assert list(places.runtime.iterdir()) == [] and not places.bound()


# ---- control and events


def test_a_question_is_answered_by_its_own_answer(supervisor: Supervisor, places: Places) -> None:
    def answer(item: Incoming) -> Message | None:
        request = item.message
        assert isinstance(request, Request) and item.peer.kind == "operator"
        if request.op == "silence":
            return None
        if request.op == "late":
            supervisor.server.send("control", item.address, Reply(call="0", ok=True, result="an older question's"))
        return Reply(
            call=request.call,
            ok=request.op != "bad",
            result=request.arguments,
            error="no" if request.op == "bad" else None,
        )

    supervisor.background(answer)
    control = Control(places)
    assert control.ask("good", {"a": [1]}).result == {"a": [1]}
    bad = control.ask("bad")
    assert (bad.ok, bad.error) == (False, "no")
    assert control.ask("late", {"x": 1}).result == {"x": 1}
    with pytest.raises(NoSupervisor, match="producerctl run"):
        control.ask("silence", seconds=0.2)
    assert control.ask("good", {"b": 2}).result == {"b": 2}
    control.close()


def test_several_operators_ask_at_once_and_each_gets_its_own(supervisor: Supervisor, places: Places) -> None:
    supervisor.background(lambda item: Reply(call=item.message.call, ok=True, result=item.message.arguments))  # type: ignore[attr-defined]
    wrong: list[object] = []

    def ask(number: int) -> None:
        control = Control(places)
        for turn in range(20):
            if control.ask("x", {"n": number, "t": turn}).result != {"n": number, "t": turn}:
                wrong.append(number)
        control.close()

    threads = [Thread(target=ask, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == [] and not any(thread.is_alive() for thread in threads)


def test_nobody_answers_where_nobody_is(places: Places, keys: Keys) -> None:
    control = Control(places)
    with pytest.raises(NoSupervisor):
        control.ask("status", seconds=0.1)
    began = time.monotonic()
    with pytest.raises(NoSupervisor):
        control.ask("status", seconds=3600, there=lambda: False)
    assert time.monotonic() - began < 60, "it waited on although the supervisor was known to be gone"
    control.close()


def test_events_reach_whoever_listens_and_nobody_else_is_waited_for(supervisor: Supervisor, places: Places) -> None:
    for number in range(100):
        supervisor.server.publish(Event(at=number, kind="unheard"))
    events = Events(places)
    got: list[Event] = []

    def heard() -> bool:
        supervisor.server.publish(Event(at=1, kind="cost", role="code", data={"cost_micros": 5}))
        found = events.next(0.01)
        got.extend([found] if found else [])
        return bool(got)

    supervisor.until(heard)
    assert got[0] == Event(at=1, kind="cost", role="code", data={"cost_micros": 5})
    while events.next(0.1):
        continue
    assert events.next(0) is None
    events.close()
