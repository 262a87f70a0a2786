"""What is spent and held, in memory: read from the ledger once, written to it before the transaction ends.

1. Only the ledger's one writer uses it, so nobody else changes these rows behind its back.
2. What was changed is written before the commit, and before anything is read: one statement for each row that changed,
   however often it did. The money is in the same transaction as what it was spent on.
3. Whatever is rolled back, in whole or in part, is forgotten here too, and read again from the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Hold:
    """What a running attempt may still cost: ``amount`` is max(``base``, the sum of its open ``requests``)."""

    task: str
    role: str
    root: str
    date: str
    base: int
    amount: int
    requests: dict[str, int] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        """The sum of its open model requests."""
        return sum(self.requests.values())


class Figures:
    """The budget's days and the holds of the attempts that run."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._days: dict[str, dict[str, Day]] = {}
        self._totals: dict[str, Day] = {}
        self._holds: dict[str, Hold] | None = None
        self._changed_days: set[tuple[str, str]] = set()
        self._changed_holds: set[str] = set()
        db.before_commit.append(self._write)
        db.on_rollback.append(self._forget)

    def day(self, date: str) -> dict[str, Day]:
        """Every role's figures of a day."""
        found = self._days.get(date)
        if found is None:
            rows = self._db.rows("SELECT agent_owner, spent_micros, held_micros FROM budget WHERE date = ?", date)
            found = self._days[date] = {role: Day(spent, held) for role, spent, held in rows}
            everyone = found.values()
            self._totals[date] = Day(sum(day.spent for day in everyone), sum(day.held for day in everyone))
        return found

    def total(self, date: str) -> Day:
        """The project's figures of a day: the sums of its roles'."""
        self.day(date)
        return self._totals[date]

    def add(self, role: str, date: str, spent: int, held: int) -> None:
        """Change a role's figures of a day by so much."""
        day = self.day(date)
        figures = day.get(role)
        if figures is None:
            figures = day[role] = Day()
        for count in (figures, self._totals[date]):
            count.spent += spent
            count.held += held
        self._changed_days.add((role, date))
        self._db.behind()

    @property
    def holds(self) -> dict[str, Hold]:
        """Every hold, by attempt. Change it by ``put`` and ``drop``."""
        if self._holds is None:
            rows = self._db.rows("SELECT attempt, task_id, role, root_id, date, base, amount FROM holds")
            self._holds = {row[0]: Hold(*row[1:]) for row in rows}
            for request, attempt, amount in self._db.rows("SELECT request, attempt, amount FROM reservations"):
                if attempt in self._holds:
                    self._holds[attempt].requests[request] = amount
        return self._holds

    def put(self, attempt: str, hold: Hold) -> None:
        """A hold is new, or has other amounts than before."""
        self.holds[attempt] = hold
        self._changed_holds.add(attempt)
        self._db.behind()

    def drop(self, attempt: str) -> Hold | None:
        """A hold is given back; what it was."""
        hold = self.holds.pop(attempt, None)
        self._changed_holds.add(attempt)
        self._db.behind()
        return hold

    def _write(self) -> None:
        holds = self.holds
        for role, date in self._changed_days:
            figures = self._days[date][role]
            self._db.run(_KEEP_DAY, role, date, figures.spent, figures.held)
        kept = {attempt: holds[attempt] for attempt in self._changed_holds if attempt in holds}
        self._db.run_many(
            "INSERT OR REPLACE INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(attempt, h.task, h.role, h.root, h.date, h.base, h.amount) for attempt, h in kept.items()],
        )
        gone = self._changed_holds - kept.keys()
        self._db.run_many("DELETE FROM holds WHERE attempt = ?", [(attempt,) for attempt in gone])
        self._changed_days.clear()
        self._changed_holds.clear()

    def _forget(self) -> None:
        self._days.clear()
        self._totals.clear()
        self._holds = None
        self._changed_days.clear()
        self._changed_holds.clear()
