"""The keys of the audit log's checkpoints: Ed25519, outside the project and out of the agents' reach.

1. The private key is $CREDENTIALS_DIRECTORY/audit.key (systemd's LoadCredential) where there is one, else audit.key in
   the private state directory, made at the first checkpoint: mode 0600, whole or not at all.
2. Every public key that ever signed here is a line of audit.pub beside it. What another key signed is not genuine.
3. A key is its log's name: the origin of its checkpoints is minted with it, and with a new key a new name begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from producer.core.checkpoint import Checkpoint, Key, Signed
from producer.errors import AuditKeyUnusable
from producer.ids import new_id

PRIVATE = "audit.key"
PUBLIC = "audit.pub"


class Signer:
    """Signs with one private key."""

    def __init__(self, secret: Key) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(secret.raw)
        self.public = Key(secret.name, self._key.public_key().public_bytes_raw())

    def sign(self, size: int, root: bytes) -> Signed:
        """The checkpoint of the first ``size`` rows, whose root this is."""
        made = Checkpoint(self.public.name, size, root)
        return Signed(made, self.public.id(), self._key.sign(made.text()))


class KeyRing:
    """The public keys that are trusted."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)

    def problem(self, signed: Signed) -> str | None:
        """Why a checkpoint's signature is not genuine; None where it is."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        origin = signed.checkpoint.origin
        for key in self.keys:
            if (key.name, key.id()) == (origin, signed.key_id):
                try:
                    Ed25519PublicKey.from_public_bytes(key.raw).verify(signed.signature, signed.checkpoint.text())
                    return None
                except (InvalidSignature, ValueError):
                    return f"its signature is not the one of {origin}"
        return f"it is signed by a key that is not known here ({origin}, {signed.key_id.hex()})"

    @classmethod
    def read(cls, state: Path, more: Iterable[Key] = ()) -> KeyRing:
        """The keys of audit.pub in the private state directory, and ``more``. A line that is no key is none."""
        return cls([*_known(state), *more])


def fresh() -> str:
    """A new private key with a new name, as text."""
    secret = Key(f"ai-producer/{new_id()}", os.urandom(32))
    return secret.secret(Signer(secret).public)


def load(state: Path, env: Mapping[str, str] = os.environ) -> Signer:
    """The key that signs here, made where there is none; its public key is among the known ones then.

    Raises AuditKeyUnusable where the file is no key, or cannot be read or made.
    """
    credentials = env.get("CREDENTIALS_DIRECTORY")
    path = Path(credentials) / PRIVATE if credentials else state / PRIVATE
    if credentials and not path.exists():
        path = state / PRIVATE
    try:
        if path.parent == state and not path.exists():
            _write(path, fresh() + "\n")
        signer = Signer(Key.parse(path.read_text("ascii"), private=True))
        known = _known(state)
        if signer.public not in known:
            _write(state / PUBLIC, "".join(f"{key.text()}\n" for key in [*known, signer.public]))
    except (OSError, ValueError) as error:
        raise AuditKeyUnusable(path, str(error)) from None
    return signer


def _known(state: Path) -> list[Key]:
    try:
        lines = (state / PUBLIC).read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Key.parse(line))
        except ValueError:
            continue
    return found


def _write(path: Path, text: str) -> None:
    """A private file, whole and on the disk, or as it was."""
    fresh_ = path.with_name(f".{path.name}.{os.getpid()}")
    fresh_.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh_, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh_.replace(path)
