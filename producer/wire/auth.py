"""Who may speak: CURVE keys, one for every worker, and the table from key to peer.

1. The server's key pair and every peer's lie under Places.keys, files of mode 0600 in a directory of mode 0700.
2. A peer file names what the key is for: an operator (producerctl, LedgerClient), the gateway, or one worker start with
   its role. A connection whose key has no file, or is of a kind that has no business on that socket (a worker on the
   control socket), is refused in the handshake.
3. The peer is read from the connection on every message. Nothing that a message says can change who sent it.
4. The files outlive the supervisor, so the next one knows the workers it adopts; they go when the worker is gone.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import zmq
from zmq.utils import z85

from producer.errors import WireError
from producer.places import Places

Kind = Literal["operator", "gateway", "worker"]
KINDS: dict[str, Kind] = {"operator": "operator", "gateway": "gateway", "worker": "worker"}
MAY_USE: dict[bytes, frozenset[Kind]] = {
    b"tasks": frozenset({"worker", "gateway"}),
    b"results": frozenset({"worker"}),
    b"control": frozenset({"operator"}),
    b"events": frozenset({"operator"}),
}
OPERATOR = "operator"
GATEWAY = "gateway"
_SERVER = "server"
_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
_Z85 = 40  # characters of a key
HANDSHAKES = 200  # that are answered in a turn of the loop
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)  # what reading a JSON file of another shape raises


@dataclass(frozen=True)
class Peer:
    """The authenticated other end of a connection. ``role`` is set for workers."""

    kind: Kind
    name: str
    role: str | None = None

    def user_id(self) -> str:
        """What the handshake attaches to every message of the connection."""
        return f"{self.kind}/{self.name}/{self.role or ''}"

    @classmethod
    @lru_cache(1024)
    def of_user_id(cls, text: str) -> Peer:
        """The inverse of ``user_id``. Raises ValueError."""
        kind, name, role = text.split("/", 2)
        return cls.of(kind, name, role)

    @classmethod
    def of(cls, kind: str, name: str, role: str) -> Peer:
        """From its three words; a role that is empty is none. Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is no kind of peer")
        return cls(KINDS[kind], name, role or None)


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair in Z85."""

    public: bytes
    secret: bytes


def write_private(path: Path, data: dict[str, str]) -> None:
    """A JSON file of mode 0600, all of it or none."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(data, file)
    temporary.replace(path)


class Keys:
    """The key files of one ledger."""

    def __init__(self, places: Places) -> None:
        self.directory = places.keys
        self._peers: dict[bytes, Peer] = {}

    def ensure(self) -> None:
        """Create the server's and the operator's keys where they are missing, or were cut off by a power loss."""
        for name, peer in ((_SERVER, None), (OPERATOR, Peer("operator", OPERATOR))):
            try:
                self.load(name)
            except WireError:
                self._create(name, peer)

    def issue(self, peer: Peer) -> None:
        """Make a key for a peer about to start; one that it had before is worth nothing from then on."""
        self._create(peer.name, peer)

    def revoke(self, name: str) -> None:
        """Forget the key of a peer that is gone."""
        self._file(name).unlink(missing_ok=True)
        self._forget(name)

    def load(self, name: str) -> KeyPair:
        """The key pair of a peer, by its name. Raises WireError where there is none."""
        try:
            data = json.loads(self._file(name).read_text())
            pair = KeyPair(data["public"].encode(), data["secret"].encode())
            if len(pair.public) != _Z85 or len(pair.secret) != _Z85:
                raise ValueError("it is not a key")
            return pair
        except (OSError, *_MALFORMED) as error:
            raise WireError(f"no usable key for {name} in {self.directory}: {error}") from None

    def server(self) -> KeyPair:
        """The supervisor's key pair."""
        return self.load(_SERVER)

    def names(self) -> list[str]:
        """The peers that have a key."""
        return [path.stem for path in self.directory.glob("*.key") if path.stem != _SERVER]

    def who(self, public: bytes) -> Peer | None:
        """The peer that owns a public key (Z85), None for a stranger."""
        if public not in self._peers:
            self._read()
        return self._peers.get(public)

    def _create(self, name: str, peer: Peer | None) -> None:
        self._forget(name)
        public, secret = zmq.curve_keypair()
        data = {"public": public.decode(), "secret": secret.decode()}
        if peer:
            data |= {"kind": peer.kind, "name": peer.name, "role": peer.role or ""}
            self._peers[public] = peer
        write_private(self._file(name), data)

    def _forget(self, name: str) -> None:
        self._peers = {key: peer for key, peer in self._peers.items() if peer.name != name}

    def _read(self) -> None:
        for path in self.directory.glob("*.key"):
            try:
                data = json.loads(path.read_text())
                self._peers[data["public"].encode()] = Peer.of(data["kind"], data["name"], data["role"])
            except (OSError, *_MALFORMED):
                continue  # the server's own key, or a file that is just going

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise WireError(f"{name!r} cannot be the name of a peer")
        return self.directory / f"{name}.key"


class Gatekeeper:
    """The ZAP handler: answers each CURVE handshake from the key files. Polled by the supervisor's own loop.

    A socket's ZAP domain is its name.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> None:
        self.keys = keys
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        """Answer the handshakes that wait, so many a turn that a flood of them leaves time for the rest."""
        for _ in range(HANDSHAKES):
            if not self.socket.poll(0):
                return
            version, request, domain, _address, _identity, mechanism, *credentials = self.socket.recv_multipart()
            peer = None
            if version == b"1.0" and mechanism == b"CURVE" and len(credentials) == 1:
                peer = self.keys.who(z85.encode(credentials[0]))
            if peer and peer.kind not in MAY_USE.get(domain, frozenset()):
                peer = None
            code, text, user = (b"200", b"OK", peer.user_id().encode()) if peer else (b"400", b"unknown key", b"")
            self.socket.send_multipart([b"1.0", request, code, text, user, b""])
