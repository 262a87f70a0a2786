"""Filing tasks, their order, their dependencies, and what an operator does to them."""

from __future__ import annotations

import math
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_rig import Desk

from producer.core.guards import Limits
from producer.core.money import MicroUSD
from producer.errors import (
    IllegalTransition,
    InvalidDependency,
    InvalidTask,
    LedgerError,
    LimitReached,
    UnknownTask,
)
from producer.ids import is_id
from producer.ledger.attempts import Ending
from producer.ledger.checks import refuse_cycle
from producer.ledger.model import Draft, Filing
from producer.ledger.views import Reader


def order(desk: Desk, role: str = "code") -> list[str]:
    """The titles in the order in which a worker would get them."""
    titles = []
    while True:
        with desk.transaction():
            found = desk.attempts.ready(role)
        if not found:
            return titles
        titles.append(found[0].title)
        desk.settle(desk.claim(found[0].task).attempt, "succeeded")


# ---- filing


def test_claims_go_by_priority_then_age(desk: Desk) -> None:
    for title, priority in (("b", 3), ("c", 3), ("a", 0), ("e", 5), ("d", 4), ("other", 0)):
        desk.add(title, "qa" if title == "other" else "code", priority=priority)
    assert order(desk) == ["a", "b", "c", "d", "e"]


def test_an_urgent_task_goes_before_a_list_of_fifty(desk: Desk) -> None:
    for number in range(50):
        desk.add(f"old {number}")
    desk.add("urgent", priority=0)
    assert order(desk)[0] == "urgent"


def test_a_task_gets_an_id_a_time_and_its_own_lineage(desk: Desk) -> None:
    task = desk.add(" padded ", payload={"a": [1, {"b": "ü"}]}, sprint_id="s1")
    row = desk.db.dict("SELECT * FROM tasks")
    assert row is not None and is_id(task)
    assert (row["id"], row["title"], row["root_task_id"], row["depth"]) == (task, "padded", task, 0)
    assert row["payload"] == '{"a":[1,{"b":"ü"}]}' and row["created_at"] == desk.db.stamp


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("title", "", "title"), ("title", " \n", "title"), ("title", None, "title"), ("title", 7, "title"),
        ("title", "x" * 201, "title"), ("title", "a\ud800", "title"), ("description", "", "description"),
        ("description", "x" * 65_537, "description"), ("agent_owner", " ", "agent_owner"), ("priority", 6, "priority"),
        ("priority", -1, "priority"), ("priority", True, "priority"), ("priority", 1.0, "priority"),
        ("priority", "1", "priority"), ("payload", [1], "payload"), ("payload", "{}", "payload"),
        ("payload", {"a": math.nan}, "payload"), ("payload", {"a": math.inf}, "payload"),
        ("payload", {"a": {1, 2}}, "payload"), ("payload", {"a": "\ud800"}, "payload"),
        ("payload", {"a": "x" * 65_536}, "payload"), ("dependencies", "abc", "dependencies"),
        ("dependencies", [1], "dependencies"), ("dependencies", {"a": 1}, "dependencies"),
        ("task_id", "../../evil", "task_id"), ("task_id", "a" * 65, "task_id"), ("task_id", "", "task_id"),
        ("task_id", 5, "task_id"), ("task_id", "0" * 26 + "\n", "task_id"), ("sprint_id", 5, "sprint_id"),
        ("parent_task_id", "", "parent_task_id"), ("caused_by_task_id", {}, "caused_by_task_id"),
    ],
)  # fmt: skip
def test_what_may_not_be_stored_is_refused_naming_the_field(desk: Desk, field: str, value: Any, says: str) -> None:
    fields: dict[str, Any] = {"agent_owner": "code", "title": "t", "description": "d", field: value}
    with pytest.raises((InvalidTask, LimitReached), match=says):
        desk.add_all([Draft(**fields)])
    assert desk.db.value("SELECT count(*) FROM tasks") == 0
    assert desk.actions() == ["schema_init"]


