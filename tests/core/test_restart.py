"""Backoff, intensity, parking: by example and as a machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from producer.core.restart import Park, RestartAt, RestartPolicy, on_exit, recent

POLICY = RestartPolicy()


def test_the_first_crash_restarts_within_a_second():
    assert on_exit((), POLICY, started=99.0, now=100.0, jitter=1.0) == RestartAt(101.0, (100.0,))
    assert on_exit((), POLICY, started=99.0, now=100.0, jitter=0.0) == RestartAt(100.5, (100.0,))


def test_a_crash_loop_backs_off_and_is_parked():
    history, now, waits = (), 100.0, []
    while isinstance(step := on_exit(history, POLICY, started=now, now=now, jitter=1.0), RestartAt):
        waits.append(step.at - now)
        history, now = step.history, step.at
    assert waits == [1, 2, 4, 8, 16]
    assert isinstance(step, Park) and len(step.history) == POLICY.intensity + 1


def test_a_healthy_life_begins_a_new_series():
    step = on_exit((95.0, 97.0, 98.0), POLICY, started=100.0, now=160.0, jitter=1.0)
    assert step == RestartAt(161.0, (160.0,))


def test_old_crashes_are_forgotten():
    step = on_exit((100.0, 399.0), POLICY, started=400.0, now=401.0, jitter=1.0)
    assert step == RestartAt(403.0, (399.0, 401.0))


def test_the_wait_stops_at_the_cap_however_long_the_series():
    policy = RestartPolicy(intensity=10_000, window=1e9)
    step = on_exit(tuple(float(n) for n in range(5000)), policy, started=5000.0, now=5000.0, jitter=1.0)
    assert isinstance(step, RestartAt) and step.at == 5060.0


def test_a_clock_set_back_a_day_does_not_park_the_role():
    history = tuple(100_000.0 + n for n in range(5))
    assert on_exit(history, POLICY, started=100_005.0, now=13_605.0, jitter=1.0) == RestartAt(13_606.0, (13_605.0,))


@given(st.lists(st.floats(0, 1000)).map(tuple), st.floats(0, 1000), st.floats(0, 500))
def test_recent_keeps_order_and_only_the_window(history, now, window):
    kept = recent(history, now, window)
    assert all(now - window - 1e-6 <= at <= now for at in kept)
    assert list(kept) == [at for at in history if at in kept]


class Role(RuleBasedStateMachine):
    """A role with one worker that lives as long as hypothesis lets it."""

    policy = RestartPolicy(base=1.0, cap=8.0, healthy_seconds=20.0, intensity=3, window=60.0)

    def __init__(self):
        super().__init__()
        self.now, self.started, self.history, self.parked = 0.0, 0.0, (), False
        self.bad: list[float] = []  # every exit since the last healthy life: what the history must agree with

    @precondition(lambda self: not self.parked)
    @rule(life=st.floats(0, 40), jitter=st.floats(0, 1))
    def worker_dies(self, life, jitter):
        self.now = self.started + life
        self.bad = [*([] if self.now - self.started >= 20.0 else self.bad), self.now]
        step = on_exit(self.history, self.policy, self.started, self.now, jitter)
        self.history = step.history
        if isinstance(step, Park):
            self.parked = True
        else:
            assert self.now + self.policy.base / 2 <= step.at <= self.now + self.policy.cap
            self.started = step.at

    @precondition(lambda self: self.parked)
    @rule()
    def a_human_resets_it(self):
        self.history, self.bad, self.parked, self.started = (), [], False, self.now

    @invariant()
    def parked_when_and_only_when_there_were_too_many(self):
        in_window = [at for at in self.bad if 0 <= self.now - at <= self.policy.window]
        assert list(self.history) == in_window
        assert self.parked == (len(in_window) > self.policy.intensity)


TestRole = Role.TestCase
