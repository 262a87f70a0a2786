"""Ten thousand random tamperings of a log: every one that touches a row up to the outside head is found; and the limits.

Somebody can write the ledger, knows the format and drops the triggers. He edits, deletes, swaps, inserts and cuts; he may
recompute the chain behind it, throw checkpoints away, or sign new ones with a key of his own under our name. Each result
is a real file, verified by the program, and a list of lines, verified by the checker of the standard library.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ledger_rig import Desk

from producer.core.checkpoint import Key, Signed
from producer.core.merkle import Frontier, leaf
from producer.ledger.audit import GENESIS, Head, link
from producer.ledger.signing import KeyRing, Signer
from producer.ledger.verify import Outside, Verdict, verify
from producer.ledger.views import Reader

ROWS = 90
FEW, MANY = 400, 10_000
Rows = list[tuple[int, bytes, bytes]]
Notes = list[tuple[int, str, bytes]]


def checker() -> Any:
    """The program that goes with an export."""
    with resources.as_file(resources.files("producer").joinpath("templates", "verify_audit.py")) as path:
        spec = importlib.util.spec_from_file_location("verify_audit", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


CHECKER = checker()


@dataclass
class Log:
    """A log as it was written: its file without the triggers, what is in it, and the key that signed it."""

    file: Path
    rows: Rows
    notes: Notes
    signer: Signer
    heads: dict[int, Signed] = field(default_factory=dict)

    @property
    def ring(self) -> KeyRing:
        return KeyRing([self.signer.public])

    def head(self, size: int) -> Signed:
        """The head that was taken elsewhere when the log had so many rows."""
        if size not in self.heads:
            self.heads[size] = sign(self.signer, self.rows, size)
        return self.heads[size]

    def verify(self, rows: Rows, notes: Notes, heads: list[Outside]) -> Verdict:
        """The program's verdict on a file that holds this instead."""
        copy = self.file.with_name("tampered.db")
        shutil.copyfile(self.file, copy)
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("DELETE FROM audit")
            connection.execute("DELETE FROM checkpoints")
            connection.executemany("INSERT INTO audit (seq, body, chain) VALUES (?, ?, ?)", rows)
            connection.executemany("INSERT INTO checkpoints VALUES (?, ?, ?)", notes)
        with Reader(copy) as reader:
            return verify(reader.db, heads, self.ring)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log of ROWS rows with a checkpoint now and then, by the store itself."""
    directory = tmp_path_factory.mktemp("log")
    desk, random = Desk(directory), Random(7)
    while desk.audit.head().seq < ROWS:
        with desk.transaction():
            for _ in range(random.randint(1, 4)):
                number = desk.audit.head().seq
                desk.audit.append(
                    "something", "me", task=f"t{number}", cost=number, text="words " * random.randint(0, 9)
                )
            if random.random() < 0.3:
                desk.checkpoints.sign()
    signer = desk.checkpoints.signer
    assert signer is not None
    desk.close()
    file = directory / "ledger.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view')"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        # Without the generated columns, which read every body as JSON.
        connection.execute("CREATE TABLE plain (seq INTEGER PRIMARY KEY, body BLOB, chain BLOB)")
        connection.execute("INSERT INTO plain SELECT seq, body, chain FROM audit")
        connection.execute("DROP TABLE audit")
        connection.execute("ALTER TABLE plain RENAME TO audit")
        connection.commit()
        rows = connection.execute("SELECT seq, body, chain FROM audit ORDER BY seq").fetchall()
        notes = connection.execute("SELECT size, note, frontier FROM checkpoints ORDER BY size").fetchall()
    assert len(rows) >= ROWS and len(notes) > 5
    return Log(file, rows, notes, signer)


def frontier(rows: Rows, size: int) -> Frontier:
    found = Frontier()
    found.extend(leaf(body) for _, body, _ in rows[:size])
    return found


def sign(signer: Signer, rows: Rows, size: int) -> Signed:
    return signer.sign(size, frontier(rows, size).root())


def rechained(rows: Rows) -> Rows:
    """Numbered anew, with the chain that belongs to it."""
    result, previous = [], GENESIS
    for seq, (_, body, _) in enumerate(rows, 1):
        previous = link(previous, seq, body)
        result.append((seq, body, previous))
    return result


def resigned(signer: Signer, rows: Rows, sizes: list[int]) -> Notes:
    return [(n, sign(signer, rows, n).note(), frontier(rows, n).pack()) for n in sizes if 0 < n <= len(rows)]


# ---- what is done to the rows; each works on a list in place, at or before ``most``


def flipped(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def edit(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    seq, body, chain = rows[at]
    rows[at] = (seq, flipped(random, body), chain)


def rewrite(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    try:
        before = json.loads(rows[at][1])
    except ValueError:  # it was flipped before
        edit(random, rows, most)
        return
    body = before | {"actor": "you", "at": f"20{random.randrange(99):02}-01-01T00:00:00Z"}
    rows[at] = (rows[at][0], json.dumps(body, sort_keys=True).encode(), rows[at][2])


def edit_the_chain(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    seq, body, chain = rows[at]
    rows[at] = (seq, body, flipped(random, chain))


def delete(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    del rows[at : at + random.randint(1, 3)]


def cut(random: Random, rows: Rows, most: int) -> None:
    del rows[random.randrange(most) :]


def swap(random: Random, rows: Rows, most: int) -> None:
    one, two = random.randrange(most), random.randrange(len(rows))
    (a, first, b), (c, second, d) = rows[one], rows[two]
    rows[one], rows[two] = (a, second, b), (c, first, d)


def repeat(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    rows[at:] = [rows[random.randrange(len(rows))], *rows[at:]]
    rows[:] = [(seq, body, chain) for seq, (_, body, chain) in enumerate(rows, 1)]


def renumber(random: Random, rows: Rows, most: int) -> None:
    at = random.randrange(most)
    rows[at] = (random.choice([-1, 0, len(rows) + 9, 10**9]), *rows[at][1:])


WAYS: tuple[Callable[[Random, Rows, int], None], ...] = (
    edit, rewrite, edit_the_chain, delete, cut, swap, repeat, renumber,
)  # fmt: skip


def tampered(random: Random, log: Log, head: int) -> tuple[Rows, Notes]:
    """What somebody made of the log, another log than before somewhere in its first ``head`` rows."""
    for _ in range(50):
        rows = list(log.rows)
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            random.choice(WAYS)(random, rows, max(1, min(head, len(rows)))) if rows else None
        rows.sort()
        if random.random() < 0.6:
            rows = rechained(rows)
        if rows[:head] != log.rows[:head] and len({row[0] for row in rows}) == len(rows):
            break
    else:
        raise AssertionError("fifty tries changed nothing")
    notes = list(log.notes)
    match random.randrange(4):
        case 0:
            notes = []
        case 1:
            notes = [note for note in notes if note[0] <= len(rows)]
        case 2:  # a key of his own, under our name
            forger = Signer(Key(log.signer.public.name, random.randbytes(32)))
            notes = resigned(forger, rows, [note[0] for note in notes])
    return rows, notes


def lines(rows: Rows) -> Iterator[str]:
    """The rows as an export has them."""
    for seq, body, chain in rows:
        yield json.dumps({"seq": seq, "chain": chain.hex(), "body": body.decode("utf-8", "surrogateescape")})


def battery(log: Log, trials: range) -> None:
    for trial in trials:
        random = Random(trial)
        size = random.randint(1, len(log.rows))
        rows, notes = tampered(random, log, size)
        head: Outside = log.head(size) if random.random() < 0.7 else Head(size, log.rows[size - 1][2])
        verdict = log.verify(rows, notes, [head])
        assert not verdict.ok and verdict.problem and verdict.first_bad_seq is not None, f"trial {trial}"
        roots = {size: {head.checkpoint.root}} if isinstance(head, Signed) else {}
        chains = {size: head.chain.hex()} if isinstance(head, Head) else {}
        assert CHECKER.check(lines(rows), roots, chains)[2], f"trial {trial}: the checker of the export"


def test_the_log_as_it_was_is_in_order(log: Log) -> None:
    every: list[Outside] = [log.head(size) for size in range(1, len(log.rows) + 1)]
    verdict = log.verify(log.rows, log.notes, [*every, *(Head(seq, chain) for seq, _, chain in log.rows)])
    assert verdict.ok and verdict.proven == len(log.rows) and verdict.signed == log.notes[-1][0]
    roots = {size: {log.head(size).checkpoint.root} for size in range(1, len(log.rows) + 1)}
    assert CHECKER.check(lines(log.rows), roots, {})[2] is None


def test_hundreds_of_random_tamperings_are_found(log: Log) -> None:
    battery(log, range(FEW))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_random_tamperings_are_found(log: Log) -> None:
    battery(log, range(MANY))


@pytest.mark.parametrize("trial", range(100))
def test_a_checkpoint_that_was_changed_is_found_without_any_head(log: Log, trial: int) -> None:
    random = Random(trial)
    notes = list(log.notes)
    at = random.randrange(len(notes))
    size, note, peaks = notes[at]
    match random.randrange(4):
        case 0:
            where = random.randrange(len(note))
            changed = note[:where] + random.choice("Aa1+/\n ".replace(note[where], "")) + note[where + 1 :]
            notes[at] = (size, changed, peaks)
        case 1:
            notes[at] = (size, note, flipped(random, peaks))
        case 2:
            notes[at] = (size, notes[at - 1][1], notes[at - 1][2])
        case 3:
            notes.append((len(log.rows) + random.randint(1, 1000), note, peaks))
    assert not log.verify(log.rows, notes, []).ok


# ---- the limits, exactly


@pytest.mark.parametrize("trial", range(30))
def test_limit_rows_after_the_last_outside_head_can_be_rewritten(log: Log, trial: int) -> None:
    """By somebody who can write the ledger and every file of this user's, and has not even the key."""
    random = Random(trial)
    size = random.randint(1, len(log.rows) - 1)
    kept, end = log.rows[:size], log.rows[size:]
    rewrite(random, end, len(end))
    rows = rechained([*kept, *end])
    notes = [note for note in log.notes if note[0] <= size]
    assert rows != log.rows
    assert log.verify(rows, notes, [log.head(size)]).ok, "nothing tells"
    later = next(seq for seq, (now, before) in enumerate(zip(rows, log.rows, strict=True), 1) if now != before)
    assert not log.verify(rows, notes, [log.head(size), log.head(later)]).ok, "a head of that row does"
    left = [note for note in log.notes if note[0] >= later]
    if left:
        assert not log.verify(rows, log.notes, [log.head(size)]).ok, "so does a checkpoint that was left"


