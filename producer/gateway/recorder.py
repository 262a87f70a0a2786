"""Keeps what was asked and answered, for those who want it (`gateway.record`): one JSON line a request.

`recordings/<attempt>.jsonl` in the project's private state directory: the bill, the request's body and the response's
body as text. replay.py reads them. Keys are in neither. A recording that cannot be written stops nothing.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import msgspec

from producer.wire.messages import Metered

log = logging.getLogger(__name__)


class Recorder:
    """Appends to the files under ``directory``."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory

    def keep(self, record: Metered, request: bytes, response: bytes) -> None:
        """Append one exchange."""
        texts = {"request": request.decode(errors="replace"), "response": response.decode(errors="replace")}
        line = json.dumps({"metered": msgspec.to_builtins(record), **texts})
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._directory / f"{record.attempt}.jsonl", flags, 0o600), "a") as file:
                file.write(line + "\n")
        except OSError as error:
            log.warning("recording: %s", error)
