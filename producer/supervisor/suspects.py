"""Messages at which the loop broke: what keeps one of them from breaking it for ever.

1. A message whose handling raises what nobody foresaw takes the whole turn with it: the transaction is rolled back and
   the loop is built anew. A savepoint for every message would save that, and cost more than the message.
2. It may have been chance (no memory, no descriptors), so the message is tried once more. Then it is dropped.
3. A disk that is full is no message's fault: a LedgerError is blamed on none, but for values that SQLite refuses.
4. What a message changes is written together with what the others change (Database.defer). Where SQLite refuses a value
   then, nobody knows whose it is: from then on every message is written by itself.
5. What is known is known to this process; messages that differ by a byte are different ones.
"""

from __future__ import annotations

from hashlib import sha256

from producer.errors import LedgerError, LedgerRefused
from producer.wire.codec import encode
from producer.wire.server import Incoming, Malformed

TRIES = 2
_MOST = 1_000


class Suspects:
    """Outlives the loops of one process."""

    def __init__(self) -> None:
        self._failed: dict[bytes, int] = {}
        self._told: set[bytes] = set()
        self._news: str | None = None
        self.wary = False  # one of several messages was refused: have each written by itself

    def blame(self, item: Incoming | Malformed, error: Exception) -> None:
        """The loop broke at this one."""
        if isinstance(error, LedgerError) and not isinstance(error, LedgerRefused):
            return
        if len(self._failed) >= _MOST:
            self._failed.pop(next(iter(self._failed)))
        mark = _mark(item)
        self._failed[mark] = self._failed.get(mark, 0) + 1
        self._news = _words(item)

    def news(self) -> str | None:
        """What the loop broke at since this was last asked; None where no message is to blame."""
        found, self._news = self._news, None
        return found

    def drops(self, item: Incoming | Malformed) -> bool:
        """Whether this one had its tries."""
        return bool(self._failed) and self._failed.get(_mark(item), 0) >= TRIES

    def first(self, item: Incoming | Malformed) -> bool:
        """Whether it is dropped for the first time: whoever sends it again and again shall not fill the log."""
        mark = _mark(item)
        new = mark not in self._told
        self._told.add(mark)
        return new


def _mark(item: Incoming | Malformed) -> bytes:
    if isinstance(item, Malformed):
        return sha256(repr(item).encode(errors="replace")).digest()
    return sha256(b"\0".join([item.socket.encode(), item.peer.name.encode(), *encode(item.message)])).digest()


def _words(item: Incoming | Malformed) -> str:
    name = item.peer.name if item.peer else "unknown"
    kind = "Malformed" if isinstance(item, Malformed) else type(item.message).__name__
    return f"{kind} of {name} on {item.socket}"