@pytest.mark.parametrize("trial", range(30))
def test_limit_who_holds_the_key_can_fork_up_to_the_outside_head(log: Log, trial: int) -> None:
    random = Random(trial)
    rows = list(log.rows)
    at = random.randrange(len(rows))
    rows[at] = (at + 1, flipped(random, rows[at][1]), b"")
    rows = rechained(rows)
    notes = resigned(log.signer, rows, [note[0] for note in log.notes])
    assert log.verify(rows, notes, []).ok, "all of it signed by the right key"
    for size in {1, max(at, 1), at + 1, random.randint(1, len(rows)), len(rows)}:
        verdict = log.verify(rows, notes, [log.head(size)])
        assert verdict.ok is (size <= at), f"a head of row {size} tells of row {at + 1}"


def test_limit_checkpoints_that_are_thrown_away_are_not_missed_by_the_rows(log: Log) -> None:
    assert log.verify(log.rows, [], []).ok
    assert log.verify(log.rows, log.notes[::2], []).ok


def test_a_head_of_another_key_proves_nothing(log: Log) -> None:
    forger = Signer(Key(log.signer.public.name, bytes(32)))
    verdict = log.verify(log.rows, log.notes, [sign(forger, log.rows, 40)])
    assert not verdict.ok and "not known" in (verdict.problem or "") and verdict.first_bad_seq == 40
