"""Verifying the audit log: all of it in one pass, or its end at a start.

1. One pass checks the chain, the root and the signature of every checkpoint, and every head from outside, whatever
   their number: a root is taken where the pass comes by.
2. Rows up to the last head from outside are proven by it. What comes after is proven by the ledger's own checkpoints,
   as far as nobody has the key; and behind the last of those by the chain alone, which anybody can recompute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from producer.core.checkpoint import Signed
from producer.core.merkle import Frontier
from producer.ledger import audit_old
from producer.ledger.audit import GENESIS, Head, link
from producer.ledger.checkpoints import Stored, every, kept, newest
from producer.ledger.database import Database, Row
from producer.ledger.signing import KeyRing

Outside: TypeAlias = Head | Signed
Stop: TypeAlias = Callable[[bytes, Frontier], str | None]
_PAGE = 10_000


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    ``signed``: rows that the newest checkpoint covers; ``proven``: rows that the newest head from outside covers;
    ``rows_0_3``: of a log taken over from 0.3; ``note``: what was wrong with that then.
    """

    ok: bool
    rows: int
    head: str
    first_bad_seq: int | None = None
    problem: str | None = None
    rows_0_3: int = 0
    note: str | None = None
    checkpoints: int = 0
    signed: int = 0
    proven: int = 0


@dataclass
class _Pass:
    """The state of one pass: what it has come by, and what waits at which row."""

    chain: bytes = GENESIS
    frontier: Frontier = field(default_factory=Frontier)
    stops: defaultdict[int, list[Stop]] = field(default_factory=lambda: defaultdict(list))

    def over(self, page: list[Row]) -> tuple[int, str] | None:
        """Go over rows that follow; the first that is wrong, and why. It then stands before that row."""
        chain, expected, leaves, stops, wrong = self.chain, self.frontier.size + 1, [], self.stops, None
        for seq, body, stored in page:
            if seq != expected:
                wrong = expected, f"row {expected} is missing"
                if seq < expected:
                    wrong = seq, f"row {seq} is out of place"
                break
            if not isinstance(body, bytes):
                wrong = seq, f"row {seq} does not match its chain value"
                break
            leaf = sha256(b"\x00" + body).digest()
            here = sha256(b"\x02" + chain + seq.to_bytes(8, "big") + leaf).digest()
            if here != stored:
                wrong = seq, f"row {seq} does not match its chain value"
                break
            chain = here
            leaves.append(leaf)
            expected += 1
            if seq in stops:
                self.frontier.extend(leaves)
                leaves.clear()
                wrong = next(((seq, found) for stop in stops.pop(seq) if (found := stop(chain, self.frontier))), None)
                if wrong:
                    break
        self.frontier.extend(leaves)
        self.chain = chain
        return wrong


def verify(db: Database, heads: Iterable[Outside] = (), ring: KeyRing | None = None) -> Verdict:
    """Recompute the whole log; check that every head from outside is in it, and every checkpoint of the ledger's.

    ``ring``: whose signatures count; None leaves the signatures unread (the roots are compared all the same). A log
    taken over from 0.3 is checked by 0.3's rule, and against what the first row of the chain says of it.
    """
    going = _Pass()
    outside, stored = sorted(heads, key=_size), list(every(db))
    for head in outside:
        going.stops[_size(head)].append(_of_outside(head))
    for checkpoint in stored:
        going.stops[checkpoint.size].append(_of_stored(checkpoint))
    wrong = next(filter(None, map(going.over, _rows(db))), None)
    rows, chain = going.frontier.size, going.chain.hex()
    wrong = wrong or _at_nothing(going) or _gone(going, rows) or _unsigned(outside, stored, ring)
    if wrong:
        return Verdict(False, min(rows, max(wrong[0] - 1, 0)), chain, *wrong)
    old, problem = audit_old.problem(db)
    bad = old.broken is not None and problem is None
    note = f"row {old.broken} of the 0.3 log did not match its hash when it was taken over" if bad else None
    return Verdict(
        problem is None, rows, chain, None, problem, old.rows, note, checkpoints=len(stored),
        signed=stored[-1].size if stored else 0, proven=_size(outside[-1]) if outside else 0,
    )  # fmt: skip


def _size(head: Outside) -> int:
    return head.seq if isinstance(head, Head) else head.size


def _of_outside(head: Outside) -> Stop:
    def stop(chain: bytes, frontier: Frontier) -> str | None:
        if isinstance(head, Head):
            return None if head.chain == chain else f"row {head.seq} is not the one that the outside head names"
        same = head.checkpoint.root == frontier.root()
        return None if same else f"the first {head.size} rows are not those that the outside head names"

    return stop


def _of_stored(checkpoint: Stored) -> Stop:
    def stop(chain: bytes, frontier: Frontier) -> str | None:
        return mismatch(checkpoint, frontier)

    return stop


