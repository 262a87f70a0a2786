"""The Merkle tree of RFC 6962 over the audit log, computed as the log grows.

    MTH({})  = SHA-256()                    leaf = SHA-256(0x00 || body)
    MTH(n)   = SHA-256(0x01 || left || right), the left tree being the largest full one

1. What has to be kept of a log of n rows is one hash for each bit that is set in n: the roots of the full trees that it
   falls into, the largest first. A new leaf joins the trees of its size, as a carry runs through a binary counter.
2. A root over n rows commits to every body and to their order; it says nothing of what comes after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH = 32
EMPTY = sha256(b"").digest()


def leaf(body: bytes) -> bytes:
    """The hash of a row's body."""
    return sha256(b"\x00" + body).digest()


def node(left: bytes, right: bytes) -> bytes:
    """The hash of two trees side by side."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The full trees that a log of ``size`` rows falls into, and so its root."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        self.size = size
        self._peaks = list(peaks)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaf hashes. About one more hash for each of them."""
        peaks, size = self._peaks, self.size
        for joined in leaves:
            tree, carry = joined, size
            while carry & 1:
                tree = sha256(b"\x01" + peaks.pop() + tree).digest()
                carry >>= 1
            peaks.append(tree)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """The root over all rows so far."""
        if not self._peaks:
            return EMPTY
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node(peak, root)
        return root

    def pack(self) -> bytes:
        """The trees' roots one after another, the largest first."""
        return b"".join(self._peaks)

    @classmethod
    def unpack(cls, size: int, data: bytes) -> Frontier:
        """The inverse of ``pack`` for a log of ``size`` rows. Raises ValueError."""
        if size < 0 or len(data) != HASH * size.bit_count():
            raise ValueError(f"{len(data)} bytes are no frontier of {size} rows")
        return cls(size, [data[at : at + HASH] for at in range(0, len(data), HASH)])
