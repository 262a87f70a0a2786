"""The audit log for the world outside: checking it, and writing it where it can be checked without this program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import apsw

from producer.errors import InvalidTask, LedgerError, LedgerUnusable
from producer.ledger.audit import GENESIS, Head, Verdict, verify
from producer.ledger.views import Reader


def head(reader: Reader) -> Head:
    """The newest row of the log."""
    rows = reader.rows("SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1")
    return Head(*rows[0]) if rows else Head(0, GENESIS)


def read_head(path: Path) -> Head:
    """A head kept outside the database: `SEQ HEX`. Raises InvalidTask where the file holds none."""
    try:
        return Head.parse(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InvalidTask(
            f"{path}: holds no audit head (SEQ HEX, as `producerctl audit head` prints): {error}"
        ) from None


def check(reader: Reader, heads: Iterable[Head]) -> Verdict:
    """Recompute the chain, and check that every head is in it. A file that cannot be read to its end is not ok."""
    try:
        verdict = verify(reader.db)
        for one in sorted(heads, key=lambda head: head.seq):
            verdict = verify(reader.db, one) if verdict.ok else verdict
    except (apsw.Error, LedgerError) as error:
        return Verdict(False, 0, GENESIS.hex(), None, f"the ledger cannot be read: {error}")
    return verdict


def lines(reader: Reader) -> Iterator[str]:
    """Every row as a line of JSON: seq, chain as hex, and the body's exact text. Raises LedgerUnusable."""
    try:
        for seq, body, chain in reader.rows("SELECT seq, body, chain FROM audit ORDER BY seq"):
            text = bytes(body).decode("utf-8", "surrogateescape")  # a body that was tampered with may be anything
            yield json.dumps({"seq": seq, "chain": bytes(chain).hex(), "body": text})
    except (apsw.Error, LedgerError) as error:
        raise LedgerUnusable(f"the audit log cannot be read: {error}") from None