def mismatch(checkpoint: Stored, frontier: Frontier) -> str | None:
    """What is wrong with a checkpoint of the ledger's, the frontier of its rows being known; its signature aside."""
    where = f"the checkpoint of row {checkpoint.size}"
    try:
        signed = Signed.parse(checkpoint.note)
    except (ValueError, TypeError):
        return f"{where} cannot be read"
    if (signed.size, signed.checkpoint.root) != (checkpoint.size, frontier.root()):
        return f"{where} has another root than the rows"
    return None if checkpoint.frontier == frontier.pack() else f"{where} has another frontier than the rows"


def _at_nothing(going: _Pass) -> tuple[int, str] | None:
    """A head of no rows at all names the start of every log."""
    for stop in going.stops.pop(0, []):
        if found := stop(GENESIS, Frontier()):
            return 1, found
    return None


def _gone(going: _Pass, rows: int) -> tuple[int, str] | None:
    """Heads that the pass never came by name rows that are not there."""
    if not going.stops:
        return None
    last = max(going.stops)
    return rows + 1, f"the last {last - rows} rows are gone: head {last}"


def _unsigned(outside: list[Outside], stored: list[Stored], ring: KeyRing | None) -> tuple[int, str] | None:
    """The first signature that is not genuine. One stored note may stand for many heads: each text is checked once."""
    if ring is None:
        return None
    named = [("the outside head", head) for head in outside if isinstance(head, Signed)]
    named += [("the checkpoint", Signed.parse(checkpoint.note)) for checkpoint in stored]
    for signed in dict.fromkeys(signed for _, signed in named):
        if problem := ring.problem(signed):
            what = next(what for what, one in named if one == signed)
            return signed.size, f"{what} of row {signed.size}: {problem}"
    return None


def _rows(db: Database, first: int = -(2**63)) -> Iterator[list[Row]]:
    """Every row from a number on, in pages, so that a log of millions is not held in memory."""
    after = first
    while page := db.rows("SELECT seq, body, chain FROM audit WHERE seq >= ? ORDER BY seq LIMIT ?", after, _PAGE):
        yield page
        after = page[-1][0] + 1


# ---- the end alone


@dataclass(frozen=True)
class Tail:
    """The log's end: the newest checkpoint, the rows behind it, what is wrong with them."""

    checkpoint: Stored | None
    rows: int
    problem: str | None


def tail(db: Database, state: Path) -> Tail:
    """Check the newest checkpoint, the rows behind it and what is kept beside the ledger. Milliseconds at any length.

    Says nothing of rows before the checkpoint: their chain and their roots are for ``verify``.
    """
    checkpoint = newest(db)
    size = checkpoint.size if checkpoint else 0
    last, wrong = _of_rows(db, size)
    problem = _of_checkpoint(checkpoint, state) or wrong or _of_kept(db, state)
    return Tail(checkpoint, max(0, last - size), problem)


def _of_checkpoint(checkpoint: Stored | None, state: Path) -> str | None:
    if checkpoint is None:
        return None
    try:
        frontier = Frontier.unpack(checkpoint.size, checkpoint.frontier)
    except (ValueError, TypeError):
        return f"the checkpoint of row {checkpoint.size} has no frontier"
    if problem := mismatch(checkpoint, frontier):
        return problem
    problem = KeyRing.read(state).problem(Signed.parse(checkpoint.note))
    return f"the checkpoint of row {checkpoint.size}: {problem}" if problem else None


def _of_rows(db: Database, size: int) -> tuple[int, str | None]:
    """The last good row from the checkpoint's on, and what is wrong with the next."""
    good = max(size, 1) - 1
    chain = db.value("SELECT chain FROM audit WHERE seq = ?", good) if good else GENESIS
    for page in _rows(db, good + 1):
        for seq, body, stored in page:
            if seq != good + 1:
                return good, f"row {good + 1} is missing"
            if not (isinstance(chain, bytes) and isinstance(body, bytes) and link(chain, seq, body) == stored):
                return good, f"row {seq} does not match its chain value"
            good, chain = seq, stored
    if good >= size:
        return good, None
    there = int(db.value("SELECT coalesce(max(seq), 0) FROM audit"))
    return there, f"the last {size - there} rows are gone: checkpoint {size}"


def _of_kept(db: Database, state: Path) -> str | None:
    """The checkpoint beside the ledger must be one of the ledger's."""
    signed = kept(state)
    if signed is None:
        return None
    stored = newest(db, signed.size + 1)
    if stored is not None and stored.size == signed.size:
        same = stored.note == signed.note()
        return None if same else f"the checkpoint of row {signed.size} is not the one that is kept outside the ledger"
    return f"the checkpoint of row {signed.size} that is kept outside the ledger is not in it"
