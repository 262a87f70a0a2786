"""Opening, refusing, committing, rolling back: what the file goes through, a power cut included."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from ledger_rig import Clock, Desk, process

from producer.errors import InvalidTask, LedgerBusy, LedgerError, LedgerRefused, LedgerUnusable
from producer.ledger import LedgerClient, Reader, Store, create_ledger
from producer.ledger.audit import Head
from producer.ledger.verify import verify
from producer.ledger.whose import APPLICATION_ID, SCHEMA_VERSION

OLD = "CREATE TABLE tasks (id TEXT); CREATE TABLE audit_log (id INTEGER); CREATE TABLE budget (id INTEGER);"


def not_a_database(path: Path) -> None:
    path.write_bytes(b"once upon a time" * 400)


def too_short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('soup')")


def foreign_with_an_application_id(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE recipes (name TEXT); PRAGMA application_id = 77; PRAGMA user_version = 1"
        )


def newer(path: Path) -> None:
    Store(path, head_file=None).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def of_03(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + OLD)


STRANGERS = {
    not_a_database: "cannot be opened",
    too_short: "cannot be opened",
    foreign: "not a ledger of ai-producer",
    foreign_with_an_application_id: "not a ledger of ai-producer",
    newer: f"schema {SCHEMA_VERSION + 1}",
    of_03: "producerctl migrate",
}
OPENERS: dict[str, Callable[[Path], object]] = {
    "store": lambda path: Store(path, head_file=None),
    "reader": Reader,
    "client": LedgerClient,
    "create": create_ledger,
}


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize("make", STRANGERS, ids=lambda make: make.__name__)
def test_a_file_that_is_no_ledger_of_ours_is_refused_and_left_as_it_was(
    tmp_path: Path, make: Callable[[Path], None], opener: str
) -> None:
    path = tmp_path / "ledger.db"
    make(path)
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    with pytest.raises(LedgerUnusable, match=STRANGERS[make]):
        OPENERS[opener](path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


@pytest.mark.parametrize("opener", OPENERS)
def test_a_03_ledger_in_use_whose_tables_are_still_in_its_log_is_refused(tmp_path: Path, opener: str) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;" + OLD)
        before = path.read_bytes()
        with pytest.raises(LedgerUnusable, match="producerctl migrate"):
            OPENERS[opener](path)
        assert path.read_bytes() == before
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (0,)


def test_a_directory_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()
    for open_it in OPENERS.values():
        with pytest.raises(LedgerUnusable):
            open_it(tmp_path / "ledger.db")


def test_an_empty_file_is_filled_by_a_writer_and_refused_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(LedgerUnusable, match="empty"):
        Reader(path)
    with LedgerClient(path) as client:
        client.insert_task(agent_owner="code", title="t", description="d")


def test_a_reader_of_nothing_says_what_creates_it(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnusable, match="producerctl init"):
        Reader(tmp_path / "ledger.db")
    with pytest.raises(LedgerUnusable):
        LedgerClient(tmp_path / "ledger.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_it_opens_again_as_it_was_closed(tmp_path: Path) -> None:
    first = Desk(tmp_path)
    task = first.add()
    first.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["audit.head", "ledger.db"]
    second = Desk(tmp_path)
    assert second.actions() == ["schema_init", "task_inserted"]
    assert second.column(task, "status") == "pending"
    assert second.db.value("PRAGMA application_id") == APPLICATION_ID
    second.close()


# ---- transactions


def test_a_transaction_has_one_moment(desk: Desk) -> None:
    with desk.transaction():
        desk.audit.append("a", "x")
        desk.time.now += 5
        desk.audit.append("b", "x")
    stamps = {row[0] for row in desk.db.rows("SELECT timestamp FROM audit_log WHERE action IN ('a', 'b')")}
    assert len(stamps) == 1


def test_an_exception_undoes_everything(desk: Desk) -> None:
    with pytest.raises(KeyboardInterrupt), desk.transaction():
        desk.set_meta("a", "1")
        raise KeyboardInterrupt
    assert desk.meta("a") is None


def test_a_savepoint_undoes_its_part_alone_also_when_nested(desk: Desk) -> None:
    with desk.transaction():
        desk.set_meta("a", "1")
        with pytest.raises(ValueError), desk.db.savepoint():
            desk.set_meta("b", "1")
            with desk.db.savepoint():
                desk.set_meta("c", "1")
            raise ValueError
        with desk.db.savepoint():
            desk.set_meta("d", "1")
    assert [desk.meta(key) for key in "abcd"] == ["1", None, None, "1"]


def test_a_change_outside_a_transaction_is_refused(desk: Desk) -> None:
    with pytest.raises(LedgerError, match="no transaction"):
        desk.set_meta("a", "1")
    with pytest.raises(LedgerError, match="no transaction"), desk.db.savepoint():
        pass
    assert desk.meta("a") is None


def test_a_transaction_within_another_is_refused_and_the_outer_one_goes_on(desk: Desk) -> None:
    with desk.transaction():
        desk.set_meta("a", "1")
        with pytest.raises(LedgerError, match="already"), desk.transaction():
            pass
        desk.set_meta("b", "1")
    assert (desk.meta("a"), desk.meta("b")) == ("1", "1")


def test_what_follows_a_transaction_that_sqlite_gave_up_by_itself_does_not_commit_alone(desk: Desk) -> None:
    """An I/O error can make SQLite roll everything back on its own, in the middle of a batch that goes on."""
    before = desk.audit.head()
    desk.db._connection.execute(
        "CREATE TEMP TRIGGER gives_up BEFORE INSERT ON meta WHEN NEW.key = 'bad'"
        " BEGIN SELECT raise(ROLLBACK, 'disk I/O error'); END"
    )
    with pytest.raises(LedgerError), desk.transaction():
        desk.set_meta("before", "1")
        desk.audit.append("before", "x")
        with pytest.raises(LedgerError, match="I/O"), desk.db.savepoint():
            desk.set_meta("bad", "1")
        with pytest.raises(LedgerError, match="no transaction"):
            desk.set_meta("after", "1")
    assert (desk.meta("before"), desk.meta("after")) == (None, None)
    assert desk.audit.head() == before
    desk.add("goes on")
    assert verify(desk.db, [desk.audit.kept()]).ok


def test_a_full_disk_undoes_the_part_that_met_it_and_nothing_is_half_written(desk: Desk) -> None:
    desk.db.value(f"PRAGMA max_page_count = {desk.db.value('PRAGMA page_count') + 4}")
    with desk.transaction():
        desk.set_meta("before", "1")
        with pytest.raises(LedgerError, match="full"), desk.db.savepoint():
            for number in range(1000):
                desk.audit.append("fill", "x", filler="x" * 4000, number=number)
    assert desk.meta("before") == "1" and "fill" not in desk.actions()
    desk.db.value("PRAGMA max_page_count = 1000000")
    desk.add("goes on")
    assert verify(desk.db, [desk.audit.kept()]).ok


def test_what_sqlite_raises_arrives_as_our_own_error(desk: Desk) -> None:
    for call in (desk.db.one, desk.db.rows, desk.db.dicts, desk.db.value):
        with pytest.raises(LedgerError):
            call("SELECT nonsense FROM nowhere")


def test_another_program_that_locks_the_file_is_named_as_busy(desk: Desk, tmp_path: Path) -> None:
    desk.db._connection.set_busy_timeout(50)
    with process("begin", tmp_path / "ledger.db"), pytest.raises(LedgerBusy), desk.transaction():
        raise AssertionError("the transaction began")
    desk.add("afterwards")


# ---- backups and crashes


def test_a_backup_is_the_whole_ledger_and_overwrites_nothing(desk: Desk, tmp_path: Path) -> None:
    task = desk.add()
    desk.db.backup(tmp_path / "copy.db")
    desk.add("later")
    with Reader(tmp_path / "copy.db") as reader:
        assert [row["id"] for row in reader.list()] == [task]
        assert verify(reader.db).ok
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(LedgerError, match="backup"):
        desk.db.backup(tmp_path / "copy.db")


def test_sigkill_loses_no_commit_that_was_reported(tmp_path: Path) -> None:
    path, head = tmp_path / "ledger.db", tmp_path / "audit.head"
    for wanted in (40, 70):
        with process("commit", path, head) as child:
            reported = [int(child.stdout.readline()) for _ in range(wanted)]
            child.kill()
            rest = child.stdout.read().split("\n")[:-1]
        newest = int((rest or [reported[-1]])[-1])
        store = Desk(tmp_path)
        kept = store.audit.kept()
        assert kept is not None and kept.seq >= newest - 1
        verdict = verify(store.db, [kept])
        assert verdict.ok and verdict.rows >= newest
        assert "audit_head_mismatch" not in store.actions()
        store.close()


def test_a_lost_log_is_noticed_at_the_next_opening_and_written_down(tmp_path: Path) -> None:
    """A WAL that was lost in a power cut reopens without an error, as a shorter, valid chain."""
    store = Desk(tmp_path)
    store.add("kept")
    store.close()
    saved = (tmp_path / "ledger.db").read_bytes()
    store = Desk(tmp_path)
    lost = store.add("lost")
    newest = store.audit.head()
    store.close()
    (tmp_path / "ledger.db").write_bytes(saved)

    store = Desk(tmp_path)
    row = store.db.one("SELECT detail FROM audit_log WHERE action = 'audit_head_mismatch'")
    assert row is not None and newest.text() in row[0]
    assert [pending.kind for pending in store.outbox.due(store.db.now)] == ["notice"]
    assert store.db.one("SELECT 1 FROM tasks WHERE id = ?", lost) is None
    assert verify(store.db).ok and not verify(store.db, [newest]).ok
    store.close()
    again = Desk(tmp_path)
    assert again.actions().count("audit_head_mismatch") == 1
    again.close()


def test_a_head_file_that_cannot_be_written_does_not_undo_a_commit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    before = desk.audit.kept()
    with monkeypatch.context() as patch:
        patch.setattr("producer.ledger.audit.os.pwrite", full)
        task = desk.add("committed")
    assert desk.column(task, "status") == "pending"
    assert desk.audit.kept() == before
    desk.add("next")
    assert desk.audit.kept() == desk.audit.head()


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Path]:
    store = Desk(tmp_path, Clock())
    for number in range(200):
        store.add(f"task {number}", description="x" * 500)
    store.close()
    path = tmp_path / "ledger.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 40_000] = b"\xa5" * 40_000
    path.write_bytes(data)
    return path


def test_a_damaged_page_is_our_error_and_no_traceback_of_sqlites(damaged: Path) -> None:
    with Reader(damaged) as reader, pytest.raises(LedgerError):
        reader.list()
        verify(reader.db)
        reader.rows("PRAGMA integrity_check")
        reader.rows("SELECT * FROM tasks ORDER BY description")


def test_the_head_is_parsed_strictly() -> None:
    head = Head(7, bytes(range(32)))
    assert Head.parse(head.text()) == head
    for text in ("", "7", "7 abc", f"-1 {'00' * 32}", f"7 {'00' * 31}", f"x {'00' * 32}"):
        with pytest.raises(ValueError):
            Head.parse(text)


def test_an_error_inside_apsw_is_never_raised_through_the_door(desk: Desk) -> None:
    with pytest.raises(LedgerRefused) as caught, desk.transaction():
        desk.db.run("INSERT INTO meta VALUES ('k', NULL)")
    assert isinstance(caught.value.__cause__, apsw.Error) and not isinstance(caught.value, InvalidTask)
