"""The lock beside the ledger: one holder, seen by everyone, given back however it dies."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from ledger_rig import process

from producer.ledger.lock import Holder, Lock
from producer.places import Places


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the lock of a ledger in this test's directory lies."""
    return Places.of(tmp_path / "ledger.db").lock


def me(kind: str = "client") -> Holder:
    return Holder(kind, os.getpid(), time.time(), "test")  # type: ignore[arg-type]


def test_a_second_process_is_refused_and_told_who_holds_it(path: Path, tmp_path: Path) -> None:
    with process("hold", tmp_path / "ledger.db", "supervisor") as child:
        lock = Lock(path)
        assert not lock.acquire(me())
        holder = lock.holder()
        assert holder is not None and (holder.kind, holder.pid) == ("supervisor", child.pid)
        assert str(holder) == f"supervisor pid {child.pid}"


def test_sigkill_frees_it(path: Path, tmp_path: Path) -> None:
    with process("hold", tmp_path / "ledger.db", "supervisor") as child:
        child.kill()
        child.wait(10)
        lock = Lock(path)
        assert "supervisor" in path.read_text() and lock.holder() is None
        assert lock.acquire(me())
        assert lock.holder() is not None
        lock.release()


def test_what_is_given_back_can_be_taken_again_and_names_nobody(path: Path) -> None:
    first, second = Lock(path), Lock(path)
    assert first.acquire(me()) and not second.acquire(me())
    first.release()
    first.release()
    assert second.holder() is None and path.read_text() == ""
    assert second.acquire(me("supervisor"))
    assert json.loads(path.read_text())["kind"] == "supervisor"
    second.release()


def test_asking_who_holds_it_does_not_make_it_look_taken(path: Path) -> None:
    """Asking takes the lock for a moment; whoever wanted it in that moment was refused."""
    asking = threading.Event()

    def ask() -> None:
        while not asking.is_set():
            Lock(path).holder()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        lock = Lock(path)
        for _ in range(300):
            assert lock.acquire(me())
            lock.release()
    finally:
        asking.set()
        thread.join(10)


def test_there_is_no_holder_without_a_file_and_an_unnamed_one_with_nonsense(path: Path) -> None:
    assert Lock(path).holder() is None
    lock = Lock(path)
    assert lock.acquire(me())
    for text in ("", "{", "[]", '{"kind": "client"}'):
        path.write_text(text)
        holder = Lock(path).holder()
        assert holder is not None and (holder.kind, holder.pid) == ("client", 0)
    lock.release()


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        Lock(path).acquire(me())
    assert not (tmp_path / "elsewhere").exists()
