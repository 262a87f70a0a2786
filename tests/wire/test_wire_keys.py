"""Who may speak: the key decides, in the handshake, on every socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket as socket_
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import zmq
from wire_rig import Supervisor

from producer.errors import WireError
from producer.ids import new_id
from producer.places import Places
from producer.wire.auth import GATEWAY, MAY_USE, OPERATOR, Keys, Peer
from producer.wire.client import Control
from producer.wire.codec import encode
from producer.wire.messages import Ping, Ready, Request
from producer.wire.sockets import AsyncPeer


class Dialer:
    """A client that may use any key and any name: what an attacker under another role would do."""

    def __init__(self, places: Places, keys: Keys) -> None:
        self.places, self.server = places, keys.server().public
        self.context = zmq.Context()
        self.sockets: list[Any] = []

    def dial(
        self,
        socket: str,
        pair: tuple[bytes, bytes] | None,
        identity: bytes = b"",
        kind: int = zmq.DEALER,
        user: bytes = b"",
    ) -> Any:
        made = self.context.socket(kind)
        self.sockets.append(made)
        made.linger = 0
        if pair:
            made.curve_publickey, made.curve_secretkey, made.curve_serverkey = *pair, self.server
        if user:
            made.plain_username = made.plain_password = user
        if identity:
            made.identity = identity
        made.connect(self.places.address(socket))
        return made

    def close(self) -> None:
        self.context.destroy(0)


@pytest.fixture
def dialer(places: Places, keys: Keys) -> Iterator[Dialer]:
    made = Dialer(places, keys)
    yield made
    made.close()


def pair(keys: Keys, name: str) -> tuple[bytes, bytes]:
    found = keys.load(name)
    return found.public, found.secret


@pytest.fixture
def worker(keys: Keys) -> Peer:
    """A worker of role code with a key."""
    peer = Peer("worker", new_id(), "code")
    keys.issue(peer)
    return peer


@pytest.fixture(params=["ipc", "tcp"])
def over(request: pytest.FixtureRequest) -> str:
    """The sockets over loopback tcp too: the keys must be enough, without private files."""
    return str(request.param)


# ---- the handshake


@pytest.mark.usefixtures("over")
@pytest.mark.parametrize("socket", ["tasks", "results", "control"])
@pytest.mark.parametrize("how", ["stranger", "no key", "a password", "wrong server"])
def test_a_stranger_is_not_heard(supervisor: Supervisor, dialer: Dialer, worker: Peer, socket: str, how: str) -> None:
    kind = zmq.PUSH if socket == "results" else zmq.DEALER
    given = None if how in ("no key", "a password") else zmq.curve_keypair()
    if how == "wrong server":
        dialer.server = zmq.curve_keypair()[0]
    user = b"operator" if how == "a password" else b""
    made = dialer.dial(socket, given, worker.name.encode(), kind, user)
    made.send_multipart(encode(Ping()))
    supervisor.for_a_while()
    assert supervisor.heard == [] and supervisor.refused == []


@pytest.mark.usefixtures("over")
@pytest.mark.parametrize("socket", ["tasks", "results", "control"])
@pytest.mark.parametrize("kind", ["worker", "gateway", "operator"])
def test_a_key_opens_only_the_sockets_of_its_kind(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer, socket: str, kind: str
) -> None:
    keys.issue(Peer("gateway", GATEWAY))
    name = {"worker": worker.name, "gateway": GATEWAY, "operator": OPERATOR}[kind]
    made = dialer.dial(socket, pair(keys, name), name.encode(), zmq.PUSH if socket == "results" else zmq.DEALER)
    made.send_multipart(encode(Ping()))
    if kind in MAY_USE[socket.encode()]:
        supervisor.until(lambda: supervisor.heard)
        peer = supervisor.heard[0].peer
        assert (peer.kind, peer.name, peer.role) == (kind, name, "code" if kind == "worker" else None)
    else:
        supervisor.for_a_while()
        assert supervisor.heard == []


@pytest.mark.usefixtures("over")
def test_the_peer_is_that_of_the_key_whatever_the_connection_calls_itself(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer
) -> None:
    other = Peer("worker", new_id(), "qa")
    keys.issue(other)
    for name in (other.name, GATEWAY, OPERATOR, "x"):
        made = dialer.dial("tasks", pair(keys, worker.name), name.encode())
        made.send_multipart(encode(Ready(free=1)))
    dialer.dial("tasks", pair(keys, worker.name)).send_multipart(encode(Ready(free=1)))
    supervisor.until(lambda: len(supervisor.refused) == 5)
    assert supervisor.heard == []
    assert {item.peer for item in supervisor.refused} == {worker}
    assert all("calls itself" in item.problem for item in supervisor.refused)


@pytest.mark.usefixtures("over")
def test_a_worker_cannot_have_anothers_mail_once_that_is_connected(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer
) -> None:
    other = Peer("worker", new_id(), "qa")
    keys.issue(other)
    honest = dialer.dial("tasks", pair(keys, other.name), other.name.encode())
    honest.send_multipart(encode(Ping()))
    supervisor.until(lambda: supervisor.heard)
    thief = dialer.dial("tasks", pair(keys, worker.name), other.name.encode())
    thief.send_multipart(encode(Ping()))
    supervisor.for_a_while()
    assert supervisor.server.send("tasks", other.name.encode(), Ping())
    assert honest.poll(5000) and not thief.poll(100)
    assert [item.peer for item in supervisor.heard] == [other]


@pytest.mark.usefixtures("over")
def test_events_are_for_operators_only(supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer) -> None:
    eavesdropper = dialer.dial("events", pair(keys, worker.name), kind=zmq.SUB)
    eavesdropper.subscribe(b"")
    listener = dialer.dial("events", pair(keys, OPERATOR), kind=zmq.SUB)
    listener.subscribe(b"")
    from producer.wire.messages import Event

    def published() -> bool:
        supervisor.server.publish(Event(at=0, kind="x"))
        return bool(listener.poll(10))

    supervisor.until(published)
    for _ in range(20):
        supervisor.server.publish(Event(at=0, kind="x"))
        supervisor.turn()
    assert not eavesdropper.poll(200)


@pytest.mark.usefixtures("over")
def test_a_revoked_or_replaced_key_is_worth_nothing(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer
) -> None:
    old = pair(keys, worker.name)
    dialer.dial("tasks", old, worker.name.encode()).send_multipart(encode(Ping()))
    supervisor.until(lambda: supervisor.heard)
    keys.issue(worker)
    supervisor.heard.clear()
    dialer.dial("results", old, kind=zmq.PUSH).send_multipart(encode(Ping()))
    supervisor.for_a_while()
    assert supervisor.heard == []
    new = pair(keys, worker.name)
    dialer.dial("results", new, kind=zmq.PUSH).send_multipart(encode(Ping()))
    supervisor.until(lambda: supervisor.heard)
    keys.revoke(worker.name)
    supervisor.heard.clear()
    dialer.dial("results", new, kind=zmq.PUSH).send_multipart(encode(Ping()))
    supervisor.for_a_while()
    assert supervisor.heard == [] and keys.who(new[0]) is None


def test_the_next_supervisor_knows_the_workers_of_the_one_before(places: Places, keys: Keys, worker: Peer) -> None:
    assert Keys(places).who(keys.load(worker.name).public) == worker
    assert Keys(places).who(zmq.curve_keypair()[0]) is None
    assert sorted(Keys(places).names()) == sorted([OPERATOR, worker.name])


@pytest.mark.usefixtures("over")
def test_messages_that_are_malformed_are_reported_with_who_sent_them(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer
) -> None:
    made = dialer.dial("tasks", pair(keys, worker.name), worker.name.encode())
    bad: list[list[bytes]] = [
        [b""], [b"PRD1", b"Ping"], [b"PRD9", b"Ping", b"{}"], [b"PRD1", b"Ping", b"{"], [b"PRD1", b"Fly", b"{}"],
        [b"PRD1", b"Ping", b"{}", b""], [b"PRD1", b"Ready", b'{"free": 1e999}'],
    ]  # fmt: skip
    for frames in bad:
        made.send_multipart(frames)
    made.send_multipart(encode(Ping()))
    supervisor.until(lambda: supervisor.heard)
    assert [item.peer for item in supervisor.refused] == [worker] * len(bad)
    assert "unknown message type b'Fly'" in {item.problem for item in supervisor.refused}


@pytest.mark.usefixtures("over")
def test_a_message_over_the_limit_ends_the_connection_and_not_the_server(
    supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer
) -> None:
    made = dialer.dial("results", pair(keys, worker.name), kind=zmq.PUSH)
    made.send_multipart([b"PRD1", b"Ping", b"x" * (2 << 20)])
    supervisor.for_a_while()
    assert supervisor.heard == [] and supervisor.refused == [], "it is not even read"
    dialer.dial("results", pair(keys, worker.name), kind=zmq.PUSH).send_multipart(encode(Ping()))
    supervisor.until(lambda: supervisor.heard)


NO_HANDSHAKE = [
    b"",
    b"\0" * 64,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE",
    b"\xff" * 100_000,
]


@pytest.mark.parametrize("said", NO_HANDSHAKE, ids=range(len(NO_HANDSHAKE)))
@pytest.mark.usefixtures("over")
def test_who_begins_a_handshake_and_never_ends_it_holds_up_nobody(
    places: Places, supervisor: Supervisor, dialer: Dialer, keys: Keys, worker: Peer, said: bytes
) -> None:
    with ExitStack() as stack:
        for _ in range(50):
            kind, _, where = places.address("results").partition("://")
            raw = stack.enter_context(socket_.socket(socket_.AF_UNIX if kind == "ipc" else socket_.AF_INET))
            raw.settimeout(10)
            raw.connect(where if kind == "ipc" else ("127.0.0.1", int(where.rpartition(":")[2])))
            with suppress(OSError):  # it may be closed in the middle of it
                raw.sendall(said)
        dialer.dial("results", pair(keys, worker.name), kind=zmq.PUSH).send_multipart(encode(Ping()))
        supervisor.until(lambda: supervisor.heard)
        assert [item.peer for item in supervisor.heard] == [worker] and supervisor.refused == []


# ---- the files


def test_keys_lie_in_private_files_in_a_private_directory(places: Places, keys: Keys, worker: Peer) -> None:
    assert places.keys.stat().st_mode & 0o777 == 0o700
    files = list(places.keys.iterdir())
    assert len(files) == 3 and all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_keys_that_are_there_are_kept_and_broken_ones_made_anew(places: Places, keys: Keys) -> None:
    before = keys.server(), keys.load(OPERATOR)
    keys.ensure()
    assert (keys.server(), keys.load(OPERATOR)) == before
    (places.keys / "server.key").write_text("")
    (places.keys / "operator.key").write_text('{"public": 5}')
    again = Keys(places)
    again.ensure()
    assert again.server() != before[0] and again.who(again.load(OPERATOR).public) == Peer("operator", OPERATOR)


def test_a_missing_key_and_a_key_of_nonsense_are_errors_of_ours(places: Places, keys: Keys) -> None:
    with pytest.raises(WireError, match="no usable key for nobody"):
        keys.load("nobody")
    for text in ("", "{", "[]", "5", '{"public": 1, "secret": 2}'):
        (places.keys / "nobody.key").write_text(text)
        with pytest.raises(WireError):
            keys.load("nobody")
        assert keys.who(zmq.curve_keypair()[0]) is None


def test_a_key_file_that_names_another_kind_is_nobodys(places: Places, keys: Keys) -> None:
    public, secret = zmq.curve_keypair()
    data = {"public": public.decode(), "secret": secret.decode(), "kind": "king", "name": "x", "role": ""}
    (places.keys / "x.key").write_text(json.dumps(data))
    assert keys.who(public) is None


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", ".."])
def test_a_name_cannot_leave_the_directory(places: Places, keys: Keys, name: str) -> None:
    before = sorted(places.state.rglob("*"))
    with pytest.raises(WireError):
        keys.issue(Peer("worker", name, "code"))
    with pytest.raises(WireError):
        keys.load(name)
    assert sorted(places.state.rglob("*")) == before


@pytest.mark.usefixtures("over")
@pytest.mark.parametrize(
    "peer", [Peer("operator", "operator"), Peer("worker", "w", "code"), Peer("worker", "w", "a/b")]
)
def test_a_peer_comes_out_of_the_handshake_as_it_went_in(peer: Peer) -> None:
    assert Peer.of_user_id(peer.user_id()) == peer


@pytest.mark.parametrize("text", ["", "worker", "worker/x", "king/x/y"])
def test_a_user_id_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Peer.of_user_id(text)


def test_without_keys_nobody_can_even_dial(places: Places) -> None:
    with pytest.raises(WireError):
        Control(places)

    async def dial() -> None:
        with pytest.raises(WireError):
            await AsyncPeer.connect(places, new_id())

    asyncio.run(dial())


def test_sockets_are_reachable_only_by_their_owner(places: Places, supervisor: Supervisor) -> None:
    assert places.runtime.stat().st_mode & 0o777 == 0o700
    assert places.runtime.stat().st_uid == os.geteuid()
    assert Request(call="1", op="x").op == "x"
