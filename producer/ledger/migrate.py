"""Taking a ledger of ai-producer 0.3 over: `producerctl migrate`.

    hold -> copy -> build -> compare -> keep the copy as the backup -> put the new ledger in place

1. The ledger's lock and an exclusive lock of SQLite are held from the first look to the last rename (original.py).
2. Everything is read from a copy, which becomes the backup: LEDGER.0.3-TIME.bak, private, complete on its own.
3. The new ledger is built in a file beside the old one and takes its place, in one rename, only after the comparison.
   Whatever fails before leaves the old ledger as it was, and no file behind; what a kill leaves, the next run removes.
4. A ledger that is ours already is left alone. A rehearsal does everything but the last two steps.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from producer.errors import LedgerBusy, LedgerError, LedgerUnusable, SupervisorRunning
from producer.ids import new_id
from producer.ledger import audit_old
from producer.ledger.audit import Audit, Head, keep_head
from producer.ledger.checkpoints import FILE as CHECKPOINT
from producer.ledger.compare import Comparison, compare
from producer.ledger.database import Database
from producer.ledger.lock import Holder, Lock
from producer.ledger.original import Original
from producer.ledger.takeover_report import Report
from producer.ledger.transfer import Source, Transfer, transfer
from producer.ledger.verify import verify
from producer.ledger.whose import generation
from producer.places import Places
from producer.version import __version__


@dataclass(frozen=True)
class Options:
    """``actor``: for the audit log. ``rehearse``: put nothing in place. ``broken_log``: take a broken old log too."""

    actor: str = "operator"
    rehearse: bool = False
    broken_log: bool = False


def migrate(
    path: Path | str,
    options: Options = Options(),
    *,
    clock: Callable[[], float] = time.time,
    ids: Callable[[], str] = new_id,
) -> Report:
    """Take the ledger at ``path`` over. Raises LedgerError, SupervisorRunning; then the ledger is as it was."""
    path = Path(path).resolve()
    if not path.exists():
        raise LedgerUnusable(f"{path} does not exist, so there is nothing to migrate")
    lock = Lock(Places.of(path).lock)
    try:
        if not lock.acquire(Holder("client", os.getpid(), clock(), __version__)):
            return _held(path, lock)
        try:
            return _already(path) if _is_ours(path) else _take_over(path, options, clock, ids)
        finally:
            lock.release()
    except apsw.BusyError as error:
        raise LedgerBusy(f"{path} is locked by another program: {error}; it was not touched") from error
    except (apsw.Error, UnicodeError) as error:
        raise LedgerUnusable(f"{path} cannot be migrated: {error}; it was not touched") from error
    except OSError as error:
        raise LedgerError(f"{path} was not migrated and is as it was: {error}") from error


def _is_ours(path: Path) -> bool:
    kind = generation(path)
    if kind == "none":
        raise LedgerUnusable(f"{path} is empty, so there is nothing to migrate")
    if kind == "foreign":
        raise LedgerUnusable(f"{path} is a database, but not a ledger of ai-producer; it was not touched")
    return kind == "ours"


def _held(path: Path, lock: Lock) -> Report:
    """Somebody else has the lock: of a ledger that is ours already, or we are too early."""
    try:
        return _already(path)
    except (LedgerError, apsw.Error):
        holder = lock.holder()
    if holder and holder.kind == "supervisor":
        raise SupervisorRunning(path, str(holder))
    raise LedgerBusy(f"{path} is held by {holder or 'another program'}: try again")


def _already(path: Path) -> Report:
    with closing(Database(path, writable=False, clock=time.time)) as db:
        backup = db.value("SELECT json_extract(CAST(body AS TEXT), '$.detail.backup') FROM audit WHERE seq = 1")
    return Report("already", path, path.with_name(backup) if backup else None)


# ---- under the lock


def _take_over(path: Path, options: Options, clock: Callable[[], float], ids: Callable[[], str]) -> Report:
    places = Places.of(path)
    copy, fresh = (path.with_name(f"{path.name}.{word}") for word in ("migrating-0.3", "migrating"))
    backup = _backup_name(path, clock())
    _remove(copy, fresh)
    try:
        with Original(path) as original:
            original.copy(copy)
            with closing(_immutable(copy)) as old:
                source = Source(old)
                segment = _examined(source, options)
                done, head = _build(source, fresh, segment, options.actor, clock, ids, _origin(places, backup))
                found = _compare(source, fresh, done, path)
            if options.rehearse:
                return Report("rehearsed", path, backup, done, found)
            places.make()
            _retire(places)
            original.fold()
            _put_in_place(path, fresh, copy, backup)
            original.condemn()
        _keep(places, head)
        return Report("migrated", path, backup, done, found)
    finally:
        _remove(copy, fresh)


def _examined(source: Source, options: Options) -> audit_old.Segment:
    segment = audit_old.examine(source.log())
    if segment.broken is not None and not options.broken_log:
        raise LedgerUnusable(
            f"row {segment.broken} of the old audit log does not match its hash: somebody changed it. Look into it;"
            " `producerctl migrate --broken-log` takes it over as it is. Nothing was changed"
        )
    return segment


def _build(
    source: Source,
    target: Path,
    segment: audit_old.Segment,
    actor: str,
    clock: Callable[[], float],
    ids: Callable[[], str],
    origin: Mapping[str, Any],
) -> tuple[Transfer, Head]:
    """The new ledger in a file of its own, and the head of its log."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(Database(target, writable=True, clock=clock, ids=ids)) as db:
            audit = Audit(db, None)
            with db.transaction():
                done = transfer(source, db, audit, actor, segment, origin)
            verdict = verify(db, [audit.head()])
            if not verdict.ok:
                raise LedgerError(f"the new audit log does not verify: {verdict.problem}")
            return done, audit.head()
    except LedgerError as error:
        raise LedgerUnusable(f"the ledger cannot be migrated and is as it was: {error}") from error


