"""What taking over a 0.3 ledger did, or would do: for a person and for `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from producer.core.money import MILLION, format_usd
from producer.ledger.compare import Comparison, Sums
from producer.ledger.transfer import Transfer


@dataclass(frozen=True)
class Report:
    """What was done, or would be. ``done`` is None where the ledger was ours already."""

    state: Literal["migrated", "rehearsed", "already"]
    ledger: Path
    backup: Path | None = None
    done: Transfer | None = None
    found: Comparison = field(default_factory=Comparison)

    def as_json(self) -> dict[str, Any]:
        """For `--json`; money as decimal strings."""
        shown: dict[str, Any] = {
            "state": self.state, "ledger": str(self.ledger), "backup": str(self.backup) if self.backup else None,
        }  # fmt: skip
        if self.done is None:
            return shown
        notes = self.done.notes
        return shown | {
            "rows": self.found.rows,
            "money": {name: _shown(sums) for name, sums in self.found.sums.items()},
            "audit": self.done.segment.detail(),
            "restarted": [task for task in notes.restarted if task not in notes.escalated],
            "escalated": notes.escalated,
            "renamed": [{"before": was, "after": now} for was, now in notes.renamed],
            "changed": [vars(note) for note in notes.changed],
        }


def _shown(sums: Sums) -> dict[str, str]:
    """Dollars before and after, and what rounding up added."""
    added = (sums.after - sums.before) / MILLION
    return {
        "before": f"{sums.before / MILLION:f}", "after": format_usd(sums.after), "difference": f"{added:f}",
    }  # fmt: skip
