"""What is spent and held on a day, in memory: read from the ledger once, written to it before the transaction ends.

1. Only the ledger's one writer uses it, so nobody else changes these rows behind its back.
2. What was changed is written before the commit, and before anything is read: one statement for each row that changed,
   however often it did. The money is in the same transaction as what it was spent on.
3. Whatever is rolled back, in whole or in part, is forgotten here too, and read again from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass

from producer.ledger.database import Database

_KEEP_DAY = (
    "INSERT INTO budget (agent_owner, date, spent_micros, held_micros) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (agent_owner, date) DO UPDATE SET spent_micros = excluded.spent_micros,"
    " held_micros = excluded.held_micros"
)


@dataclass(slots=True)
class Day:
    """The figures of a role, or of the whole project, on one UTC day, in micro-dollars."""

    spent: int = 0
    held: int = 0


class Figures:
    """The budget's days."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._days: dict[str, dict[str, Day]] = {}
        self._changed: set[tuple[str, str]] = set()
        db.before_commit.append(self._write)
        db.on_rollback.append(self._forget)

    def day(self, date: str) -> dict[str, Day]:
        """Every role's figures of a day."""
        found = self._days.get(date)
        if found is None:
            rows = self._db.rows("SELECT agent_owner, spent_micros, held_micros FROM budget WHERE date = ?", date)
            found = self._days[date] = {role: Day(spent, held) for role, spent, held in rows}
        return found

    def total(self, date: str) -> Day:
        """The project's figures of a day: the sums of its roles'."""
        roles = self.day(date).values()
        return Day(sum(day.spent for day in roles), sum(day.held for day in roles))

    def add(self, role: str, date: str, spent: int, held: int) -> None:
        """Change a role's figures of a day by so much."""
        day = self.day(date)
        figures = day.get(role)
        if figures is None:
            figures = day[role] = Day()
        figures.spent += spent
        figures.held += held
        if not self._changed:
            self._db.behind()
        self._changed.add((role, date))

    def _write(self) -> None:
        for role, date in self._changed:
            figures = self._days[date][role]
            self._db.run(_KEEP_DAY, role, date, figures.spent, figures.held)
        self._changed.clear()

    def _forget(self) -> None:
        self._days.clear()
        self._changed.clear()
