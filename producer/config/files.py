"""Finding producer.yaml, and reading a small text file that someone else may have put there."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from producer.errors import ConfigError

DEFAULT_FILE = Path("producer.yaml")
MAX_BYTES = 256 * 1024


def find_config(explicit: Path | str | None = None, env: Mapping[str, str] = os.environ) -> Path:
    """The file to load: the one named, else $PRODUCER_CONFIG, else ./producer.yaml. It need not exist."""
    return Path(explicit or env.get("PRODUCER_CONFIG") or DEFAULT_FILE)


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes.

    A FIFO or a device is refused instead of waited for. Raises FileNotFoundError, and ConfigError for the rest.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError("not a regular file", file=path)
            raw = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {getattr(error, 'strerror', None) or error}", file=path) from None
    if len(raw) > limit:
        raise ConfigError(f"larger than {limit // 1024} KiB", file=path)
    return raw


def decode(raw: bytes, path: Path) -> str:
    """UTF-8, with or without a byte order mark. Raises ConfigError with the line of the first bad byte."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8 text", file=path, line=line) from None
