"""Holds, reservations and bookings: whatever happens in whatever order, the books agree."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from ledger_rig import DAY, NOON, Clock, Desk

from producer.core.money import MicroUSD
from producer.errors import LedgerError
from producer.ledger.model import Cost
from producer.ledger.views import Reader

ROLES = ("code", "qa")
AMOUNTS = st.integers(0, 3_000_000)


class Books(RuleBasedStateMachine):
    """Random claims, grants, bookings (also late, twice, in odd order) and endings over a real file."""

    directory: Path
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        home = self.directory / str(next(self.numbers))
        home.mkdir()
        self.clock = Clock()
        self.desk = Desk(home, self.clock)
        self.running: dict[str, str] = {}
        self.ended: list[str] = []
        self.open: dict[str, tuple[str, int]] = {}
        self.booked: dict[str, int] = {}
        self.outside = 0
        self.requests = count(1)

    def teardown(self) -> None:
        assert self.desk.db.value("PRAGMA integrity_check") == "ok"
        self.desk.close()

    @rule(role=st.sampled_from(ROLES), hold=AMOUNTS, parent=st.booleans())
    def claim(self, role: str, hold: int, parent: bool) -> None:
        above = next(iter(self.running.values()), None) if parent else None
        task = self.desk.add(f"t{next(self.requests)}", role, parent_task_id=above)
        self.running[self.desk.claim(task, hold).attempt] = task

    @precondition(lambda self: self.running)
    @rule(data=st.data(), amount=AMOUNTS)
    def reserve(self, data: st.DataObject, amount: int) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.running)))
        request = f"r{next(self.requests)}"
        with self.desk.transaction():
            self.desk.accounts.reserve(request, attempt, MicroUSD(amount))
            assert self.desk.accounts.reservation(request) == amount
        self.open[request] = attempt, amount

    @precondition(lambda self: self.open)
    @rule(data=st.data(), amount=AMOUNTS)
    def book_a_grant(self, data: st.DataObject, amount: int) -> None:
        request = data.draw(st.sampled_from(sorted(self.open)))
        attempt, granted = self.open.pop(request)
        self.book(request, attempt, min(amount, granted))

    @precondition(lambda self: self.running or self.ended)
    @rule(data=st.data(), amount=AMOUNTS)
    def book_late_or_without_a_grant(self, data: st.DataObject, amount: int) -> None:
        attempt = data.draw(st.sampled_from(sorted([*self.running, *self.ended])))
        self.book(f"r{next(self.requests)}", attempt, amount)

    @precondition(lambda self: self.booked)
    @rule(data=st.data(), amount=AMOUNTS)
    def book_twice(self, data: st.DataObject, amount: int) -> None:
        request = data.draw(st.sampled_from(sorted(self.booked)))
        attempt = self.desk.db.value("SELECT attempt FROM meter WHERE request = ?", request)
        with self.desk.transaction():
            assert not self.desk.attempts.book(Cost(request, attempt, "m", MicroUSD(amount), "gateway"))

    @precondition(lambda self: len(self.running) > 1 and self.open)
    @rule(data=st.data())
    def book_under_the_wrong_attempt(self, data: st.DataObject) -> None:
        """A gateway that mixes up two attempts must not free the money of the one with that of the other."""
        request = data.draw(st.sampled_from(sorted(self.open)))
        other = next(attempt for attempt in self.running if attempt != self.open[request][0])
        if request not in self.booked:
            self.book(request, other, 1)
            del self.open[request]

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(), outcome=st.sampled_from(["succeeded", "failed", "lost", "cancelled", "throttled", "permanent"])
    )
    def settle(self, data: st.DataObject, outcome: str) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[attempt]
        self.ended.append(attempt)
        self.open = {request: grant for request, grant in self.open.items() if grant[0] != attempt}
        self.desk.settle(attempt, outcome)
        assert self.desk.accounts.hold(attempt) is None

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def reserve_after_the_end(self, data: st.DataObject) -> None:
        attempt = data.draw(st.sampled_from(sorted(self.ended)))
        with pytest.raises(LedgerError, match="holds nothing"), self.desk.transaction():
            self.desk.accounts.reserve(f"r{next(self.requests)}", attempt, MicroUSD(1))

    @rule(role=st.sampled_from(ROLES), amount=AMOUNTS)
    def spend_outside(self, role: str, amount: int) -> None:
        with self.desk.transaction():
            self.desk.accounts.spend_outside(role, MicroUSD(amount))
        self.outside += amount

    @rule(days=st.sampled_from([-1.0, 0.01, 1.0]))
    def move_the_clock(self, days: float) -> None:
        self.clock.now = max(NOON - 3 * DAY, self.clock.now + days * DAY)

    @rule()
    def crash_in_the_middle(self) -> None:
        """What was not committed did not happen."""
        with pytest.raises(ZeroDivisionError), self.desk.transaction():
            for run in self.desk.attempts.all_running():
                self.desk.attempts.book(Cost(f"lost {run.attempt}", run.attempt, "m", MicroUSD(10**9), "gateway"))
                self.desk.accounts.release(run)
            raise ZeroDivisionError

    def book(self, request: str, attempt: str, amount: int) -> None:
        with self.desk.transaction():
            assert self.desk.attempts.book(Cost(request, attempt, "m", MicroUSD(amount), "gateway"))
        self.booked[request] = amount

    # ---- what always holds

    @invariant()
    def held_is_the_sum_of_holds_by_role_and_day(self) -> None:
        held = "SELECT agent_owner, date, held_micros FROM budget WHERE held_micros != 0 ORDER BY 1, 2"
        holds = (
            "SELECT role, substr(claimed_at, 1, 10), sum(held_micros) FROM attempts GROUP BY 1, 2"
            " HAVING sum(held_micros) != 0 ORDER BY 1, 2"
        )
        assert self.desk.db.rows(held) == self.desk.db.rows(holds)

    @invariant()
    def spent_is_what_was_metered_and_spent_outside(self) -> None:
        value = self.desk.db.value
        assert (value("SELECT sum(spent_micros) FROM budget") or 0) == sum(self.booked.values()) + self.outside
        assert (value("SELECT sum(cost_micros) FROM meter") or 0) == sum(self.booked.values())
        differing = (
            "SELECT agent_owner, date FROM budget GROUP BY 1, 2 HAVING sum(spent_micros) <"
            " coalesce((SELECT sum(cost_micros) FROM meter WHERE role = agent_owner AND meter.date = budget.date), 0)"
        )
        assert self.desk.db.rows(differing) == []

    @invariant()
    def tasks_and_attempts_cost_what_was_metered_for_them(self) -> None:
        for table, key in (("tasks", "task_id"), ("attempts", "attempt")):
            wrong = (
                f"SELECT id FROM {table} AS x WHERE cost_micros !="
                f" coalesce((SELECT sum(cost_micros) FROM meter WHERE {key} = x.id), 0)"
            )
            assert self.desk.db.rows(wrong) == []

    @invariant()
    def a_hold_covers_its_open_requests_and_what_is_left_of_its_base(self) -> None:
        wrong = (
            "SELECT id FROM attempts WHERE held_micros != max(held_base, coalesce((SELECT sum(amount) FROM reservations"
            " WHERE attempt = id), 0))"
        )
        assert self.desk.db.rows(wrong) == []

    @invariant()
    def only_running_attempts_hold_money(self) -> None:
        rows = self.desk.db.rows("SELECT id FROM attempts WHERE state = 'running' ORDER BY 1")
        assert [row[0] for row in rows] == sorted(self.running)
        idle = "(SELECT id FROM attempts WHERE state != 'running')"
        assert self.desk.db.rows(f"SELECT 1 FROM reservations WHERE attempt IN {idle}") == []
        assert (
            self.desk.db.rows("SELECT 1 FROM attempts WHERE held_base + held_micros > 0 AND state != 'running'") == []
        )

    @invariant()
    def the_caps_see_the_same(self) -> None:
        accounts, value = self.desk.accounts, self.desk.db.value
        for (date,) in self.desk.db.rows("SELECT DISTINCT date FROM budget"):
            project = accounts.project_cap(None, date)
            roles = [accounts.role_cap(role, None, date) for role in ROLES]
            assert project.spent == sum(cap.spent for cap in roles)
            assert project.held == sum(cap.held for cap in roles)
            assert accounts.day(date).keys() <= set(ROLES)
        for attempt, task in self.running.items():
            cap = accounts.task_cap(task, None)
            assert cap.held == value("SELECT held_micros FROM attempts WHERE id = ?", attempt)
        roots = [row[0] for row in self.desk.db.rows("SELECT DISTINCT root_task_id FROM tasks")]
        lineages = [accounts.lineage_cap(root, None) for root in roots]
        assert sum(cap.spent for cap in lineages) == sum(self.booked.values())
        assert sum(cap.held for cap in lineages) == (value("SELECT sum(held_micros) FROM attempts") or 0)


def test_the_books_agree_whatever_happens(tmp_path: Path) -> None:
    Books.directory = tmp_path
    run_state_machine_as_test(
        Books,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_the_day_of_the_claim_pays_also_for_a_run_over_midnight(desk: Desk) -> None:
    claim = desk.claim(desk.add(), 1_000_000)
    first = desk.accounts.today()
    desk.time.now += DAY
    with desk.transaction():
        desk.accounts.reserve("r1", claim.attempt, MicroUSD(3_000_000))
        desk.attempts.book(Cost("r1", claim.attempt, "m", MicroUSD(2_000_000), "gateway"))
        assert desk.accounts.role_cap("code", None).spent == 0
    desk.settle(claim.attempt, "succeeded")
    with desk.transaction():
        desk.attempts.book(Cost("late", claim.attempt, "m", MicroUSD(1), "gateway"))
    assert desk.db.rows("SELECT date, spent_micros, held_micros FROM budget") == [(first, 2_000_001, 0)]


def test_a_booking_comes_out_of_the_hold(desk: Desk) -> None:
    claim = desk.claim(desk.add(), 1000)
    steps = []
    with desk.transaction():
        for request, granted, cost in (("a", 400, 300), ("b", 5000, 600), ("c", 200, 900)):
            desk.accounts.reserve(request, claim.attempt, MicroUSD(granted))
            steps.append(desk.accounts.hold(claim.attempt))
            desk.attempts.book(Cost(request, claim.attempt, "m", MicroUSD(cost), "gateway"))
            steps.append(desk.accounts.hold(claim.attempt))
    assert [(held, busy) for _, held, busy in steps if held is not None] == [
        (1000, 400), (700, 0), (5000, 5000), (100, 0), (200, 200), (0, 0),
    ]  # fmt: skip


def test_an_amount_that_is_none_is_refused_and_not_taken_for_booked_already(desk: Desk) -> None:
    claim = desk.claim(desk.add(), 1000)
    for cost in (
        Cost("r", claim.attempt, "m", MicroUSD(-1), "gateway"),
        Cost("r", claim.attempt, None, MicroUSD(1), "x"),
    ):  # type: ignore[arg-type]
        with pytest.raises(LedgerError), desk.transaction():
            desk.attempts.book(cost)
    assert desk.db.value("SELECT count(*) FROM meter") == 0


def test_the_soft_cap_warns_once_a_day(desk: Desk) -> None:
    def warned() -> bool:
        with desk.transaction():
            return desk.accounts.warn_once("code")

    assert [warned(), warned()] == [True, False]
    desk.time.now += DAY
    assert [warned(), warned()] == [True, False]


def test_the_reader_shows_the_day(desk: Desk) -> None:
    claim = desk.claim(desk.add(), 1000)
    with desk.transaction():
        desk.accounts.set_caps("code", MicroUSD(9), MicroUSD(8))
        desk.attempts.book(Cost("r", claim.attempt, "m", MicroUSD(300), "gateway"))
        desk.accounts.warn_once("*")
    with Reader(desk.db.path) as reader:
        assert reader.budget(desk.accounts.today()) == {"code": {"spent": 300, "held": 700, "cap": 9}}
        assert reader.budget("2000-01-01") == {}
        assert reader.spending_days() == [{"date": desk.accounts.today(), "role": "code", "spent_usd": "0.0003"}]