def _compare(source: Source, target: Path, done: Transfer, path: Path) -> Comparison:
    with closing(_immutable(target)) as new:
        found = compare(source, new, done)
    if found.problems:
        more = f" (and {len(found.problems) - 1} more)" if len(found.problems) > 1 else ""
        raise LedgerError(f"{path} was not migrated, the copy is not equal: {found.problems[0]}{more}")
    return found


def _put_in_place(path: Path, fresh: Path, copy: Path, backup: Path) -> None:
    """Both renames, or none of them."""
    like = path.stat()
    for made, mode in ((fresh, like.st_mode & 0o777), (copy, 0o600)):
        made.chmod(mode)
        if (made.stat().st_uid, made.stat().st_gid) != (like.st_uid, like.st_gid):
            os.chown(made, like.st_uid, like.st_gid)
        _sync(made)
    copy.rename(backup)
    try:
        fresh.rename(path)
    except BaseException:
        backup.unlink()
        raise
    with suppress(OSError):  # it is done; a power loss now may only undo it
        _sync(path.parent)


def _keep(places: Places, head: Head) -> None:
    """The copy of the newest head outside the ledger. Where it cannot be written, the next commit writes it."""
    with suppress(OSError):
        file = os.open(places.state / "audit.head", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            keep_head(file, head)
        finally:
            os.close(file)


def _retire(places: Places) -> None:
    """Put aside the checkpoint of a log that an earlier takeover began and a restored backup gave up.

    Held against the new log, it would say for ever that rows are gone.
    """
    file = places.state / CHECKPOINT
    if file.exists():
        file.replace(file.with_name(f"{CHECKPOINT}.given-up"))


def _origin(places: Places, backup: Path) -> dict[str, Any]:
    """What the first audit row says besides the old log: the backup, and a head that an earlier takeover left."""
    try:
        earlier = Head.parse((places.state / "audit.head").read_text("ascii")).text()
    except (OSError, ValueError):
        return {"from": "0.3", "backup": backup.name}
    return {"from": "0.3", "backup": backup.name, "earlier_head": earlier}


def _backup_name(path: Path, now: float) -> Path:
    while True:
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        backup = path.with_name(f"{path.name}.0.3-{stamp}.bak")
        if not backup.exists():
            return backup
        now += 1


def _immutable(path: Path) -> apsw.Connection:
    uri = f"file:{quote(str(path))}?immutable=1"
    return apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)


def _remove(*paths: Path) -> None:
    for path in paths:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
