"""The small file by which a living worker is found again: by the next supervisor, to adopt it, and by a sweep."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil

from producer.places import Places
from producer.wire.messages import TaskMsg


class Register:
    """Places.workers/<worker>.json: worker, pid, pid_start, role, slot, and the attempt and task it runs.

    They are null a moment after the last of the tasks at hand: until then they name one whose result is known.
    """

    def __init__(self, places: Places, worker: str, role: str, slot: int) -> None:
        self.path: Path = places.workers / f"{worker}.json"
        self.pid_start = psutil.Process().create_time()
        self._who = {"worker": worker, "pid": os.getpid(), "pid_start": self.pid_start, "role": role, "slot": slot}
        self._says: str | None = ""

    def write(self, task: TaskMsg | None) -> None:
        """Say what is being run, where it does not yet. A disk that is full must not stop the run."""
        attempt = task.attempt if task else None
        if attempt == self._says:
            return
        doing = {"attempt": attempt, "task": task.task if task else None}
        fresh = self.path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(self._who | doing))
            fresh.replace(self.path)
        except OSError:
            return
        self._says = attempt

    def remove(self) -> None:
        """The worker leaves."""
        self.path.unlink(missing_ok=True)
