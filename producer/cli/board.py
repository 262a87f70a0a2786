"""What the live view knows: the last status, what each attempt does now, the newest events. No I/O, no rich."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from producer.cli import wording
from producer.wire.messages import Event

RATE_WINDOW = 10.0
TAIL = 60  # as many as a high terminal shows
ROUTINE = frozenset(
    {"cost", "tool_call", "tool_failed", "dispatch", "attempt.started", "decision", "asset", "standing", "worker_left"}
)
NEWS = frozenset({"progress.retry", "progress.note"})


@dataclass(frozen=True)
class Line:
    """One worker of the table. ``seconds`` of its run so far; ``cost`` in dollars as text."""

    role: str
    slot: int
    state: str
    task: str
    doing: str
    seconds: float
    cost: str


class Board:
    """Fed with events and statuses, in any order and with gaps."""

    def __init__(self, title: Callable[[str], str]) -> None:
        self._title = title
        self._doing: dict[str, str] = {}
        self._tokens: deque[tuple[float, int]] = deque()
        self.status: dict[str, Any] = {}
        self.seen_at = 0.0
        self.escalated: list[tuple[str, str]] = []
        self.tail: deque[str] = deque(maxlen=TAIL)

    def hear(self, event: Event) -> None:
        """Something happened."""
        if event.attempt and event.kind in ("progress.tool_call", "progress.text", "progress.retry"):
            self._doing[event.attempt] = wording.words(event)
        if event.kind == "progress.usage":
            self._tokens.append((event.at, int(event.data.get("output_tokens") or 0)))
        news = event.kind in NEWS or (event.kind == "progress.tool_result" and not event.data.get("ok"))
        if news or not (event.kind.startswith("progress.") or event.kind in ROUTINE):
            self.tail.append(wording.line(event, self._title))

    def see(self, status: dict[str, Any], now: float) -> None:
        """The state of everything, as of ``now``."""
        self.status, self.seen_at = status, now
        running = {worker.get("attempt") for row in status["roles"].values() for worker in row["workers"]}
        self._doing = {attempt: text for attempt, text in self._doing.items() if attempt in running}

    def finish(self, status: dict[str, Any], now: float) -> None:
        """The run is over: its last state, without a supervisor that nobody misses."""
        self.see(status | {"supervisor": self.status.get("supervisor", status["supervisor"]) | {"finished": True}}, now)

    def rate(self, now: float) -> float:
        """Output tokens per second, over the last RATE_WINDOW seconds."""
        while self._tokens and self._tokens[0][0] < now - RATE_WINDOW:
            self._tokens.popleft()
        return sum(tokens for _, tokens in self._tokens) / RATE_WINDOW

    def lines(self, now: float) -> list[Line]:
        """Every worker, those at work first."""
        found = []
        for role, row in self.status.get("roles", {}).items():
            for number, worker in enumerate(row["workers"]):
                found.append(self._line(role, number, worker, now))
        return sorted(found, key=lambda line: not line.task)

    def _line(self, role: str, number: int, worker: dict[str, Any], now: float) -> Line:
        task = worker.get("task")
        title = (worker.get("title") or self._title(task)) if task else ""
        doing = self._doing.get(worker.get("attempt") or "", worker.get("activity") or "")
        seconds = worker["seconds"] + max(0.0, now - self.seen_at) if task else 0.0
        return Line(role, worker.get("slot", number), worker["state"], title, doing, seconds, worker["cost_usd"])
