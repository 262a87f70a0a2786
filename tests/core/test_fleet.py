"""Growing and shrinking: by example and as a machine that never sees a run cut."""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from producer.core.fleet import DrainWorker, Start, WorkerState, WorkerView, plan

IDLE, BUSY, STARTING = WorkerState.IDLE, WorkerState.BUSY, WorkerState.STARTING
SUSPECT, DRAINING = WorkerState.SUSPECT, WorkerState.DRAINING


def fleet(*states):
    return [WorkerView(f"w{slot}", slot, state) for slot, state in enumerate(states)]


def test_growing_takes_the_lowest_free_slots():
    workers = [WorkerView("a", 1, BUSY), WorkerView("b", 3, IDLE)]
    assert plan(5, workers) == [Start(0), Start(2), Start(4)]


def test_shrinking_takes_the_idle_ones_and_the_highest_slots_first():
    workers = fleet(IDLE, BUSY, IDLE, STARTING, SUSPECT, BUSY)
    assert plan(5, workers) == [DrainWorker("w2")]
    assert plan(0, workers) == [DrainWorker(w) for w in ("w2", "w0", "w3", "w4", "w5", "w1")]


def test_a_fleet_at_its_number_needs_nothing():
    assert plan(2, fleet(BUSY, SUSPECT, DRAINING)) == []
    assert plan(0, []) == []


def test_a_draining_worker_keeps_its_slot():
    assert plan(1, fleet(DRAINING)) == [Start(1)]


def test_a_crashed_worker_waits_for_its_restart():
    assert plan(2, fleet(IDLE), resting=[1]) == []
    assert plan(3, fleet(IDLE), resting=[1]) == [Start(2)]
    assert plan(0, fleet(IDLE), resting=[1]) == [DrainWorker("w0")]


class Pool(RuleBasedStateMachine):
    """Workers that start, work, fall silent, crash and leave, with a plan carried out whenever hypothesis likes."""

    def __init__(self):
        super().__init__()
        self.desired, self.workers, self.ids = 1, {}, count()
        self.runs: set[str] = set()  # workers with a run in hand, draining or not
        self.resting: set[int] = set()

    def views(self):
        return [WorkerView(w, slot, state) for w, (slot, state) in self.workers.items()]

    def become(self, worker, state):
        self.workers[worker] = (self.workers[worker][0], state)

    @rule(desired=st.integers(0, 6))
    def scale(self, desired):
        self.desired = desired

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), state=st.sampled_from([IDLE, BUSY, SUSPECT]))
    def changes(self, data, state):
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        if self.workers[worker][1] is not DRAINING:
            self.become(worker, state)
            if state is not SUSPECT:
                (self.runs.add if state is BUSY else self.runs.discard)(worker)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def a_run_ends(self, data):
        worker = data.draw(st.sampled_from(sorted(self.runs)))
        self.runs.discard(worker)
        if self.workers[worker][1] is BUSY:
            self.become(worker, IDLE)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def crashes(self, data):
        worker = data.draw(st.sampled_from(sorted(self.workers)))
        slot, state = self.workers.pop(worker)
        self.runs.discard(worker)
        if state is not DRAINING:
            self.resting.add(slot)

    @rule()
    def backoff_is_over(self):
        self.resting.clear()

    @rule()
    def a_drained_worker_leaves(self):
        for worker, (_, state) in list(self.workers.items()):
            if state is DRAINING and worker not in self.runs:
                del self.workers[worker]

    @rule()
    def carry_out_the_plan(self):
        before, steps = self.views(), plan(self.desired, self.views(), self.resting)
        assert not steps or len({type(step) for step in steps}) == 1
        for step in steps:
            if isinstance(step, Start):
                self.workers[f"w{next(self.ids)}"] = (step.slot, STARTING)
            else:
                self.become(step.id, DRAINING)
        drained = {step.id for step in steps if isinstance(step, DrainWorker)}
        if any(view.id in drained and view.state is BUSY for view in before):
            assert all(view.id in drained for view in before if view.state in (IDLE, STARTING, SUSPECT))
        assert plan(self.desired, self.views(), self.resting) == []
        staying = sum(state is not DRAINING for _, state in self.workers.values())
        assert staying <= self.desired
        assert self.desired <= staying + len(self.resting)

    @invariant()
    def no_two_processes_share_a_slot(self):
        slots = [slot for slot, _ in self.workers.values()] + list(self.resting)
        assert len(slots) == len(set(slots))

    @invariant()
    def no_run_is_ever_cut(self):
        assert self.runs <= set(self.workers)


TestPool = Pool.TestCase
