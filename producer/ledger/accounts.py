"""Money in the ledger: holds, reservations, bookings.

1. A claim places a hold; what is held counts against the caps like what is spent.
2. A hold is max(what is left of the claim's reservation, the sum of the attempt's open model requests).
3. Booking a cost moves it from held to spent, once, by request id, in the transaction that learns of it.
4. The UTC day on the hold pays, also for a run over midnight. Releasing a hold is the last thing a settlement does.
5. The figures are kept in memory beside the ledger (producer/ledger/figures.py) and written with the commit.
"""

from __future__ import annotations

from typing import NamedTuple

from producer.core.budget import Cap
from producer.core.money import ZERO, MicroUSD
from producer.errors import LedgerError
from producer.ledger.database import Database, placeholders
from producer.ledger.figures import Day, Figures, Hold
from producer.ledger.inflight import InFlight
from producer.ledger.model import TOKEN_COLUMNS, Cost

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
        held = sum(hold.amount for hold in self._figures.holds.values() if hold.task == task)
        return Cap(f"task {task}", limit, MicroUSD(spent), MicroUSD(held))

    def lineage_cap(self, root: str, limit: MicroUSD | None) -> Cap:
        """What stands against the budget of a root task and all its descendants."""
        spent = self._db.value("SELECT sum(cost_micros) FROM tasks WHERE root_task_id = ?", root) or 0
        held = sum(hold.amount for hold in self._figures.holds.values() if hold.root == root)
        return Cap(f"lineage {root}", limit, MicroUSD(spent), MicroUSD(held))

    # ---- holds

    def place(self, attempt: str, task: str, role: str, root: str, amount: MicroUSD) -> None:
        """Hold ``amount`` for an attempt that is being claimed."""
        date = self.today()
        self._figures.put(attempt, Hold(task, role, root, date, amount, amount))
        self._figures.add(role, date, 0, amount)

    def release(self, attempt: str) -> MicroUSD:
        """Give back what the attempt still holds; how much. Zero where it holds nothing any more."""
        hold = self._figures.drop(attempt)
        if hold is None:
            return ZERO
        self._db.run_many(_END_REQUEST, [(request,) for request in hold.requests])
        self._figures.add(hold.role, hold.date, 0, -hold.amount)
        return MicroUSD(hold.amount)

    def left_behind(self) -> list[str]:
        """Attempts that hold money and do not run. There is no way to get there; a start looks all the same."""
        rows = self._db.rows(
            "SELECT attempt FROM holds WHERE NOT EXISTS"
            " (SELECT 1 FROM attempts WHERE id = holds.attempt AND state = 'running')"
        )
        return [attempt for (attempt,) in rows]

    def hold(self, attempt: str) -> tuple[str, MicroUSD, MicroUSD] | None:
        """(day, amount, what of it backs open requests) of an attempt's hold."""
        hold = self._figures.holds.get(attempt)
        return (hold.date, MicroUSD(hold.amount), MicroUSD(hold.reserved)) if hold else None

    def holders(self) -> dict[str, bool]:
        """Every attempt that holds money, and whether a model request of it is open."""
        return {attempt: bool(hold.requests) for attempt, hold in self._figures.holds.items() if hold.amount}

    def reservation(self, request: str) -> MicroUSD | None:
        """What an open request was granted."""
        amount = self._db.value("SELECT amount FROM reservations WHERE request = ?", request)
        return None if amount is None else MicroUSD(amount)

    def reservations(self) -> list[tuple[str, str, MicroUSD]]:
        """(request, attempt, grant) of every open request."""
        return [
            (request, attempt, MicroUSD(amount))
            for attempt, hold in self._figures.holds.items()
            for request, amount in hold.requests.items()
        ]

    def reserve(self, request: str, attempt: str, amount: MicroUSD) -> None:
        """Record a grant and raise the attempt's hold to cover it. Raises LedgerError where it has no hold."""
        hold = self._figures.holds.get(attempt)
        if hold is None:
            raise LedgerError(f"attempt {attempt} holds nothing: request {request} cannot be granted")
        self._db.run("INSERT INTO reservations VALUES (?, ?, ?)", request, attempt, amount)
        hold.requests[request] = amount
        self._resize(attempt, hold)

    def running(self, role: str | None, date: str) -> int:
        """How many attempts share a role's cap, or the project's (None), on a day."""
        return sum(hold.date == date and role in (None, hold.role) for hold in self._figures.holds.values())

    def kin(self, root: str) -> int:
        """How many attempts of a lineage hold money."""
        return sum(hold.root == root for hold in self._figures.holds.values())

    # ---- bookings

    def book(self, cost: Cost) -> Booking | None:
        """Book a cost; None where its request was booked before, or is of no attempt of this ledger."""
        found = self._whose(cost.attempt)
        run = self.inflight.all().get(cost.attempt)
        if found is None or not self._meter(cost, *found, first=run is not None and not run.booked):
            return None
        task, role, date = found
        if run:
            self.inflight.book(run, cost.amount)
        else:
            self.inflight.booked_late(task, cost.amount)
            self._db.run("UPDATE tasks SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, task)
            self._db.run("UPDATE attempts SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, cost.attempt)
        hold = self._figures.holds.get(cost.attempt)
        if hold:
            if hold.requests.pop(cost.request, None) is not None:
                self._db.run(_END_REQUEST, cost.request)
            hold.base = max(0, hold.base - cost.amount)
            self._resize(cost.attempt, hold, spent=cost.amount)
        else:
            self._figures.add(role, date, cost.amount, 0)
        return Booking(task, role, run is None)

    def _whose(self, attempt: str) -> tuple[str, str, str] | None:
        """(task, role, day that pays) of an attempt; None for one of no ledger of ours."""
        hold = self._figures.holds.get(attempt)
        if hold:
            return hold.task, hold.role, hold.date
        row = self._db.one("SELECT task_id, role, claimed_at FROM attempts WHERE id = ?", attempt)
        return (row[0], row[1], row[2][:10]) if row else None

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

    def _resize(self, attempt: str, hold: Hold, spent: int = 0) -> None:
        """The hold's requests or its base have changed: hold as much as they need now, and count what was spent."""
        before, hold.amount = hold.amount, max(hold.base, hold.reserved)
        self._figures.put(attempt, hold)
        self._figures.add(hold.role, hold.date, spent, hold.amount - before)

    def _ensure_day(self, role: str, date: str) -> None:
        self._db.run("INSERT OR IGNORE INTO budget (agent_owner, date) VALUES (?, ?)", role, date)


def _money(day: Day | None) -> tuple[MicroUSD, MicroUSD]:
    return (MicroUSD(day.spent), MicroUSD(day.held)) if day else (ZERO, ZERO)
