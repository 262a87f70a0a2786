"""When a project counts as idle and when an agent is woken: the rules one by one, and under any order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from producer.core.idle import (
    ConsiderWakeup,
    ReportBack,
    ReportIdle,
    Seen,
    SendWakeup,
    SkipWakeup,
    Spell,
    WakeFacts,
    WakeRules,
    idle_in_a_row,
    look,
    verdict,
    wake,
)

QUIET, WORK = Seen(), Seen(running=True)


def looks(*seen: Seen, step: float = 1.0, threshold: float = 3.0, spell: Spell | None = None) -> list[list[str]]:
    """What each of several looks, one a ``step``, asks for."""
    spell, found = spell or Spell(), []
    for number, item in enumerate(seen):
        spell, actions = look(spell, item, number * step, threshold)
        found.append([type(action).__name__ for action in actions])
    return found


def test_idleness_is_told_once_after_the_threshold() -> None:
    found = looks(*[QUIET] * 6)
    assert found == [[], [], [], ["ConsiderWakeup", "ReportIdle"], ["ConsiderWakeup"], ["ConsiderWakeup"]]


def test_back_online_is_told_once_and_only_after_idleness_was() -> None:
    assert looks(QUIET, WORK, WORK) == [[], [], []]
    assert looks(*[QUIET] * 4, WORK, WORK, QUIET)[4:] == [["ReportBack"], [], []]


def test_work_that_is_ready_or_will_be_begins_the_time_anew() -> None:
    coming = Seen(coming=True)
    assert looks(QUIET, QUIET, QUIET, coming, QUIET, QUIET, QUIET) == [[]] * 7


def test_a_stopped_project_is_not_idle() -> None:
    stopped = Seen(stopped=True)
    assert looks(QUIET, *[stopped] * 9, QUIET, QUIET, QUIET) == [[]] * 13


def test_a_wakeup_is_no_work() -> None:
    waking = Seen(waking=True)
    found = looks(*[QUIET] * 4, waking, waking, QUIET, QUIET, QUIET, QUIET)
    assert sum("ReportIdle" in actions for actions in found) == 1
    assert found[4:] == [[], [], [], [], [], ["ConsiderWakeup"]]


def test_a_restarted_supervisor_does_not_tell_it_again_and_tells_back_online() -> None:
    spell = Spell(told=True)
    assert looks(*[QUIET] * 4, WORK, spell=spell) == [[], [], [], ["ConsiderWakeup"], ["ReportBack"]]


def decide(facts: WakeFacts, now: float = 1000.0, **rules: object) -> SendWakeup | SkipWakeup | None:
    return wake(Spell(), facts, WakeRules(**{"cooldown": 100.0, **rules}), now)[1]  # type: ignore[arg-type]


def test_the_first_wakeup_waits_for_nothing() -> None:
    assert decide(WakeFacts()) == SendWakeup()


def test_a_wakeup_waits_for_the_cooldown() -> None:
    assert decide(WakeFacts(last=901.0)) == SkipWakeup("cooldown", 1001.0)
    assert decide(WakeFacts(last=900.0)) == SendWakeup()
    assert decide(WakeFacts(last=2000.0)) == SendWakeup(), "the clock was set back"


def test_wakeups_that_find_nothing_end_the_asking() -> None:
    assert decide(WakeFacts(idle_in_a_row=1)) == SendWakeup()
    assert decide(WakeFacts(idle_in_a_row=2)) == SkipWakeup("suppressed")


def test_a_role_that_cannot_run_is_not_woken() -> None:
    assert decide(WakeFacts(hindrance="no_role")) == SkipWakeup("no_role")
    assert decide(WakeFacts(hindrance="no_role"), enabled=False) is None


def test_a_reason_is_noted_once_in_a_spell() -> None:
    rules, spell = WakeRules(cooldown=100.0), Spell()
    spell, first = wake(spell, WakeFacts(last=950.0), rules, 1000.0)
    spell, second = wake(spell, WakeFacts(last=950.0), rules, 1001.0)
    spell, third = wake(spell, WakeFacts(idle_in_a_row=2), rules, 1002.0)
    assert first and third and second is None


def test_verdicts() -> None:
    assert [verdict(True, 0), verdict(True, 2), verdict(False, 0), verdict(False, 1)] == [
        "done", "queued", "failed", "queued",
    ]  # fmt: skip
    assert idle_in_a_row([]) == 0
    assert idle_in_a_row(["done", "failed", "queued", "done"]) == 2


class Project(RuleBasedStateMachine):
    """A project in which tasks come and go, the shell's use of the rules, and a plain account of what was told."""

    threshold, cooldown, most = 5.0, 60.0, 2

    @initialize()
    def begin(self) -> None:
        self.now, self.spell, self.rules = 1000.0, Spell(), WakeRules(True, self.cooldown, self.most)
        self.tasks, self.claimed, self.armed, self.waking = 0, False, False, False
        self.in_a_row, self.last, self.quiet_since = 0, -1e9, None
        self.told: list[str] = []
        self.sent: list[float] = []
        self.skips: list[str] = []

    @rule()
    def file(self) -> None:
        self.tasks, self.in_a_row = self.tasks + 1, 0

    @precondition(lambda self: self.tasks and not self.armed)
    @rule()
    def work_between_two_looks(self) -> None:
        self.tasks, self.claimed = self.tasks - 1, True

    @rule()
    def turn_the_switch(self) -> None:
        self.armed, self.in_a_row = not self.armed, 0

    @precondition(lambda self: self.waking and not self.armed)
    @rule(filed=st.integers(0, 2))
    def the_woken_agent_answers(self, filed: int) -> None:
        self.waking, self.tasks = False, self.tasks + filed
        self.in_a_row = 0 if filed else self.in_a_row + 1

    @rule()
    def restart(self) -> None:
        self.spell = Spell(told=self.spell.told)
        self.quiet_since = None
        self.skips.clear()

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]), times=st.integers(1, 8))
    def time_passes(self, seconds: float, times: int) -> None:
        for _ in range(times):
            self.now += seconds
            self.look_once()

    @rule(seconds=st.sampled_from([6.0, 61.0]))
    def nothing_happens_for_long(self, seconds: float) -> None:
        self.tasks, self.armed = 0, False
        self.look_once()
        self.now += seconds
        self.look_once()

    def look_once(self) -> None:
        seen = Seen(running=self.claimed and not self.armed, coming=self.tasks > 0, waking=self.waking,
                    stopped=self.armed)  # fmt: skip
        self.claimed = self.claimed and self.armed
        if seen.running:
            self.skips.clear()
        quiet = seen == QUIET
        if not quiet:
            self.quiet_since = None
        elif self.quiet_since is None:
            self.quiet_since = self.now
        self.spell, actions = look(self.spell, seen, self.now, self.threshold)
        assert not actions or quiet or actions == (ReportBack(),)
        since = self.quiet_since
        for action in actions:
            self.act(action, since)

    def act(self, action: object, since: float | None) -> None:
        match action:
            case ReportIdle(seconds):
                assert since is not None and seconds == self.now - since >= self.threshold
                self.told.append("idle")
            case ReportBack():
                self.told.append("back")
            case ConsiderWakeup(seconds):
                assert seconds >= self.threshold
                self.consider()

    def consider(self) -> None:
        self.spell, decision = wake(self.spell, WakeFacts(self.last, self.in_a_row), self.rules, self.now)
        if isinstance(decision, SkipWakeup):
            assert decision.reason not in self.skips, "a reason is noted once in a spell"
            self.skips.append(decision.reason)
        if isinstance(decision, SendWakeup):
            assert not self.waking, "one wake-up at a time"
            assert self.in_a_row < self.most
            assert self.now >= self.last + self.cooldown
            self.waking, self.last, self.quiet_since = True, self.now, None
            self.sent.append(self.now)

    @invariant()
    def told_in_turns(self) -> None:
        if hasattr(self, "told"):
            assert all(word == ("idle", "back")[number % 2] for number, word in enumerate(self.told))
            assert self.spell.told == (len(self.told) % 2 == 1)

    @invariant()
    def wakeups_keep_their_distance(self) -> None:
        if hasattr(self, "sent"):
            assert all(b - a >= self.cooldown for a, b in zip(self.sent, self.sent[1:], strict=False))

    @invariant()
    def a_project_quiet_for_long_is_known_to_be(self) -> None:
        if getattr(self, "quiet_since", None) is not None and self.now - self.quiet_since >= self.threshold:
            assert self.spell.told


TestProject = Project.TestCase
TestProject.settings = settings(max_examples=60, stateful_step_count=40)
