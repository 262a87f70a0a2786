"""The kill switch: one file that stops everything, read by every process for itself.

1. No file: disarmed. Any existing file arms, whatever it holds, unless its content without white space is `0`.
2. It fails closed: a file that cannot be read, a directory or a dangling link in its place, are armed.
3. A first line `now` also cuts what runs: open model streams and attempts, not only the intake.
4. `NAME.reason` beside it holds `TIME: why`. It only explains; it never decides.
5. Arming writes a new file and renames it, reason first, so that no reader meets half a switch. On a full disk it
   makes do with an empty file, which arms as well.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from producer.ids import from_iso, utc_iso_now

DISARMED = b"0"
MOST = 4096


@dataclass(frozen=True)
class SwitchState:
    """What the file says. ``since`` is in seconds since the epoch; it and ``reason`` are None where unknown."""

    armed: bool
    now: bool = False
    reason: str | None = None
    since: float | None = None


def read(path: Path | str) -> SwitchState:
    """The switch as it stands. Never raises: what cannot be read is armed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe in its place must not block us
    except FileNotFoundError:
        dangling = os.path.islink(path)  # noqa: PTH114, which takes twice as long; it is asked in every turn and request
        return SwitchState(armed=dangling, reason="a dangling link" if dangling else None)
    except (OSError, ValueError) as error:
        return SwitchState(armed=True, reason=f"unreadable: {error}")
    try:
        content, since = os.read(descriptor, MOST), os.fstat(descriptor).st_mtime
    except OSError as error:
        return SwitchState(armed=True, reason=f"unreadable: {error}")
    finally:
        os.close(descriptor)
    if content.strip() == DISARMED:
        return SwitchState(armed=False)
    written, why = _reason(reason_path(path))
    return SwitchState(True, content.partition(b"\n")[0].strip() == b"now", why, since if written is None else written)


def arm(path: Path | str, reason: str, now: bool = False) -> None:
    """Arm the switch; ``now`` also cuts what runs. Raises OSError where the file cannot be written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        _replace(reason_path(path), f"{utc_iso_now()}: {' '.join(reason.split())}\n")
    try:
        _replace(path, "now\n" if now else "1\n")
    except OSError as problem:
        if isinstance(problem, IsADirectoryError):
            raise
        _empty(path, b"now\n" if now else b"")


def disarm(path: Path | str) -> None:
    """Disarm the switch: remove the file, for touching one that holds `0` would not arm. Raises OSError."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a directory: remove it")
    path.unlink(missing_ok=True)


def reason_path(path: Path | str) -> Path:
    """Where the reason lies: the switch's name with the suffix .reason."""
    return Path(path).with_suffix(".reason")


class KillSwitchWatcher:
    """The 0.3.x interface to the switch at ``path``."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()

    def is_armed(self) -> bool:
        """Whether no claim may be made and no model request may leave."""
        return read(self.path).armed

    def arm(self, reason: str) -> None:
        """Stop the intake, and say why."""
        arm(self.path, reason)

    def disarm(self) -> None:
        """Let work go on."""
        disarm(self.path)


def _reason(path: Path) -> tuple[float | None, str | None]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")[:MOST].strip()
    except OSError:
        return None, None
    written, separator, why = f"{text} ".partition(": ")  # with no reason there is nothing behind the colon
    try:
        return (from_iso(written), why.strip() or None) if separator else (None, text or None)
    except ValueError:
        return None, text or None


def _empty(path: Path, content: bytes) -> None:
    """Empty the file, which needs no room and arms; then write what fits."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _replace(path: Path, content: str) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.is_dir() and not path.is_symlink():  # an accident that arms; leave it for a human rather than crash
        fresh.unlink()
        raise IsADirectoryError(f"{path} is a directory: remove it")
    fresh.replace(path)
