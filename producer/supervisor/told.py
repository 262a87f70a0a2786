"""What became of an entry of the outbox, as the courier hands it to the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from producer.supervisor.kernel import Kernel


@dataclass(frozen=True)
class Told:
    """``done``: it leaves the outbox; ``again``: it failed; ``later``: it may not be told yet, which is no failure.

    ``not_before``: seconds since the epoch, for again and later. ``then`` runs in the loop's transaction that records
    what became of it.
    """

    id: str
    what: Literal["done", "again", "later"] = "done"
    not_before: float = 0.0
    error: str = ""
    then: Callable[[Kernel], None] | None = None