def test_a_payload_too_deep_for_a_message_is_refused(desk: Desk) -> None:
    def nested(levels: int) -> Any:
        return {"a": nested(levels - 1)} if levels else 1

    desk.add("fits", payload=nested(24))
    with pytest.raises(InvalidTask, match="levels"):
        desk.add("too deep", payload=nested(25))
    with pytest.raises(InvalidTask, match="payload"):
        desk.add("far too deep", payload=nested(900))


def test_a_batch_is_filed_whole_or_not_at_all(desk: Desk) -> None:
    good, bad = Draft("code", "good", "d"), Draft("code", "bad", "d", dependencies=("nobody",))
    with desk.transaction(), pytest.raises(InvalidDependency):
        desk.queue.file([good, bad], Filing("operator"), Limits())
    assert desk.db.value("SELECT count(*) FROM tasks") == 0 and desk.actions() == ["schema_init"]


def test_an_id_is_taken_once(desk: Desk) -> None:
    desk.add("one", task_id="a-1")
    for drafts in ([Draft("code", "x", "d", task_id="a-1")], [Draft("code", "x", "d", task_id="b")] * 2):
        with pytest.raises(InvalidTask, match="exists already"):
            desk.add_all(drafts)


def test_roles_are_checked_once_a_configuration_was_seen(desk: Desk) -> None:
    desk.add("before", "anything")
    with desk.transaction():
        desk.roles.declare({"*": 0, "code": 1, "qa": 2})
    desk.add("after", "qa")
    for role in ("anything", "*"):
        with pytest.raises(InvalidTask, match="use one of code, qa"):
            desk.add("after", role)


def test_thousands_at_once(desk: Desk) -> None:
    """A chain, so that the search for cycles has something to do: it was quadratic."""
    drafts = [
        Draft("code", f"t{n}", "d", task_id=f"t{n}", dependencies=(f"t{n - 1}",) if n else ()) for n in range(2000)
    ]
    assert len(desk.add_all(list(reversed(drafts)))) == 2000
    with desk.transaction():
        assert [(one.task, one.root) for one in desk.attempts.ready("code", 9)] == [("t0", "t0")]


def test_too_many_at_once_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.ledger.queue.BATCH", 3)
    with pytest.raises(InvalidTask, match="at most 3"):
        desk.add_all([Draft("code", "t", "d")] * 4)


# ---- follow-ups of agents


def follow_up(desk: Desk, parent: str, attempt: str, limits: Limits | None = None, **fields: Any) -> str:
    draft = Draft(**({"agent_owner": "qa", "title": "check it", "description": "d"} | fields))
    return desk.add_all([draft], Filing("code", attempt, parent), limits or Limits())[0]


def test_a_follow_up_is_placed_below_its_task_whatever_it_says(desk: Desk) -> None:
    parent, other = desk.add("parent"), desk.add("other")
    attempt = desk.claim(parent).attempt
    child = follow_up(desk, parent, attempt, parent_task_id=other, caused_by_task_id=other)
    row = desk.db.dict("SELECT * FROM tasks WHERE id = ?", child)
    assert row is not None
    assert (row["parent_task_id"], row["caused_by_task_id"], row["root_task_id"]) == (parent, parent, parent)
    assert (row["depth"], row["filed_by_attempt"]) == (1, attempt)
    with pytest.raises(InvalidTask, match="made by the supervisor"):
        follow_up(desk, parent, attempt, title="chosen", task_id="mine")


def test_limits_hold_for_follow_ups_and_not_for_operators(desk: Desk) -> None:
    parent = desk.add("parent")
    attempt = desk.claim(parent).attempt
    limits = Limits(depth=1, filed_per_attempt=2, pending_per_role=3)
    child = follow_up(desk, parent, attempt, limits, title="alpha", description="one thing")
    with pytest.raises(LimitReached, match="says the same"):
        follow_up(desk, parent, attempt, limits, title="alpha", description="one thing")
    second = desk.claim(child).attempt
    with pytest.raises(LimitReached, match="depth"):
        follow_up(desk, child, second, limits, title="beta", description="deeper")
    follow_up(desk, parent, attempt, limits, title="gamma", description="something else")
    with pytest.raises(LimitReached, match="filed_per_attempt"):
        follow_up(desk, parent, attempt, limits, title="delta", description="a third thing")
    for number in range(4):
        desk.add(f"by hand {number}", "qa")


