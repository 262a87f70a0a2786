"""What each role is doing: how many workers it should have, and whether something holds it back.

The one writer keeps the table in memory between two changes of it, for every turn of its loop asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from producer.errors import UsageError
from producer.ledger.audit import Audit
from producer.ledger.database import Database

PROJECT = "*"  # what stands for all roles together


@dataclass(frozen=True)
class RoleRow:
    """A role's standing. ``until``: seconds since the epoch; ``needed``: the room in micro-dollars that uncaps it."""

    role: str
    desired: int
    state: str
    until: float | None
    reason: str | None
    needed: int


class Roles:
    """Runs inside the ledger's transaction."""

    def __init__(self, db: Database, audit: Audit) -> None:
        self._db, self._audit = db, audit
        self._known: dict[str, RoleRow] | None = None
        db.on_rollback.append(self._forget)

    def declare(self, workers: Mapping[str, int], *, keep_scale: bool = True) -> None:
        """Make the table name just the roles of producer.yaml; a scale set by an operator is kept."""
        self._forget()
        self._db.run("UPDATE roles SET declared = 0")
        for role, count in workers.items():
            self._db.run(
                "INSERT INTO roles (role, desired) VALUES (?, ?) ON CONFLICT (role) DO UPDATE SET declared = 1"
                + ("" if keep_scale else ", desired = excluded.desired"),
                role, count,
            )  # fmt: skip

    def all(self) -> dict[str, RoleRow]:
        """Every declared role."""
        if self._known is None:
            rows = self._db.rows("SELECT role, desired, state, until, reason, needed FROM roles WHERE declared = 1")
            self._known = {row[0]: RoleRow(*row) for row in rows}
        return self._known

    def scale(self, role: str, desired: int, actor: str) -> None:
        """How many workers the role should have. Raises UsageError for a role that there is not, or less than none."""
        self._forget()
        if desired < 0 or not self._db.run("UPDATE roles SET desired = ? WHERE role = ?", desired, role):
            raise UsageError(f"no role {role!r} can have {desired} workers")
        self._audit.append("scale", actor, role=role, desired=desired)

    def set_state(
        self, role: str, state: str, *, until: float | None = None, reason: str | None = None, needed: int = 0
    ) -> bool:
        """Hold a role back, or let it go (`ok`), with an audit row; False where it was so already."""
        self._forget()
        changed = self._db.run(
            "UPDATE roles SET state = ?, until = ?, reason = ?, needed = ? WHERE role = ?"
            " AND (state IS NOT ? OR until IS NOT ? OR needed IS NOT ?)",
            state, until, reason, needed, role, state, until, needed,
        )  # fmt: skip
        if changed:
            moment = None if until is None else int(until)
            self._audit.append(f"role_{state}", "producer", role=role, reason=reason, until=moment)
        return bool(changed)

    def set_back(self, seconds: float) -> None:
        """The clock was set back by so much: a usage limit ends as much earlier by it."""
        self._forget()
        self._db.run("UPDATE roles SET until = until - ? WHERE state = 'throttled'", seconds)

    def _forget(self) -> None:
        self._known = None
