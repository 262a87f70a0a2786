"""Money in the ledger: holds, reservations, bookings.

1. A claim places a hold; what is held counts against the caps like what is spent.
2. A hold is max(what is left of the claim's reservation, the sum of the attempt's open model requests).
3. Booking a cost moves it from held to spent, once, by request id, in the transaction that learns of it.
4. The UTC day on the hold pays, also for a run over midnight. Releasing a hold is the last thing a settlement does.
"""

from __future__ import annotations

from dataclasses import dataclass

from producer.core.budget import Cap
from producer.core.money import ZERO, MicroUSD
from producer.errors import LedgerError
from producer.ledger.database import Database, placeholders
from producer.ledger.model import TOKEN_COLUMNS, Cost

PROJECT = "project"
_INSERT_METER = (
    "INSERT INTO meter (request, attempt, task_id, role, date, at, model, source, exact, cost_micros,"
    f" {', '.join(TOKEN_COLUMNS)}) VALUES ({placeholders(range(10 + len(TOKEN_COLUMNS)))})"
    " ON CONFLICT (request) DO NOTHING"
)


@dataclass(frozen=True)
class Booking:
    """A cost that was just booked: whose it is, and whether its attempt had ended before."""

    task: str
    role: str
    late: bool


class Accounts:
    """Spent and held, per role and day, with the project as their sum. Runs inside the ledger's transaction."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def today(self) -> str:
        """The UTC day of the running transaction."""
        return self._db.stamp[:10]

    # ---- caps

    def day(self, date: str) -> dict[str, tuple[MicroUSD, MicroUSD]]:
        """(spent, held) of every role on a day; the project's are their sums."""
        rows = self._db.rows("SELECT agent_owner, spent_micros, held_micros FROM budget WHERE date = ?", date)
        return {role: (MicroUSD(spent), MicroUSD(held)) for role, spent, held in rows}

    def role_cap(self, role: str, limit: MicroUSD | None, date: str | None = None) -> Cap:
        """What stands against a role's daily cap."""
        row = self._db.one(
            "SELECT spent_micros, held_micros FROM budget WHERE agent_owner = ? AND date = ?",
            role, date or self.today(),
        )  # fmt: skip
        return Cap(f"role {role}", limit, *_pair(row))

    def project_cap(self, limit: MicroUSD | None, date: str | None = None) -> Cap:
        """What stands against the project's daily ceiling."""
        row = self._db.one(
            "SELECT sum(spent_micros), sum(held_micros) FROM budget WHERE date = ?", date or self.today()
        )
        return Cap(PROJECT, limit, *_pair(row))

    def task_cap(self, task: str, limit: MicroUSD | None) -> Cap:
        """What stands against a task's own budget, over all its attempts and days."""
        spent = self._db.value("SELECT cost_micros FROM tasks WHERE id = ?", task) or 0
        held = self._db.value("SELECT sum(amount) FROM holds WHERE task_id = ?", task) or 0
        return Cap(f"task {task}", limit, MicroUSD(spent), MicroUSD(held))

    def lineage_cap(self, root: str, limit: MicroUSD | None) -> Cap:
        """What stands against the budget of a root task and all its descendants."""
        spent = self._db.value("SELECT sum(cost_micros) FROM tasks WHERE root_task_id = ?", root) or 0
        held = self._db.value("SELECT sum(amount) FROM holds WHERE root_id = ?", root) or 0
        return Cap(f"lineage {root}", limit, MicroUSD(spent), MicroUSD(held))

    # ---- holds

    def place(self, attempt: str, task: str, role: str, root: str, amount: MicroUSD) -> None:
        """Hold ``amount`` for an attempt that is being claimed."""
        date = self.today()
        self._db.run("INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?)", attempt, task, role, root, date, amount, amount)
        self._add(role, date, 0, amount)

    def release(self, attempt: str) -> MicroUSD:
        """Give back what the attempt still holds; how much. Zero where it holds nothing any more."""
        row = self._db.one("DELETE FROM holds WHERE attempt = ? RETURNING role, date, amount", attempt)
        if row is None:
            return ZERO
        self._db.run("DELETE FROM reservations WHERE attempt = ?", attempt)
        self._add(row[0], row[1], 0, -row[2])
        return MicroUSD(row[2])

    def left_behind(self) -> list[str]:
        """Attempts that hold money and do not run. There is no way to get there; a start looks all the same."""
        rows = self._db.rows(
            "SELECT attempt FROM holds WHERE NOT EXISTS"
            " (SELECT 1 FROM attempts WHERE id = holds.attempt AND state = 'running')"
        )
        return [attempt for (attempt,) in rows]

    def hold(self, attempt: str) -> tuple[str, MicroUSD, MicroUSD] | None:
        """(day, amount, what of it backs open requests) of an attempt's hold."""
        row = self._db.one("SELECT date, amount FROM holds WHERE attempt = ?", attempt)
        if row is None:
            return None
        return row[0], MicroUSD(row[1]), self.reserved(attempt)

    def reserved(self, attempt: str) -> MicroUSD:
        """The sum of an attempt's open requests."""
        return MicroUSD(self._db.value("SELECT sum(amount) FROM reservations WHERE attempt = ?", attempt) or 0)

    def reservation(self, request: str) -> MicroUSD | None:
        """What an open request was granted."""
        amount = self._db.value("SELECT amount FROM reservations WHERE request = ?", request)
        return None if amount is None else MicroUSD(amount)

    def reserve(self, request: str, attempt: str, amount: MicroUSD) -> None:
        """Record a grant and raise the attempt's hold to cover it. Raises LedgerError where it has no hold."""
        if not self._db.one("SELECT 1 FROM holds WHERE attempt = ?", attempt):
            raise LedgerError(f"attempt {attempt} holds nothing: request {request} cannot be granted")
        self._db.run("INSERT INTO reservations VALUES (?, ?, ?)", request, attempt, amount)
        self._resize(attempt)

    def running(self, role: str | None, date: str) -> int:
        """How many attempts share a role's cap, or the project's (None), on a day."""
        if role is None:
            return int(self._db.value("SELECT count(*) FROM holds WHERE date = ?", date))
        return int(self._db.value("SELECT count(*) FROM holds WHERE date = ? AND role = ?", date, role))

    def kin(self, root: str) -> int:
        """How many attempts of a lineage hold money."""
        return int(self._db.value("SELECT count(*) FROM holds WHERE root_id = ?", root))

    # ---- bookings

    def book(self, cost: Cost) -> Booking | None:
        """Book a cost; None where its request was booked before, or is of no attempt of this ledger."""
        row = self._db.one(
            "SELECT a.task_id, a.role, a.state, substr(a.claimed_at, 1, 10), h.date, h.base, h.amount"
            " FROM attempts AS a LEFT JOIN holds AS h ON h.attempt = a.id WHERE a.id = ?",
            cost.attempt,
        )
        if row is None:
            return None
        task, role, state, claimed, day, base, held = row
        date = day or claimed  # without a hold any more, the day of the claim pays
        if not self._meter(cost, task, role, date):
            return None
        self._db.run("UPDATE tasks SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, task)
        self._db.run("UPDATE attempts SET cost_micros = cost_micros + ? WHERE id = ?", cost.amount, cost.attempt)
        change = 0
        if day:
            self._db.run("DELETE FROM reservations WHERE request = ? AND attempt = ?", cost.request, cost.attempt)
            base = max(0, base - cost.amount)
            target = max(base, self.reserved(cost.attempt))
            self._db.run("UPDATE holds SET base = ?, amount = ? WHERE attempt = ?", base, target, cost.attempt)
            change = target - held
        self._add(role, date, cost.amount, change)
        return Booking(task, role, state != "running")

    def spend_outside(self, role: str, amount: MicroUSD) -> None:
        """Count money that a script spent outside any task against a role's budget of today."""
        date = self.today()
        self._ensure_day(role, date)
        self._db.run(
            "UPDATE budget SET spent_micros = spent_micros + ? WHERE agent_owner = ? AND date = ?", amount, role, date
        )

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

    def _meter(self, cost: Cost, task: str, role: str, date: str) -> bool:
        """Write the request's row; False where it is there."""
        tokens = [cost.tokens.get(name, 0) for name in TOKEN_COLUMNS]
        inserted = self._db.run(
            _INSERT_METER,
            cost.request, cost.attempt, task, role, date, self._db.stamp, cost.model, cost.source, int(cost.exact),
            cost.amount, *tokens,
        )  # fmt: skip
        return inserted == 1

    def _resize(self, attempt: str) -> None:
        row = self._db.one("SELECT role, date, base, amount FROM holds WHERE attempt = ?", attempt)
        if row is None:
            return
        role, date, base, amount = row
        target = max(base, self.reserved(attempt))
        if target != amount:
            self._db.run("UPDATE holds SET amount = ? WHERE attempt = ?", target, attempt)
            self._add(role, date, 0, target - amount)

    def _add(self, role: str, date: str, spent: int, held: int) -> None:
        if not self._db.run(
            "UPDATE budget SET spent_micros = spent_micros + ?, held_micros = held_micros + ?"
            " WHERE agent_owner = ? AND date = ?",
            spent,
            held,
            role,
            date,
        ):
            self._db.run(
                "INSERT INTO budget (agent_owner, date, spent_micros, held_micros) VALUES (?, ?, ?, ?)",
                role, date, spent, held,
            )  # fmt: skip

    def _ensure_day(self, role: str, date: str) -> None:
        self._db.run("INSERT OR IGNORE INTO budget (agent_owner, date) VALUES (?, ?)", role, date)


def _pair(row: tuple[int | None, ...] | None) -> tuple[MicroUSD, MicroUSD]:
    spent, held = row if row else (0, 0)
    return MicroUSD(spent or 0), MicroUSD(held or 0)