def test_a_batch_cannot_jump_over_the_length_of_a_queue(desk: Desk) -> None:
    parent = desk.add("parent")
    attempt = desk.claim(parent).attempt
    drafts = [Draft("qa", f"unlike_{n}", f"text_{n}") for n in range(4)]
    with pytest.raises(LimitReached, match="pending_per_role"):
        desk.add_all(drafts, Filing("code", attempt, parent), Limits(pending_per_role=3))
    assert desk.db.value("SELECT count(*) FROM tasks WHERE agent_owner = 'qa'") == 0


def test_an_unknown_parent_is_refused(desk: Desk) -> None:
    with pytest.raises(UnknownTask, match="nobody"):
        desk.add("child", parent_task_id="nobody")


# ---- dependencies


def test_a_task_waits_until_everything_it_needs_is_done(desk: Desk) -> None:
    a, b = desk.add("a"), desk.add("b")
    c = desk.add("c", dependencies=[a, b, a], priority=0)
    assert desk.column(c, "open_dependencies") == 2
    desk.settle(desk.claim(a).attempt, "succeeded")
    assert desk.column(c, "open_dependencies") == 1
    desk.settle(desk.claim(b).attempt, "failed")
    assert desk.column(c, "open_dependencies") == 1
    desk.time.now += 3600
    with desk.transaction():
        assert desk.queue.release_due() == 1
    desk.settle(desk.claim(b).attempt, "succeeded")
    assert desk.column(c, "open_dependencies") == 0
    assert desk.column(desk.add("d", dependencies=[a]), "open_dependencies") == 0
    assert order(desk) == ["c", "d"]


def test_what_is_done_in_the_same_transaction_is_not_waited_for_nor_counted_twice(desk: Desk) -> None:
    a, waiting = desk.add("a"), desk.claim(desk.add("b")).attempt
    early = desk.add("early", dependencies=[a])
    attempt = desk.claim(a).attempt
    with desk.transaction():
        desk.end(waiting, "succeeded")
        desk.end(attempt, "succeeded")
        [late] = desk.queue.file([Draft("code", "late", "do it", dependencies=(a,))], Filing("operator"), Limits())
    assert [desk.column(task, "open_dependencies") for task in (early, late)] == [0, 0]


def test_self_unknown_and_cyclic_dependencies_are_refused_naming_them(desk: Desk) -> None:
    with pytest.raises(InvalidDependency, match="me cannot depend on itself"):
        desk.add("me", task_id="me", dependencies=["me"])
    with pytest.raises(InvalidDependency, match="no such task: x, y") as caught:
        desk.add("lost", dependencies=["x", "y"])
    assert caught.value.path == ["x", "y"]
    ring = [Draft("code", n, "d", task_id=n, dependencies=(m,)) for n, m in ("ab", "bc", "ca")]
    with pytest.raises(InvalidDependency, match="a -> b -> c -> a"):
        desk.add_all([Draft("code", "z", "d", task_id="z", dependencies=("a",)), *ring])
    assert desk.db.value("SELECT count(*) FROM tasks") == desk.db.value("SELECT count(*) FROM dependency") == 0


def test_a_batch_may_name_its_own_tasks_in_any_order(desk: Desk) -> None:
    desk.add_all([Draft("code", "2", "d", task_id="t2", dependencies=("t1",)), Draft("code", "1", "d", task_id="t1")])
    assert order(desk) == ["1", "2"]


def test_an_edit_may_not_close_a_cycle(desk: Desk) -> None:
    a = desk.add("a")
    b = desk.add("b", dependencies=[a])
    c = desk.add("c", dependencies=[b])
    with desk.transaction():
        with pytest.raises(InvalidDependency, match=f"{a} -> {c} -> {b} -> {a}"), desk.db.savepoint():
            desk.queue.edit(a, {"dependencies": [c]}, "me", Limits())
        desk.queue.edit(c, {"dependencies": [a]}, "me", Limits())
    assert order(desk) == ["a", "b", "c"]


