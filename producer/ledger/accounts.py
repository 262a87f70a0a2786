"""Money in the ledger: holds, reservations, bookings.

1. A claim places a hold, in the row of its attempt; what is held counts against the caps like what is spent.
2. A hold is max(what is left of the claim's reservation, the sum of the attempt's open model requests).
3. Booking a cost moves it from held to spent, once, by request id, in the transaction that learns of it.
4. The UTC day of the claim pays, also for a run over midnight. A settlement gives the hold back: what has ended holds
   nothing, the schema sees to it.
5. The figures are kept in memory beside the ledger (figures.py, inflight.py) and written with the commit.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from producer.core.budget import Cap
from producer.core.money import ZERO, MicroUSD
from producer.errors import LedgerError
from producer.ledger.database import Database, placeholders
from producer.ledger.figures import Day, Figures
from producer.ledger.inflight import InFlight
from producer.ledger.model import TOKEN_COLUMNS, Cost, Running

PROJECT = "project"
_INSERT_METER = (
    "INSERT INTO meter (request, attempt, task_id, role, date, at, model, source, exact, cost_micros,"
    f" {', '.join(TOKEN_COLUMNS)}) VALUES ({placeholders(range(10 + len(TOKEN_COLUMNS)))})"
)
_END_REQUEST = "DELETE FROM reservations WHERE request = ?"
_INSERT_METER_ONCE = f"{_INSERT_METER} ON CONFLICT (request) DO NOTHING"


class Booking(NamedTuple):
    """A cost that was just booked: whose it is, and whether its attempt had ended before."""

    task: str
    role: str
    late: bool


class Accounts:
    """Spent and held, per role and day, with the project as their sum. Runs inside the ledger's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._figures = Figures(db)
        self.inflight = InFlight(db)

    def today(self) -> str:
        """The UTC day of the running transaction."""
        return self._db.stamp[:10]

    # ---- caps

    def day(self, date: str) -> dict[str, tuple[MicroUSD, MicroUSD]]:
        """(spent, held) of every role on a day; the project's are their sums."""
        return {role: _money(found) for role, found in self._figures.day(date).items()}

    def role_cap(self, role: str, limit: MicroUSD | None, date: str | None = None) -> Cap:
        """What stands against a role's daily cap."""
        return Cap(f"role {role}", limit, *_money(self._figures.day(date or self.today()).get(role)))

    def project_cap(self, limit: MicroUSD | None, date: str | None = None) -> Cap:
        """What stands against the project's daily ceiling."""
        return Cap(PROJECT, limit, *_money(self._figures.total(date or self.today())))

    def task_cap(self, task: str, limit: MicroUSD | None) -> Cap:
        """What stands against a task's own budget, over all its attempts and days."""
        spent = self._db.value("SELECT cost_micros FROM tasks WHERE id = ?", task) or 0
        run = self.inflight.of_task(task)
        return Cap(f"task {task}", limit, MicroUSD(spent), MicroUSD(run.held if run else 0))

    def lineage_cap(self, root: str, limit: MicroUSD | None) -> Cap:
        """What stands against the budget of a root task and all its descendants."""
        spent = self._db.value("SELECT sum(cost_micros) FROM tasks WHERE root_task_id = ?", root) or 0
        held = sum(run.held for run in self._runs() if run.root == root)
        return Cap(f"lineage {root}", limit, MicroUSD(spent), MicroUSD(held))

    # ---- holds

    def place(self, run: Running) -> None:
        """An attempt is claimed, with what it holds. To write that into its row is the claim's."""
        self.inflight.add(run)
        self._figures.add(run.role, run.date, 0, run.held)

    def release(self, run: Running) -> None:
        """An attempt ends: give back what it holds. To write that into its row is the settlement's."""
        self._db.run_many(_END_REQUEST, [(request,) for request in run.requests])
        self._figures.add(run.role, run.date, 0, -run.held)
        self.inflight.remove(run)

    def hold(self, attempt: str) -> tuple[str, MicroUSD, MicroUSD] | None:
        """(day, amount, what of it backs open requests) of a running attempt's hold."""
        run = self.inflight.all().get(attempt)
        return (run.date, MicroUSD(run.held), MicroUSD(run.reserved)) if run else None

    def holders(self) -> dict[str, bool]:
        """Every attempt that holds money, and whether a model request of it is open."""
        return {run.attempt: bool(run.requests) for run in self._runs() if run.held}

    def reservation(self, request: str) -> MicroUSD | None:
        """What an open request was granted."""
        amount = self._db.value("SELECT amount FROM reservations WHERE request = ?", request)
        return None if amount is None else MicroUSD(amount)

    def reservations(self) -> list[tuple[str, str, MicroUSD]]:
        """(request, attempt, grant) of every open request."""
        return [
            (request, run.attempt, MicroUSD(amount)) for run in self._runs() for request, amount in run.requests.items()
        ]

    def reserve(self, request: str, attempt: str, amount: MicroUSD) -> None:
        """Record a grant and raise the attempt's hold to cover it. Raises LedgerError where it does not run."""
        run = self.inflight.all().get(attempt)
        if run is None:
            raise LedgerError(f"attempt {attempt} holds nothing: request {request} cannot be granted")
        self._db.run("INSERT INTO reservations VALUES (?, ?, ?)", request, attempt, amount)
        run.requests[request] = amount
        self._figures.add(run.role, run.date, 0, self.inflight.resize(run))

    def running(self, role: str | None, date: str) -> int:
        """How many attempts share a role's cap, or the project's (None), on a day."""
        return sum(run.date == date and role in (None, run.role) for run in self._runs())

    def kin(self, root: str) -> int:
        """How many attempts of a lineage run."""
        return sum(run.root == root for run in self._runs())

    def _runs(self) -> Collection[Running]:
        return self.inflight.all().values()

    # ---- bookings

    def book(self, cost: Cost) -> Booking | None:
        """Book a cost; None where its request was booked before, or is of no attempt of this ledger."""
        run = self.inflight.all().get(cost.attempt)
        if run is None:
            return self._book_late(cost)
        if not self._meter(cost, run.task, run.role, run.date, first=not run.booked):
            return None
        if run.requests.pop(cost.request, None) is not None:
            self._db.run(_END_REQUEST, cost.request)
        self._figures.add(run.role, run.date, cost.amount, self.inflight.book(run, cost.amount))
        return Booking(run.task, run.role, late=False)

    def _book_late(self, cost: Cost) -> Booking | None:
        """Book a cost of an attempt that has ended."""
        row = self._db.one("SELECT task_id, role, claimed_at FROM attempts WHERE id = ?", cost.attempt)
        if row is None:
            return None
        task, role, date = row[0], row[1], row[2][:10]
        if not self._meter(cost, task, role, date, first=False):
            return None
        self.inflight.booked_late(task, cost.amount)
        self._db.run("UPDATE tasks SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, task)
        self._db.run("UPDATE attempts SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, cost.attempt)
        self._figures.add(role, date, cost.amount, 0)
        return Booking(task, role, late=True)

    def spend_outside(self, role: str, amount: MicroUSD) -> None:
        """Count money that a script spent outside any task against a role's budget of today."""
        self._figures.add(role, self.today(), amount, 0)

    def booked(self, request: str) -> bool:
        """Whether a request's cost is in the ledger."""
        return self._db.one("SELECT 1 FROM meter WHERE request = ?", request) is not None

    def set_caps(self, role: str, hard: MicroUSD, soft: MicroUSD) -> None:
        """Write today's caps of a role beside its figures, for whoever reads the budget table."""
        date = self.today()
        self._ensure_day(role, date)
        self._db.run(
            "UPDATE budget SET hard_cap_micros = ?, soft_cap_micros = ? WHERE agent_owner = ? AND date = ?",
            hard, soft, role, date,
        )  # fmt: skip

    def warn_once(self, owner: str) -> bool:
        """True for the first caller of a day: the soft-cap warning is given once."""
        date = self.today()
        self._ensure_day(owner, date)
        changed = self._db.run(
            "UPDATE budget SET soft_warned = 1 WHERE agent_owner = ? AND date = ? AND soft_warned = 0", owner, date
        )
        return changed == 1

    def _meter(self, cost: Cost, task: str, role: str, date: str, *, first: bool) -> bool:
        """Write the request's row; False where it is there. ``first``: no row is there of this attempt."""
        values = (
            cost.request, cost.attempt, task, role, date, self._db.stamp, cost.model, cost.source, int(cost.exact),
            cost.amount, *[cost.tokens.get(name, 0) for name in TOKEN_COLUMNS],
        )  # fmt: skip
        if first:
            self._db.defer("meter", cost.request, _INSERT_METER, *values)
            return True
        return self._db.run(_INSERT_METER_ONCE, *values) == 1

    def _ensure_day(self, role: str, date: str) -> None:
        self._db.run("INSERT OR IGNORE INTO budget (agent_owner, date) VALUES (?, ?)", role, date)


def _money(day: Day | None) -> tuple[MicroUSD, MicroUSD]:
    return (MicroUSD(day.spent), MicroUSD(day.held)) if day else (ZERO, ZERO)
