"""How a role's workers are brought to the number that is wanted.

1. ``plan`` looks at what is and says what to do; it is asked again after every change, and a role at its number needs
   nothing. Nobody remembers a plan.
2. Draining workers are on their way out: they neither count nor are drained again, but they keep their slot.
3. Suspects count: silence kills nobody, and a second worker in the place of one that lives would double its work.
4. Slots whose restart is not due yet (``resting``) count as filled, else a crash loop would skip its backoff.
5. Growing takes the lowest free slots. Shrinking takes those first that cost the least: idle, then starting, suspect,
   busy; of equals the highest slot. A busy worker that is drained finishes its run first: no run is ever cut.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum, auto
from itertools import count, islice


class WorkerState(StrEnum):
    """What a worker does; the words of `status --json`."""

    STARTING = auto()  # its process was started and has not said it is ready
    IDLE = auto()
    BUSY = auto()
    DRAINING = auto()  # takes no more, leaves when its run is over
    SUSPECT = auto()  # has been silent for too long


@dataclass(frozen=True)
class WorkerView:
    """One process of a role; ``slot`` is its place, 0 and up, used by one process at a time."""

    id: str
    slot: int
    state: WorkerState


@dataclass(frozen=True)
class Start:
    """Start a worker in this slot."""

    slot: int


@dataclass(frozen=True)
class DrainWorker:
    """Tell this worker to take no more tasks and to leave when the ones in hand are done."""

    id: str


_CHEAPEST = [WorkerState.IDLE, WorkerState.STARTING, WorkerState.SUSPECT, WorkerState.BUSY]


def plan(desired: int, workers: Collection[WorkerView], resting: Collection[int] = ()) -> list[Start | DrainWorker]:
    """What brings ``workers`` to ``desired``, at least cost; ``resting`` are slots that wait for their restart."""
    staying = [worker for worker in workers if worker.state is not WorkerState.DRAINING]
    if len(staying) > desired:
        leaving = sorted(staying, key=lambda worker: (_CHEAPEST.index(worker.state), -worker.slot))
        return [DrainWorker(worker.id) for worker in leaving[: len(staying) - max(0, desired)]]
    missing = max(0, desired - len(staying) - len(resting))
    taken = {worker.slot for worker in workers} | set(resting)
    return [Start(slot) for slot in islice((slot for slot in count() if slot not in taken), missing)]