STEPS = st.tuples(st.sampled_from(["file", "finish", "fail", "edit"]), st.integers(0, 3), st.sets(st.integers(0, 3)))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=1, max_size=4))
def test_whatever_happens_in_a_turn_each_task_waits_for_what_is_not_done(turns: list[list[tuple[Any, ...]]]) -> None:
    with tempfile.TemporaryDirectory() as directory, closing(Desk(Path(directory))) as desk:
        tasks: list[str] = []
        for turn in turns:
            with desk.transaction():
                for what, which, needed in turn:
                    among = tuple(tasks[number] for number in needed if number < len(tasks))
                    if what == "file":
                        draft = Draft("code", f"t{len(tasks)}", "do it", dependencies=among)
                        tasks += desk.queue.file([draft], Filing("operator"), Limits())
                    elif which < len(tasks):
                        with suppress(IllegalTransition, InvalidTask, InvalidDependency):
                            step(desk, what, tasks[which], among)
            wrong = desk.db.rows(
                "SELECT id, open_dependencies FROM tasks AS t WHERE open_dependencies != (SELECT count(*) FROM dependency"
                " JOIN tasks AS n ON n.id = depends_on WHERE task = t.id AND n.status != 'done')"
            )
            assert wrong == []


def step(desk: Desk, what: str, task: str, among: tuple[str, ...]) -> None:
    """One step with a task inside a transaction; it may be refused."""
    if what == "edit":
        with desk.db.savepoint():
            desk.queue.edit(task, {"dependencies": among}, "operator", Limits())
    else:
        claim = desk.attempts.claim(desk.attempts.task(task), "w", "a-model", MicroUSD(0), resume=True)
        desk.end(claim.attempt, "succeeded" if what == "finish" else "failed")


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_cycles_are_found_where_there_are_any_and_nowhere_else(pairs: list[tuple[int, int]]) -> None:
    edges: dict[str, list[str]] = {str(n): [] for n in range(8)}
    for here, needed in pairs:
        edges[str(here)].append(str(needed))
    left = dict(edges)
    while free := [n for n, needs in left.items() if not any(need in left for need in needs)]:
        for n in free:
            del left[n]
    try:
        refuse_cycle(edges)
    except InvalidDependency as error:
        assert left
        assert error.path[0] == error.path[-1]
        assert all(b in edges[a] for a, b in zip(error.path, error.path[1:], strict=False))
    else:
        assert not left


@pytest.mark.parametrize(
    ("end", "reason"),
    [("kill", "killed"), ("escalate", "waits for a human"), ("fail", "not done yet"), ("none", "not done yet")],
)
def test_a_blocked_task_says_by_whom_and_why(desk: Desk, end: str, reason: str) -> None:
    needed = desk.add("needed")
    waits = desk.add("waits", dependencies=[needed])
    if end == "kill":
        with desk.transaction():
            desk.queue.kill(needed, "me", "no longer wanted")
    elif end != "none":
        desk.settle(desk.claim(needed).attempt, {"escalate": "permanent", "fail": "failed"}[end])
    with Reader(desk.db.path) as reader:
        (blocker,) = reader.blocked_by(waits)
        assert (blocker["id"], blocker["title"]) == (needed, "needed") and reason in blocker["reason"]
        assert [row["id"] for row in reader.list(status="blocked")] == [waits]
        assert reader.counts()["blocked"] == 1
        assert reader.show(waits)["blocked_by"] == [blocker]


# ---- waiting, approval, and what a human does


def test_not_before_holds_a_task_back_until_its_time(desk: Desk) -> None:
    task = desk.add()
    desk.settle(desk.claim(task).attempt, "failed")
    due = desk.queue.next_due()
    assert due == desk.time.now + 15.0 and desk.column(task, "retry_count") == 1
    for now, released in ((due - 0.001, 0), (due, 1), (due + 1, 0)):
        desk.time.now = now
        with desk.transaction():
            assert desk.queue.release_due() == released
    assert desk.queue.next_due() is None
    assert order(desk) == ["a title"]


