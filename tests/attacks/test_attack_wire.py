"""Whoever reaches a supervisor's sockets without a key that is worth anything: over loopback tcp that is everybody.

After every attack the same process still answers, a worker's task is done, and neither files nor memory have grown.
"""

from __future__ import annotations

import os
import resource
import socket as socket_
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import pytest
import zmq
from attack_rig import Impostor, filed, frames
from driving import Project, Supervisor, until

from producer.ids import new_id
from producer.wire.auth import Keys, Peer

SOCKETS = ("tasks", "results", "control", "events")
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0"
CURVE = GREETING + b"CURVE" + b"\0" * 47
HELLO = b"\x04\xc8\x05HELLO\x01\0" + b"\0" * 72 + b"\x11" * 120
MIB = 1 << 20
GROWTH = 40 * MIB  # room for what an allocator keeps; each of the floods would take more if nothing bounded it
_contexts: list[zmq.Context[Any]] = []


@pytest.fixture(scope="module", params=["ipc", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sound(besieged: Supervisor) -> Iterator[Supervisor]:
    """What must hold after an attack."""
    process = psutil.Process(besieged.pid)
    before, files = process.memory_info().rss, process.num_fds()
    yield besieged
    task = filed(besieged, "qa", "after the attack")
    besieged.until_status(task, "done")
    assert besieged.process.poll() is None and len(besieged.project.actions("producer_boot")) == 1, besieged.log()
    assert not besieged.status()["kill_switch"]["armed"]
    until(lambda: process.num_fds() <= files + 5, what=f"{files} open files again")
    assert process.memory_info().rss - before < GROWTH


def dial(supervisor: Supervisor, name: str) -> socket_.socket:
    kind, _, where = supervisor.project.places.address(name).partition("://")
    made = socket_.socket(socket_.AF_UNIX if kind == "ipc" else socket_.AF_INET)
    # Not settimeout: a Unix socket that need not wait is refused at once where a flood has filled the queue of arrivals.
    made.setsockopt(socket_.SOL_SOCKET, socket_.SO_SNDTIMEO, struct.pack("@ll", 10, 0))
    made.connect(where if kind == "ipc" else ("127.0.0.1", int(where.rpartition(":")[2])))
    made.settimeout(10)
    return made


def say(raw: socket_.socket, said: bytes) -> None:
    """It may be closed in the middle of it."""
    with suppress(OSError):
        raw.sendall(said)


def refused(raw: socket_.socket) -> bool:
    """Wait until the other end hangs up; False where it lets us wait."""
    raw.settimeout(20)
    try:
        while raw.recv(65536):
            continue
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


GARBAGE = {
    "noughts": b"\0" * 4096,
    "ones": b"\xff" * 4096,
    "another protocol": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20,
    "ZMTP of another age": b"\xff\0\0\0\0\0\0\0\x01\x7f\x01\x05\0\0",
    "no security": GREETING + b"NULL" + b"\0" * 48 + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
    "a password": GREETING + b"PLAIN" + b"\0" * 47 + b"\x04\x17\x05HELLO\x08operator\x08operator",
    "a name of no mechanism": GREETING + b"CURVE2" + b"\0" * 46,
    "a greeting for servers": GREETING + b"CURVE" + b"\0" * 15 + b"\x01" + b"\0" * 31,
    "a box that opens to nothing": CURVE + HELLO,
    "a message before the handshake": CURVE + b"\0\x04PRD1",
    "a command without an end": CURVE + b"\x06" + b"\x7f" + b"\xff" * 7 + b"x" * 100_000,
    "a command of length nought": CURVE + b"\x04\0" * 100,
    "READY at once": CURVE + b"\x04\x06\x05READY",
    "INITIATE at once": CURVE + b"\x06\0\0\0\0\0\0\x01\x09\x08INITIATE" + b"\x22" * 256,
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_who_speaks_nonsense_is_hung_up_on(sound: Supervisor, garbage: str) -> None:
    with ExitStack() as stack:
        for name in SOCKETS:
            for _ in range(5):
                raw = stack.enter_context(dial(sound, name))
                say(raw, GARBAGE[garbage])
                with suppress(OSError):
                    raw.shutdown(socket_.SHUT_WR)
                assert refused(raw)
        assert sound.status()["supervisor"]


def test_random_bytes_after_each_part_of_a_handshake(sound: Supervisor) -> None:
    for number in range(200):
        begun = (b"", GREETING, CURVE, CURVE + HELLO[:10])[number % 4]
        with dial(sound, SOCKETS[number // 4 % 4]) as raw:
            say(raw, begun + os.urandom(number * 7))
    assert sound.status()["supervisor"]


def test_who_begins_and_is_silent_is_cut_off_in_time(sound: Supervisor) -> None:
    crowd: list[socket_.socket] = []
    with ExitStack() as stack:
        for said in (b"", GREETING, CURVE, CURVE + HELLO[:50]):
            for name in SOCKETS * 6:
                crowd.append(stack.enter_context(dial(sound, name)))
                say(crowd[-1], said)
        assert sound.status()["supervisor"], "meanwhile it answers"
        sound.until_status(filed(sound, "qa", "meanwhile"), "done")
        assert all(refused(raw) for raw in crowd)


def test_a_slow_sender_has_no_more_time_than_a_silent_one(sound: Supervisor) -> None:
    with dial(sound, "control") as raw:
        raw.settimeout(0.2)
        deadline, hung_up = time.monotonic() + 30, False
        for byte in (CURVE + HELLO) * 10:
            try:
                raw.sendall(bytes([byte]))
                hung_up = raw.recv(1000) == b""
            except TimeoutError:
                pass
            except OSError:
                hung_up = True
            if hung_up or time.monotonic() > deadline:
                break
        assert hung_up


def test_a_crowd_that_says_nothing_leaves_room_for_the_others(sound: Supervisor) -> None:
    """More than a process may have files open on many systems, and more than are kept here at a time."""
    with ExitStack() as stack:
        for number in range(2600):
            say(stack.enter_context(dial(sound, SOCKETS[number % 4])), CURVE)
            if number % 500 == 0:
                assert sound.status()["supervisor"]
        assert sound.status()["supervisor"]
        sound.until_status(filed(sound, "qa", "in the crowd"), "done")
        assert psutil.Process(sound.pid).num_fds() < 2300


def test_connections_that_come_and_go(sound: Supervisor) -> None:
    for number in range(3000):
        with dial(sound, SOCKETS[number % 4]) as raw:
            if number % 2:
                say(raw, CURVE)
    assert sound.status()["supervisor"]


KEYS = {"one that nobody issued": None, "one that was taken back": "revoked", "for another server": "elsewhere"}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_is_worth_nothing(sound: Supervisor, key: str) -> None:
    keys, name = Keys(sound.project.places), new_id()
    public, secret = zmq.curve_keypair()
    server = keys.server().public
    if KEYS[key] is not None:
        keys.issue(Peer("worker", name, "code"))
        pair = keys.load(name)
        public, secret = pair.public, pair.secret
        if KEYS[key] == "elsewhere":
            server = zmq.curve_keypair()[0]
        else:
            keys.revoke(name)
    context: zmq.Context[Any] = zmq.Context()
    _contexts.append(context)
    before = len(sound.project.audit())
    for socket, kind in (("tasks", zmq.DEALER), ("results", zmq.PUSH), ("control", zmq.DEALER)) * 10:
        made = context.socket(kind)
        made.linger = 0
        made.curve_publickey, made.curve_secretkey, made.curve_serverkey = public, secret, server
        if socket == "tasks":
            made.identity = name.encode()
        made.connect(sound.project.places.address(socket))
        made.send_multipart(frames("Request", {"call": "1", "op": "stop", "arguments": {}}))
    events = context.socket(zmq.SUB)
    events.linger = 0
    events.curve_publickey, events.curve_secretkey, events.curve_serverkey = public, secret, server
    events.subscribe(b"")
    events.connect(sound.project.places.address("events"))
    filed(sound, "qa", "for whoever listens")
    assert not events.poll(700), "a stranger heard"
    said = [row for row in sound.project.audit()[before:] if row["action"] == "malformed_message"]
    assert said == [] and sound.process.poll() is None
    context.destroy(0)
    keys.revoke(name)


def test_a_flood_of_keys_that_nobody_issued_leaves_time_for_the_rest(sound: Supervisor) -> None:
    """Each of them is asked about in the loop: a thousand handshakes under way at any moment."""
    context: zmq.Context[Any] = zmq.Context()
    _contexts.append(context)
    server = Keys(sound.project.places).server().public
    for _ in range(300):
        made = context.socket(zmq.DEALER)
        made.linger = 0
        made.curve_serverkey = server
        made.curve_publickey, made.curve_secretkey = zmq.curve_keypair()
        made.setsockopt(zmq.RECONNECT_IVL, 1)
        made.connect(sound.project.places.address("control"))
    for _ in range(5):
        assert sound.status()["supervisor"]
    sound.until_status(filed(sound, "qa", "in the flood"), "done")
    context.destroy(0)


def test_a_message_that_is_over_the_limit_ends_its_connection_alone(sound: Supervisor, impostor: Impostor) -> None:
    for _ in range(20):
        impostor.results.send(b"PRD1", b"Progress", b"x" * (2 * MIB))
    assert impostor.call("get_task", task_id=impostor.task).ok


def test_large_messages_of_nonsense_by_who_has_a_key(sound: Supervisor, impostor: Impostor) -> None:
    before = len(sound.project.actions("malformed_message"))
    for _ in range(100):
        impostor.results.send(b"PRD1", b"Progress", b"[" * MIB)
    sound.until(lambda: len(sound.project.actions("malformed_message")) > before)
    assert impostor.call("get_task", task_id=impostor.task).ok


LOW = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""


def test_a_low_limit_on_open_files_is_raised_as_far_as_it_may_be(project: Project, supervise) -> None:
    supervisor = supervise(prelude=LOW).ready()
    soft, hard = psutil.Process(supervisor.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == (8192 if hard == resource.RLIM_INFINITY else min(8192, hard)) > 256
