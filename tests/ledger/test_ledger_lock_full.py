"""The lock on a disk that takes nothing."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from producer.errors import LedgerError
from producer.ledger.lock import Holder, Lock


def test_a_lock_whose_name_could_not_be_written_was_never_given_back(tmp_path: Path) -> None:
    """On a full disk the lock was taken, the error raised, and nobody could write until that process ended."""
    lock, me = Lock(tmp_path / "ledger.db.lock"), Holder("client", os.getpid(), time.time(), "1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(LedgerError, match="cannot be written"):
            lock.acquire(me)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    other = Lock(lock.path)
    assert other.holder() is None
    assert other.acquire(me)
    other.release()