def test_a_task_that_needs_an_approval_waits_for_it(desk: Desk) -> None:
    task = desk.add(requires_approval=True)
    assert order(desk) == []
    with desk.transaction():
        desk.queue.approve(task, "me")
        with pytest.raises(InvalidTask, match="does not wait"):
            desk.queue.approve(task, "me")
        with pytest.raises(UnknownTask):
            desk.queue.approve("nobody", "me")
    assert order(desk) == ["a title"]
    assert "task_approved" in desk.actions(task)


def test_kill_and_requeue(desk: Desk) -> None:
    task = desk.add()
    with desk.transaction():
        desk.queue.kill(task, "me", "wrong")
        with pytest.raises(IllegalTransition, match="is killed"):
            desk.queue.kill(task, "me", "again")
    assert (desk.column(task, "escalation_reason"), desk.column(task, "finished_at")) == ("wrong", desk.db.stamp)
    with desk.transaction():
        desk.queue.requeue(task, "me", "right after all")
    assert desk.column(task, "finished_at") is None and order(desk) == ["a title"]
    with desk.transaction(), pytest.raises(IllegalTransition, match="is done"):
        desk.queue.requeue(task, "me", "once more")
    assert desk.actions(task)[1:3] == ["task_killed", "task_requeued"]


def test_a_task_is_not_requeued_while_its_last_run_still_ends(desk: Desk) -> None:
    task = desk.add()
    claim = desk.claim(task)
    with desk.transaction():
        desk.queue.kill(task, "me", "stop")
    with desk.transaction(), pytest.raises(LedgerError, match="still ending"):
        desk.queue.requeue(task, "me", "go on")
    assert desk.settle(claim.attempt, "cancelled") == "killed"
    with desk.transaction():
        desk.queue.requeue(task, "me", "go on")
    assert order(desk) == ["a title"]


def test_route_gives_a_task_to_another_role(desk: Desk) -> None:
    task = desk.add()
    with desk.transaction():
        desk.queue.route(task, "qa", "me")
    assert order(desk, "code") == [] and order(desk, "qa") == ["a title"]
    with desk.transaction(), pytest.raises(InvalidTask, match="is done"):
        desk.queue.route(task, "code", "me")


def test_edit_changes_what_is_named_and_nothing_else(desk: Desk) -> None:
    task = desk.add(payload={"a": 1}, priority=2)
    with desk.transaction():
        desk.queue.edit(task, {"title": " new ", "payload": {"b": 2}}, "me", Limits())
    row = desk.db.dict("SELECT * FROM tasks WHERE id = ?", task)
    assert row is not None
    assert (row["title"], row["payload"], row["priority"], row["description"]) == ("new", '{"b":2}', 2, "do a title")
    for changes in ({"status": "done"}, {"title": ""}, {"priority": 9}, {"payload": None}, {"dependencies": "x"}):
        with desk.transaction(), pytest.raises(InvalidTask):
            desk.queue.edit(task, changes, "me", Limits())


def test_a_running_or_done_task_is_neither_edited_nor_routed(desk: Desk) -> None:
    task = desk.add()
    attempt = desk.claim(task).attempt
    for says in ("in progress", "is done"):
        with desk.transaction():
            with pytest.raises(InvalidTask, match=says):
                desk.queue.edit(task, {"title": "x"}, "me", Limits())
            with pytest.raises(InvalidTask, match=says):
                desk.queue.route(task, "qa", "me")
        if says == "in progress":
            desk.settle(attempt, "succeeded", Ending("succeeded"))


def test_resolve_takes_the_beginning_of_an_id(desk: Desk) -> None:
    for ident in ("abc-1", "abc-2", "abd", "ab*", "abd-9"):
        desk.add(ident, task_id=ident) if "*" not in ident else None
    with Reader(desk.db.path) as reader:
        assert reader.resolve("abc-1") == reader.resolve("abc-1"[:5]) == "abc-1"
        assert reader.resolve("abd") == "abd"
        for text, says in (("abc", "several"), ("", "no such task"), ("x", "no such task"), ("[a]bc-1", "no such task"),
                           ("?bc-1", "no such task"), ("*", "no such task")):  # fmt: skip
            with pytest.raises(UnknownTask, match=says):
                reader.resolve(text)
