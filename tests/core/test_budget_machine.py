"""Many attempts under role and project caps: no cap is passed, no request hangs, none is starved.

The machine below keeps the books as the supervisor does: one hold an attempt on all its caps, requests queue in the
order of asking, and every return of money asks the queue again, oldest first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producer.core.budget import Cap, Granted, Refused, Share, Wait, admit, grant

PROJECT = "project"
ROLES = ("design", "code", "qa")


@dataclass
class Attempt:
    role: str
    hold: int
    open: list[int] = field(default_factory=list)  # what each open request may cost
    ending: bool = False

    @property
    def busy(self) -> int:
        return sum(self.open)


@dataclass
class Request:
    attempt: Attempt
    need: int
    floor: int


class Books:
    def __init__(self, limits):
        self.limits, self.spent = limits, dict.fromkeys(limits, 0)
        self.attempts: list[Attempt] = []
        self.queue: list[Request] = []
        self.answers: list[tuple[Request, Granted | Refused]] = []

    def cap(self, name):
        held = sum(a.hold for a in self.attempts if name in (PROJECT, a.role))
        return Cap(name, self.limits[name], self.spent[name], held)

    def waits(self, attempt):
        return any(request.attempt is attempt for request in self.queue)

    def claim(self, role, hold):
        if admit([self.cap(role), self.cap(PROJECT)], hold) is None:
            self.attempts.append(Attempt(role, hold))
            return self.attempts[-1]
        return None

    def ask(self, attempt, need, floor):
        self.queue.append(Request(attempt, need, floor))
        self.pump()

    def others_open(self, attempt):
        return any(a.open or (a is not attempt and a.hold and not self.waits(a)) for a in self.attempts)

    def decide(self, request):
        older = self.queue[: self.queue.index(request)]
        attempt, shares = request.attempt, []
        for name in (attempt.role, PROJECT):
            ahead = sum(r.floor for r in older if name in (PROJECT, r.attempt.role))
            running = sum(name in (PROJECT, a.role) for a in self.attempts)
            shares.append(Share(self.cap(name), running, attempt.hold, attempt.busy, ahead))
        answer = grant(request.need, request.floor, shares, others_open=self.others_open(attempt))
        if isinstance(answer, Granted):
            for share in shares:
                self.check_fair(share, answer.amount, request.floor)
        return answer

    def check_fair(self, share, amount, floor):
        cap, idle = share.cap, share.own - share.busy
        assert share.busy + amount <= max((cap.limit - cap.spent) // share.running, share.own, share.busy + floor)
        taken = max(0, amount - idle)
        assert taken == 0 or taken <= cap.limit - cap.spent - cap.held - share.ahead

    def pump(self):
        """Ask the queue again, oldest first, until nobody in it can be answered."""
        moved = True
        while moved:
            moved = False
            for request in list(self.queue):
                if request not in self.queue or isinstance(answer := self.decide(request), Wait):
                    continue
                moved = True
                self.answers.append((request, answer))
                if isinstance(answer, Granted):
                    self.queue.remove(request)
                    request.attempt.open.append(answer.amount)
                    request.attempt.hold = max(request.attempt.hold, request.attempt.busy)
                else:
                    self.end(request.attempt)

    def end(self, attempt):
        attempt.ending = True
        self.queue = [request for request in self.queue if request.attempt is not attempt]

    def finish(self, attempt, at, share, keep):
        """An open request ends: a part of it is spent, the rest goes back or stays with the attempt."""
        amount = attempt.open.pop(at)
        cost = int(amount * share)
        for name in (attempt.role, PROJECT):
            self.spent[name] += cost
        attempt.hold -= cost if keep else amount
        self.pump()

    def settle(self, attempt):
        self.attempts = [a for a in self.attempts if a is not attempt]
        self.pump()

    def wind_down(self):
        """Nothing new is begun: what is open ends, and who is idle or ending settles."""
        for _ in range(1000):
            if busy := next((a for a in self.attempts if a.open), None):
                self.finish(busy, 0, 1.0, False)
            elif idle := next((a for a in self.attempts if not self.waits(a)), None):
                self.settle(idle)
            else:
                return

    def check(self):
        for name in self.limits:
            cap = self.cap(name)
            assert cap.spent + cap.held <= cap.limit, f"{name} is passed"
        for attempt in self.attempts:
            assert 0 <= attempt.busy <= attempt.hold
        for request in self.queue:
            assert self.others_open(request.attempt), "a request waits and nobody can give money back"


cents = st.integers(0, 60)


class Fleet(RuleBasedStateMachine):
    @initialize(project=st.integers(0, 300), roles=st.tuples(*[st.integers(0, 200)] * len(ROLES)))
    def caps(self, project, roles):
        self.books = Books({PROJECT: project, **dict(zip(ROLES, roles, strict=True))})

    def some(self, data, wanted):
        return data.draw(st.sampled_from([a for a in self.books.attempts if wanted(a)]))

    def has(self, wanted):
        return any(wanted(a) for a in self.books.attempts)

    def live(self, attempt):
        return not attempt.ending and not self.books.waits(attempt)

    @rule(role=st.sampled_from(ROLES), hold=st.integers(0, 20))
    def claim(self, role, hold):
        self.books.claim(role, hold)

    @precondition(lambda self: self.has(self.live))
    @rule(data=st.data(), need=cents, floor=st.integers(1, 40), parallel=st.integers(1, 2))
    def ask(self, data, need, floor, parallel):
        attempt = self.some(data, self.live)
        for _ in range(parallel):
            if not attempt.ending:
                self.books.ask(attempt, max(need, floor), floor)

    @precondition(lambda self: self.has(lambda a: a.open))
    @rule(data=st.data(), share=st.floats(0, 1), keep=st.booleans())
    def finish(self, data, share, keep):
        attempt = self.some(data, lambda a: a.open)
        self.books.finish(attempt, data.draw(st.integers(0, len(attempt.open) - 1)), share, keep)

    @precondition(lambda self: self.has(lambda a: not a.open and not self.books.waits(a)))
    @rule(data=st.data())
    def settle(self, data):
        self.books.settle(self.some(data, lambda a: not a.open and not self.books.waits(a)))

    @rule(name=st.sampled_from((PROJECT, *ROLES)), more=st.integers(0, 100))
    def an_operator_raises_a_cap(self, name, more):
        self.books.limits[name] += more
        self.books.pump()

    @invariant()
    def books_are_in_order(self):
        if hasattr(self, "books"):
            self.books.check()

    def teardown(self):
        if hasattr(self, "books"):
            self.books.wind_down()
            self.books.check()
            assert not self.books.queue, "a request was never answered"
            assert not self.books.attempts


TestFleet = Fleet.TestCase


@given(small=st.integers(1, 5), floor=st.integers(40, 100), swarm=st.integers(2, 12), seed=st.randoms())
def test_a_swarm_of_small_requests_does_not_starve_a_large_one(small, floor, swarm, seed):
    books = Books({PROJECT: 100, "code": 100, "qa": 100})
    big = books.claim("qa", 0)
    crowd = [books.claim("code", small) for _ in range(swarm)]
    for attempt in crowd:
        books.ask(attempt, 100, small)
    assert all(attempt.open for attempt in crowd)
    books.ask(big, floor, floor)
    for _ in range(5 * swarm):
        if big.open:
            break
        attempt = seed.choice([a for a in crowd if a.open])
        books.finish(attempt, 0, 0.0, False)  # answered for nothing, so that only the queue can starve
        books.ask(attempt, small, small)
        books.check()
    assert big.open == [floor]


@given(
    limit=st.integers(1, 400),
    needs=st.lists(st.tuples(st.integers(20, 400), st.integers(1, 60)), min_size=2, max_size=10),
    hold=st.integers(0, 10),
)
def test_when_all_ask_at_once_one_is_answered_and_the_rest_follow(limit, needs, hold):
    books = Books({PROJECT: limit, "code": limit})
    attempts = [a for a in (books.claim("code", hold) for _ in needs) if a]
    for attempt, (need, floor) in zip(attempts, needs, strict=False):
        books.ask(attempt, max(need, floor), floor)
        books.check()
    assert not attempts or books.answers
    books.wind_down()
    assert not books.queue and not books.attempts
    assert books.spent[PROJECT] <= limit
