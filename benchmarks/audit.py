"""How fast the audit log is verified, whole and at its end, and what a checkpoint costs.

    python benchmarks/audit.py [--rows 3000000] [--rounds 5]

The log is made by the store itself, with rows as a task leaves them and a signed checkpoint every 1,000 rows. Rates are
per second of CPU time of one process, the median of the rounds; beside them stands how fast the same machine hashes,
so that a figure means something elsewhere. `verify` is the chain, the Merkle roots and every signature in one pass;
`start` is what a supervisor does with the log before it serves.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from harness import head, table

from producer.ids import new_id
from producer.ledger import Reader, Store
from producer.ledger.export import read_heads
from producer.ledger.signing import KeyRing
from producer.ledger.verify import tail, verify

EVERY = 1000


def fill(ledger: Path, rows: int) -> tuple[float, float]:
    """Make a log; microseconds of CPU a row without and for its checkpoints."""
    store = Store(ledger, head_file=ledger.with_name("audit.head"))
    appending = signing = 0.0
    while (left := rows - store.audit.head().seq) > 0:
        began = time.process_time()
        with store.transaction():
            for _ in range(min(EVERY, left)):
                store.audit.append("dispatch", "code", task=new_id(), attempt=new_id(), number=1, model="claude-x")
            store.db.rows("SELECT 1")  # the rows are in the database now
            middle = time.process_time()
            store.checkpoints.sign()
            signing += time.process_time() - middle
        appending += middle - began
    store.close()
    return appending * 1e6 / rows, signing * 1e6 / rows


def median(work: Callable[[], object], rounds: int) -> float:
    """Seconds of CPU time."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found)


def hashes(number: int) -> None:
    """As many hashes as a row needs: leaf, chain, and one of the tree."""
    value = bytes(32)
    for _ in range(number * 3):
        value = sha256(value + value).digest()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    head("Audit")
    with tempfile.TemporaryDirectory() as scratch:
        ledger = Path(scratch) / "ledger.db"
        row, checkpoint = fill(ledger, given.rows)
        store = Store(ledger, head_file=ledger.with_name("audit.head"))
        with store.transaction():  # behind the newest checkpoint: as many rows as there ever are
            for _ in range(EVERY - 1):
                store.audit.append("dispatch", "code", task=new_id(), attempt=new_id(), number=1, model="claude-x")
        store.close()
        ring, heads = KeyRing.read(ledger.parent), read_heads(ledger.with_name("audit.checkpoint"))
        with Reader(ledger) as reader:
            chain = median(lambda: verify(reader.db), given.rounds)
            whole = median(lambda: verify(reader.db, heads * 3, ring), given.rounds)
            assert verify(reader.db, heads, ring).ok
            start = median(lambda: tail(reader.db, ledger.parent), max(20, given.rounds))
            assert tail(reader.db, ledger.parent).problem is None
        bare = median(lambda: hashes(given.rows), given.rounds)
    rate, share = given.rows / whole, bare / whole
    print(f"A log of {given.rows:,} rows with {given.rows // EVERY:,} checkpoints.\n")
    rows = [
        ("verify, rows a second of processor time", f"{given.rows / chain:,.0f}", "150,000"),
        ("verify with three heads and every signature", f"{rate:,.0f}, {share:.2f} x bare hashing", "150,000"),
        (f"start, {EVERY - 1} rows of tail, ms", f"{start * 1e3:.2f}", "10"),
        ("append a row, us; its share of the checkpoints", f"{row:.2f}; {checkpoint:.2f}", ""),
    ]
    table(("measured", "figure", "target"), rows)


if __name__ == "__main__":
    main()
