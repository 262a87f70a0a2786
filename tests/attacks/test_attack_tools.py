"""An agent calls its ledger tools: forged roles, foreign ids, bombs, and what the tools must not tell or do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from attack_rig import Impostor, filed
from driving import Supervisor

from producer.ids import new_id

TASK = {"agent_owner": "code", "title": "a follow-up", "description": "do it"}
DECISION = {"kind": "design", "decision_text": "x", "rationale": "y"}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a role that there is not": ("insert_task", {**TASK, "agent_owner": "root"}),
    "a role that is everybody": ("insert_task", {**TASK, "agent_owner": "*"}),
    "a role that is a list": ("insert_task", {**TASK, "agent_owner": ["code"]}),
    "a title over the limit": ("insert_task", {**TASK, "title": "x" * 201}),
    "a title over the limit in bytes": ("insert_task", {**TASK, "title": "é" * 101}),
    "a title of spaces": ("insert_task", {**TASK, "title": " \n "}),
    "a title that is a number": ("insert_task", {**TASK, "title": 7}),
    "a description over the limit": ("insert_task", {**TASK, "description": "x" * 65_537}),
    "a payload over the limit": ("insert_task", {**TASK, "payload": {"x": "x" * 65_536}}),
    "a payload too deep": ("insert_task", {**TASK, "payload": {"x": json.loads("[" * 25 + "]" * 25)}}),
    "a payload that is a list": ("insert_task", {**TASK, "payload": [1]}),
    "a priority above all": ("insert_task", {**TASK, "priority": -1}),
    "a priority beyond counting": ("insert_task", {**TASK, "priority": 2**70}),
    "a priority of true": ("insert_task", {**TASK, "priority": True}),
    "a dependency that there is not": ("insert_task", {**TASK, "dependencies": [new_id()]}),
    "a dependency that is a path": ("insert_task", {**TASK, "dependencies": ["../../x"]}),
    "dependencies that are text": ("insert_task", {**TASK, "dependencies": "abc"}),
    "dependencies that are numbers": ("insert_task", {**TASK, "dependencies": [1]}),
    "no arguments": ("insert_task", {}),
    "a decision without words": ("record_decision", {**DECISION, "decision_text": ""}),
    "a decision over the limit": ("record_decision", {**DECISION, "rationale": "x" * 65_537}),
    "a decision that is a list": ("record_decision", {**DECISION, "kind": ["x"]}),
    "an asset without a path": ("record_asset", {"asset_type": "art", "path": ""}),
    "an asset of no kind": ("record_asset", {"asset_type": "exe", "path": "x"}),
    "an asset that costs less than nothing": ("record_asset", {"asset_type": "art", "path": "x", "cost_usd": -1}),
    "an asset that costs beyond counting": ("record_asset", {"asset_type": "art", "path": "x", "cost_usd": 1e300}),
    "an asset retried beyond counting": ("record_asset", {"asset_type": "art", "path": "x", "retry_count": 2**70}),
    "an asset with a column of its own": ("record_asset", {"asset_type": "art", "path": "x", "timestamp": "1970"}),
    "an asset with an object for a text": ("record_asset", {"asset_type": "art", "path": "x", "model": {"a": 1}}),
    "a state beyond counting": ("list_tasks", {"status": 2**70}),
    "a state that is an object": ("list_tasks", {"status": {"a": 1}}),
    "as many as there are not": ("list_tasks", {"limit": "many"}),
    "a task without a name": ("get_task", {}),
    "a quote for a name": ("get_task", {"task_id": "' OR 1=1 --"}),
}


@pytest.fixture(scope="module")
def agent(besieged: Supervisor) -> Iterator[Impostor]:
    """One agent for all that is refused."""
    found = Impostor(besieged)
    filed(besieged, title=f"for {found.id}")
    found.take()
    yield found
    besieged.ask("kill_task", task_id=found.task)
    found.close()


@pytest.mark.parametrize("attack", REFUSED)
def test_what_is_refused(besieged: Supervisor, agent: Impostor, attack: str) -> None:
    tool, arguments = REFUSED[attack]
    tables = ("tasks", "decisions", "asset_registry")
    before = [besieged.project.rows(f"SELECT count(*) FROM {table}") for table in tables]
    reply = agent.call(tool, **arguments)
    assert not reply.ok and reply.error, "a refusal that the model can read"
    assert [besieged.project.rows(f"SELECT count(*) FROM {table}") for table in tables] == before
    assert besieged.process.poll() is None and len(besieged.project.actions("producer_boot")) == 1


def of(supervisor: Supervisor, task: str) -> dict[str, Any]:
    return supervisor.project.task(task)


def test_what_an_agent_says_of_itself_is_not_taken(besieged: Supervisor, impostor: Impostor) -> None:
    forged = new_id()
    claims = {"task_id": forged, "parent_task_id": forged, "caused_by_task_id": forged, "depth": 0, "actor": "operator",
              "root_task_id": forged, "filed_by_attempt": None, "created_at": "1970-01-01", "status": "done"}  # fmt: skip
    reply = impostor.call("insert_task", **TASK, **claims)
    found = of(besieged, reply.result["task_id"])
    assert found["id"] != forged and found["status"] == "pending"
    assert (found["parent_task_id"], found["caused_by_task_id"]) == (impostor.task, impostor.task)
    row = besieged.project.rows("SELECT depth, root_task_id FROM tasks WHERE id = ?", found["id"])
    assert row == [(1, impostor.task)]
    [audit] = [r for r in besieged.project.actions("task_inserted") if r["task"] == found["id"]]
    assert audit["actor"] == "code"
    besieged.ask("kill_task", task_id=found["id"])


def test_a_decision_and_an_asset_are_those_of_the_connections_role(besieged: Supervisor, impostor: Impostor) -> None:
    assert impostor.call("record_decision", **DECISION, agent_owner="qa", task_id=new_id()).ok
    asset = {"asset_type": "art", "path": f"a/{new_id()}", "agent_id": "qa", "task_id": new_id(), "agent_owner": "qa"}
    assert impostor.call("record_asset", **asset).ok
    rows = besieged.project.rows("SELECT agent_owner FROM decisions WHERE task_id = ?", impostor.task)
    assert rows == [("code",)]
    rows = besieged.project.rows("SELECT agent_id FROM asset_registry WHERE task_id = ?", impostor.task)
    assert rows == [("code",)]


def test_an_agent_escalates_its_own_task_and_no_other(besieged: Supervisor, impostor: Impostor) -> None:
    other = besieged.ask("insert_tasks", tasks=[{**TASK, "requires_approval": True}])[0]
    assert impostor.call("escalate", reason="x", task_id=other).ok
    assert of(besieged, other)["status"] == "pending" and of(besieged, impostor.task)["status"] == "escalated"
    besieged.ask("kill_task", task_id=other)


def test_an_agent_files_no_more_than_its_share(besieged: Supervisor, impostor: Impostor) -> None:
    drafts = [
        {**TASK, "agent_owner": "wakeup", "title": f"w{n} {new_id()}", "description": new_id()} for n in range(25)
    ]
    replies = [impostor.call("insert_task", **draft) for draft in drafts]
    assert [reply.ok for reply in replies] == [True] * 20 + [False] * 5
    assert "filed_per_attempt" in replies[-1].error
    for reply in replies[:20]:
        besieged.ask("kill_task", task_id=reply.result["task_id"])


def test_the_same_again_is_refused(besieged: Supervisor, impostor: Impostor) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    first = impostor.call("insert_task", agent_owner="wakeup", title="look", description=words)
    again = impostor.call("insert_task", agent_owner="wakeup", title="Look!", description=words.upper() + " .")
    assert first.ok and not again.ok and "says the same" in again.error
    besieged.ask("kill_task", task_id=first.result["task_id"])


def test_a_call_that_comes_twice_is_done_once(besieged: Supervisor, impostor: Impostor) -> None:
    call = {"call": new_id(), "attempt": impostor.attempt, "tool": "insert_task"}
    arguments = {**TASK, "agent_owner": "wakeup", "title": f"once {new_id()}", "description": new_id()}
    replies = []
    for _ in range(3):
        impostor.tasks.say("Call", {**call, "arguments": arguments})
        replies.append(impostor.until("Reply").result["task_id"])
    assert len(set(replies)) == 1
    assert besieged.project.rows("SELECT count(*) FROM tasks WHERE title = ?", arguments["title"]) == [(1,)]
    besieged.ask("kill_task", task_id=replies[0])


def test_a_list_of_one_role_is_of_that_role_and_as_long_as_was_asked(besieged: Supervisor, impostor: Impostor) -> None:
    found = impostor.call("list_tasks", agent_owner="code", limit=1).result
    assert len(found) == 1 and found[0]["agent_owner"] == "code"
    assert impostor.call("list_tasks", agent_owner="nobody").result == []
    assert len(impostor.call("list_tasks", limit=10**9).result) <= 200


def test_an_agent_approves_nothing(besieged: Supervisor, impostor: Impostor) -> None:
    reply = impostor.call("insert_task", **{**TASK, "title": f"approve {new_id()}"}, requires_approval=True)
    task = reply.result["task_id"]
    for tool in ("approve_task", "edit_task", "requeue_task", "kill_task", "append_audit", "spend"):
        impostor.tasks.say("Call", {"call": new_id(), "attempt": impostor.attempt, "tool": tool,
                                    "arguments": {"task_id": task}})  # fmt: skip
    assert impostor.call("get_task", task_id=task).ok
    assert besieged.project.rows("SELECT requires_approval, status FROM tasks WHERE id = ?", task) == [(1, "pending")]
    besieged.ask("kill_task", task_id=task)


def test_an_attempt_that_is_over_files_nothing(besieged: Supervisor, impostor: Impostor) -> None:
    besieged.ask("kill_task", task_id=impostor.task)
    impostor.results.say("Result", {"attempt": impostor.attempt, "task": impostor.task, "outcome": "cancelled"})
    impostor.until("Ack")
    reply = impostor.call("insert_task", **TASK)
    assert not reply.ok and "over" in reply.error
