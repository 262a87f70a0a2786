"""A signed checkpoint of the audit log, in the form of C2SP's tlog-checkpoint and signed-note.

    ai-producer/01J0000000000000000000000    the origin: which log this is, and the name of its key
    1024                                     how many rows
    4ZyVl0Np...=                             the RFC 6962 root over them, in base64
                                             (an empty line)
    — ai-producer/01J... 4ZyVl0Np...=        the key's name, and 4 bytes of key id || 64 of Ed25519 signature

1. What is signed is the three lines with their newlines. They are written in one way only, so that a checkpoint that
   was taken apart is put together again byte for byte.
2. Lines of other signers (witnesses) may stand below; they are passed over.
3. The same in one line, for a journal or a phone: ORIGIN SIZE ROOT SIGNATURE.
4. A public key is NAME+ID+base64(0x01 || key), the private one PRIVATE+KEY+NAME+ID+base64(0x01 || seed).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from producer.core.merkle import HASH

ED25519 = b"\x01"
KEY_ID = 4
SIGNATURE = 64
_NAME = r"[A-Za-z0-9._/-]{1,200}"
_BASE64 = r"[A-Za-z0-9+/]{20,200}={0,2}"
_LINE = re.compile(rf"({_NAME}) (0|[1-9][0-9]{{0,17}}) ({_BASE64}) ({_BASE64})(?![!-~])")
_NOTE = re.compile(
    rf"^({_NAME})\n(0|[1-9][0-9]{{0,17}})\n({_BASE64})\n\n(?:— (?!\1 )\S+ \S+\n)*— \1 ({_BASE64})$", re.MULTILINE
)
_KEY = re.compile(rf"(PRIVATE\+KEY\+)?({_NAME})\+([0-9a-f]{{8}})\+({_BASE64})")


def _unbase(text: str, size: int) -> bytes:
    """Base64 of exactly ``size`` bytes, in its one form. Raises ValueError."""
    data = b64decode(text, validate=True)
    if len(data) != size or b64encode(data).decode() != text:
        raise ValueError(f"{text!r} is not base64 of {size} bytes")
    return data


@dataclass(frozen=True)
class Checkpoint:
    """What is signed: the first ``size`` rows of the log ``origin`` have this ``root``."""

    origin: str
    size: int
    root: bytes

    def text(self) -> bytes:
        """The bytes that are signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n".encode()


@dataclass(frozen=True)
class Signed:
    """A checkpoint with its log's signature. Whether that is genuine is for who knows the key to say."""

    checkpoint: Checkpoint
    key_id: bytes
    signature: bytes

    @property
    def size(self) -> int:
        """How many rows it is about."""
        return self.checkpoint.size

    def note(self) -> str:
        """As a signed note, with a newline at its end."""
        return f"{self.checkpoint.text().decode()}\n— {self.checkpoint.origin} {self._tail()}\n"

    def line(self) -> str:
        """In one line."""
        here = self.checkpoint
        return f"{here.origin} {here.size} {b64encode(here.root).decode()} {self._tail()}"

    def _tail(self) -> str:
        return b64encode(self.key_id + self.signature).decode()

    @classmethod
    def parse(cls, note: str) -> Signed:
        """The inverse of ``note``. Raises ValueError."""
        found = list(find(note))
        if len(found) != 1:
            raise ValueError("not a signed checkpoint")
        return found[0]


def find(text: str) -> Iterator[Signed]:
    """Every signed checkpoint in a text: notes, and checkpoints in one line, whatever stands around them."""
    text = text.replace("\\u2014", "—")  # as a terminal that knows no dash was given it
    for pattern in (_NOTE, _LINE):
        for origin, size, root, tail in pattern.findall(text):
            try:
                whole = _unbase(tail, KEY_ID + SIGNATURE)
                yield Signed(Checkpoint(origin, int(size), _unbase(root, HASH)), whole[:KEY_ID], whole[KEY_ID:])
            except ValueError:
                continue


@dataclass(frozen=True)
class Key:
    """A key by its name: ``raw`` is the public key's 32 bytes, or the seed of a private one."""

    name: str
    raw: bytes

    def id(self) -> bytes:
        """What a signature names a public key by."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.raw).digest()[:KEY_ID]

    def text(self) -> str:
        """A public key as text."""
        return f"{self.name}+{self.id().hex()}+{b64encode(ED25519 + self.raw).decode()}"

    def secret(self, public: Key) -> str:
        """A private key as text, with the id of its public one."""
        return f"PRIVATE+KEY+{self.name}+{public.id().hex()}+{b64encode(ED25519 + self.raw).decode()}"

    @classmethod
    def parse(cls, text: str, *, private: bool = False) -> Key:
        """The inverse of both. Raises ValueError."""
        found = _KEY.fullmatch(text.strip())
        if not found or bool(found[1]) is not private:
            raise ValueError(f"not a {'private' if private else 'public'} key of an audit log")
        data = _unbase(found[4], 1 + HASH)
        key = cls(found[2], data[1:])
        if data[:1] != ED25519 or not (private or key.id().hex() == found[3]):
            raise ValueError("not an Ed25519 key, or damaged")
        return key
