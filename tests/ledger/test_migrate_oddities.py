"""What 0.3 stored and this version does not take as it stands: it is mended, kept as text, and said."""

from __future__ import annotations

import json
from graphlib import TopologicalSorter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from old_ledger import MOMENT, OldLedger, rows, status, take

from producer.errors import WireError
from producer.ids import is_id, new_id
from producer.ledger import Reader
from producer.ledger.checks import may_be_id
from producer.ledger.takeover import take_tasks
from producer.ledger.takeover_notes import Notes
from producer.wire.codec import decode, encode
from producer.wire.messages import Open


def test_ids_that_are_no_ulids_stay_and_those_unsafe_in_a_path_give_way_everywhere(old: OldLedger) -> None:
    old.task("T-1")
    old.task("../../evil", ["T-1"], status="done")
    old.task("child", ["../../evil", "T-1"], parent_task_id="../../evil")
    old.task(None, title="nameless")
    old.audit("task_inserted", "child", caused_by_task_id="../../evil")
    old.add("decisions", id="d", task_id="../../evil", agent_owner="qa", kind="k", decision_text="t", rationale="r",
            made_at=MOMENT)  # fmt: skip
    report = take(old)
    assert report.done
    (was, evil), (_, nameless) = report.done.notes.renamed
    assert was == "../../evil" and is_id(evil) and is_id(nameless)
    assert set(status(old.path)) == {"T-1", evil, "child", nameless}
    assert rows(old.path, "SELECT parent_task_id, caused_by_task_id, root_task_id, dependencies, open_dependencies FROM"
                " tasks WHERE id = 'child'") == [(evil, evil, evil, json.dumps([evil, "T-1"]), 1)]  # fmt: skip
    assert rows(old.path, "SELECT task_id FROM decisions") == [(evil,)]
    assert rows(
        old.path, "SELECT task_id, json_extract(detail, '$.before') FROM audit_log WHERE action = 'task_renamed'"
    )[0] == (evil, "../../evil")


@pytest.mark.parametrize(
    "ident", ["T-1", "01HYK0SEED00000000000HELLO", "a" * 64, "_", "a.b", "../x", "", "a" * 65, "a\n"]
)
def test_a_message_takes_just_the_ids_that_the_ledger_takes(ident: str) -> None:
    """A task with an id of 0.3 was claimed, could not be sent, and took the supervisor with it."""
    message = Open(task=ident, attempt=new_id(), role="code", title="t")
    if may_be_id(ident):
        assert decode(encode(message)) == message
    else:
        with pytest.raises(WireError, match="Open"):
            encode(message)


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "{broken", '"text"', '{"a": NaN}', '{"a": "\\ud800"}', "[" * 40 + "]" * 40, '{"a": 1, "a": 2}', ""],
)
def test_a_payload_that_no_worker_can_be_sent_is_kept_as_text(old: OldLedger, text: str) -> None:
    old.task("a", payload=text)
    report = take(old)
    assert report.done and [note.column for note in report.done.notes.changed] == ["payload"]
    with Reader(old.path) as reader:
        assert reader.task("a")["payload"] == {"payload_0_3": text}


def test_lists_that_cannot_be_read_are_kept_as_text(old: OldLedger) -> None:
    old.task("a", needs="{broken", output_refs="a.py, b.py")
    old.task("b", payload=None, output_refs=None)
    report = take(old)
    with Reader(old.path) as reader:
        assert reader.task("a")["output_refs"] == ["a.py, b.py"]
        assert reader.task("a")["dependencies"] == ["{broken"]
        assert (reader.task("b")["payload"], reader.task("b")["output_refs"]) == ({}, [])
    assert report.done and list(report.done.notes.escalated) == ["a"], "what it waited for is not known"


@pytest.mark.parametrize(("given", "stored"), [(9, 5), (-1, 0), (2.5, 2), ("urgent", 3), (5, 5)])
def test_a_priority_outside_the_scale_is_brought_into_it(old: OldLedger, given: Any, stored: int) -> None:
    old.task("a", priority=given)
    report = take(old)
    assert rows(old.path, "SELECT priority FROM tasks") == [(stored,)]
    assert report.done and len(report.done.notes.changed) == (given != stored)


@pytest.mark.parametrize("column", ["title", "description"])
def test_a_task_too_long_for_a_message_is_escalated_and_not_cut(old: OldLedger, column: str) -> None:
    old.task("a", **{column: "ю" * 40_000})
    old.task("b", status="done", **{column: "ю" * 40_000})
    report = take(old)
    assert report.done and list(report.done.notes.escalated) == ["a"]
    assert rows(old.path, f"SELECT length({column}) FROM tasks") == [(40_000,), (40_000,)]


# ---- any graph of tasks

IDS = [f"t{number}" for number in range(7)]
links = st.lists(st.sampled_from([*IDS, "gone"]), max_size=4)
tasks = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["pending", "pending", "in_progress", "done", "failed", "escalated", "killed"]),
        "needs": links,
        "parent": st.sampled_from([None, "gone", *IDS]),
    }
)


@given(st.lists(tasks, max_size=len(IDS)))
def test_whatever_hangs_on_whatever_nothing_waits_for_ever_and_nothing_is_lost(drawn: list[dict[str, Any]]) -> None:
    olds = [
        {
            **dict.fromkeys(("sprint_id", "started_at", "finished_at", "escalation_reason", "config_isolation")),
            "rowid": number, "id": IDS[number], "agent_owner": "code", "status": task["status"], "title": "t",
            "description": "d", "created_at": MOMENT, "retry_count": 0, "parent_task_id": task["parent"],
            "caused_by_task_id": None, "dependencies": json.dumps(task["needs"]), "payload": "{}", "output_refs": "[]",
            "priority": 3, "cost_usd": 0.0, "actual_cost_usd": None,
        }
        for number, task in enumerate(drawn)
    ]  # fmt: skip
    notes = Notes()
    found = take_tasks(olds, {}, new_id, notes)
    here = {task["id"]: task for task in found.rows.values()}
    assert list(here) == [old["id"] for old in olds]
    graph: dict[str, set[str]] = {ident: set() for ident in here}
    for task, needed in found.edges:
        graph[task].add(needed)
    TopologicalSorter(graph).prepare()  # raises where the edges close a cycle
    for old in olds:
        task, needs = here[old["id"]], json.loads(old["dependencies"])
        assert graph[old["id"]] <= set(needs) and json.loads(task["dependencies"]) == needs
        if task["status"] == "pending":
            assert graph[old["id"]] == set(needs), "every dependency of a task that waits is waited for"
        elif old["status"] in ("pending", "in_progress"):
            assert task["status"] == "escalated" and task["escalation_reason"] == notes.escalated[old["id"]]
        else:
            assert task["status"] == old["status"]
        above = here.get(task["parent_task_id"])
        assert task["depth"] == 0 or (above and task["depth"] == above["depth"] + 1)
        assert task["root_task_id"] == (above["root_task_id"] if task["depth"] else old["id"])
