"""One attempt in flight, as the supervisor's parts share it."""

from __future__ import annotations

from dataclasses import dataclass

from producer.config import ProducerConfig
from producer.wire.messages import Result

SLACK = 30.0


@dataclass(slots=True)
class Run:
    """One attempt in flight. Times are monotonic seconds."""

    attempt: str
    task: str
    role: str
    root: str
    worker: str
    title: str
    begun: float
    deadline: float
    metered: bool
    started: bool = False
    noted: bool = False  # its start, and so its session, is in the ledger
    result: Result | None = None
    silent: bool = False  # its worker went without a word about it
    stop_by: float | None = None
    refused: tuple[str, int] | None = None
    streamed: int = 0
    activity: str = ""


def deadline(config: ProducerConfig, role: str, now: float, ahead: int = 0) -> float:
    """Until when a run must have ended that begins now, or once the ``ahead`` before it have had their time."""
    settings = config.roles.get(role)
    limit = settings.timeout_seconds if settings else 3600.0
    return now + limit * (1 + ahead) + SLACK
