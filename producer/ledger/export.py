"""The audit log for the world outside: checking it, and writing it where it can be checked without this program."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import apsw

from producer.core import checkpoint
from producer.errors import InvalidTask, LedgerError, LedgerUnusable
from producer.ledger.audit import GENESIS, Head
from producer.ledger.checkpoints import every
from producer.ledger.signing import KeyRing
from producer.ledger.verify import Outside, Verdict, verify
from producer.ledger.views import Reader

HEADS_BYTES = 64 << 20
ROWS, CHECKPOINTS, KEYS, CHECKER = "audit.jsonl", "checkpoints.jsonl", "audit.pub", "verify_audit.py"


def head(reader: Reader) -> Head:
    """The newest row of the log."""
    rows = reader.rows("SELECT seq, chain FROM audit ORDER BY seq DESC LIMIT 1")
    return Head(*rows[0]) if rows else Head(0, GENESIS)


def read_heads(path: Path) -> list[Outside]:
    """The heads in a file: signed checkpoints as notes or in one line, or one `SEQ HEX`. Raises InvalidTask."""
    try:
        with path.open("rb") as file:
            text = file.read(HEADS_BYTES).decode("utf-8", "replace")
        found: list[Outside] = list(dict.fromkeys(checkpoint.find(text)))
        return found or [Head.parse(text.strip("\x00\n "))]
    except OSError as error:
        raise InvalidTask(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InvalidTask(f"{path}: holds no audit head, as `producerctl audit head` prints it: {error}") from None


def check(reader: Reader, heads: Iterable[Outside], ring: KeyRing | None = None) -> Verdict:
    """Recompute the log, and check that every head is in it. A file that cannot be read to its end is not ok."""
    try:
        return verify(reader.db, heads, ring)
    except (apsw.Error, LedgerError) as error:
        return Verdict(False, 0, GENESIS.hex(), None, f"the ledger cannot be read: {error}")


def lines(reader: Reader) -> Iterator[str]:
    """Every row as a line of JSON: seq, chain as hex, and the body's exact text. Raises LedgerUnusable."""
    after = -(2**63)
    sql = "SELECT seq, body, chain FROM audit WHERE seq >= ? ORDER BY seq LIMIT 10000"
    try:
        while page := reader.rows(sql, after):
            for seq, body, chain in page:
                text = bytes(body).decode("utf-8", "surrogateescape")  # a body that was tampered with may be anything
                yield json.dumps({"seq": seq, "chain": bytes(chain).hex(), "body": text})
            after = page[-1][0] + 1
    except (apsw.Error, LedgerError, TypeError) as error:
        raise LedgerUnusable(f"the audit log cannot be read: {error}") from None


def write(reader: Reader, ring: KeyRing, directory: Path) -> tuple[int, int]:
    """Write rows, checkpoints, public keys and the checker into a directory; how many rows and checkpoints.

    Checkpoints are read first: what they cover is in the rows then. Raises LedgerUnusable, OSError.
    """
    signed = list(every(reader.db))
    with (directory / CHECKPOINTS).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"size": one.size, "note": one.note}) + "\n" for one in signed)
    count = 0
    with (directory / ROWS).open("w", encoding="utf-8") as file:
        for line in lines(reader):
            file.write(line + "\n")
            count += 1
    (directory / KEYS).write_text("".join(f"{key.text()}\n" for key in ring.keys), encoding="ascii")
    checker = resources.files("producer").joinpath("templates", CHECKER).read_text(encoding="utf-8")
    (directory / CHECKER).write_text(checker, encoding="utf-8")
    return count, len(signed)
