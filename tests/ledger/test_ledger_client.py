"""LedgerClient, by its own hand and through a supervisor: the same answers, and nothing lost between writers."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_rig import process

from producer.errors import (
    IllegalTransition,
    InvalidDependency,
    InvalidTask,
    LedgerBusy,
    LedgerError,
    LedgerUnusable,
    MoneyError,
    ProducerError,
    TaskClaimRace,
    UnknownTask,
)
from producer.ids import is_id
from producer.ledger import AUDIT_GENESIS_PREV_HASH, AuditLogger, Draft, LedgerClient, Reader
from producer.ledger import submit as submit_module
from producer.ledger.audit import Head
from producer.ledger.submit import rebuild
from producer.ledger.verify import verify


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Where the ledger of this test lies; not made yet."""
    return tmp_path / "agent-state" / "ledger.db"


@pytest.fixture(params=["alone", "supervised"])
def client(request: pytest.FixtureRequest, ledger: Path) -> Iterator[LedgerClient]:
    """A client without a supervisor, and one with a stand-in of it."""
    if request.param == "alone":
        with LedgerClient(ledger) as found:
            yield found
        return
    ledger.parent.mkdir()
    with process("serve", ledger), LedgerClient(ledger, actor="someone") as found:
        yield found


def add(client: LedgerClient, title: str = "t", **more: Any) -> str:
    return client.insert_task(**({"agent_owner": "code", "title": title, "description": "d"} | more))


# ---- both ways in


def test_tasks(client: LedgerClient) -> None:
    first = add(client, "first", payload={"x": [1.5, "ü"]}, priority=4)
    second = add(client, "second", dependencies=[first], sprint_id="s", parent_task_id=first)
    assert is_id(first) and [task.id for task in client.list_ready_tasks()] == [first]
    task = client.get_task(second)
    assert task is not None and (task.dependencies, task.parent_task_id, task.sprint_id) == ([first], first, "s")
    claimed = client.claim_task(first, "code")
    assert (claimed.status, claimed.payload) == ("in_progress", {"x": [1.5, "ü"]})
    with pytest.raises(TaskClaimRace):
        client.claim_task(first, "code")
    client.complete_task(first, output_refs=["a.py"], cost_usd=0.25, actual_cost_usd=0.3, config_isolation="isolated")
    done = client.get_task(first)
    assert done is not None
    assert (done.status, done.cost_usd, done.actual_cost_usd, done.output_refs) == ("done", 0.25, 0.3, ["a.py"])
    assert done.config_isolation == "isolated"
    assert [task.id for task in client.list_ready_tasks("code")] == [second]
    assert client.list_ready_tasks("qa") == [] and client.total_spend_today() == 0.25


def test_failing_requeuing_escalating_killing(client: LedgerClient) -> None:
    task = add(client)
    with pytest.raises(LedgerError, match="only one that was claimed can fail"):
        client.fail_task(task, "x")
    client.claim_task(task, "code")
    assert client.fail_task(task, "it broke") == 1
    failed = client.get_task(task)
    assert failed is not None and (failed.status, failed.escalation_reason) == ("failed", "it broke")
    client.requeue_task(task)
    client.escalate_task(task, "look")
    with pytest.raises(IllegalTransition):
        client.escalate_task(task, "look again")
    client.kill_task(task, "no")
    killed = client.get_task(task)
    assert killed is not None and (killed.status, killed.escalation_reason) == ("killed", "no")
    for operation in (client.requeue_task, client.escalate_task, client.kill_task):
        with pytest.raises(UnknownTask, match="nobody"):
            operation("nobody", "x")


def test_many_at_once_in_one_transaction(client: LedgerClient) -> None:
    """Far more than fits into one message of a MiB."""
    drafts: list[Any] = [Draft("code", f"t{n}", "d" * 500, task_id=f"t{n}") for n in range(1500)]
    drafts += [{"agent_owner": "code", "title": "after", "description": "d", "dependencies": ["t0", "t1499"]}]
    ids = client.insert_tasks(drafts)
    assert ids[:2] == ["t0", "t1"] and len(ids) == 1501 and is_id(ids[-1])
    with Reader(client.path) as reader:
        assert reader.counts()["pending"] == 1500 and reader.counts()["blocked"] == 1
    with pytest.raises(InvalidTask, match="task_id: t7 exists already"):
        client.insert_tasks(
            [*(Draft("code", "x", "d" * 500) for _ in range(1000)), Draft("code", "y", "d", task_id="t7")]
        )
    assert client.insert_tasks([]) == []
    with Reader(client.path) as reader:
        assert sum(reader.counts().values()) == 1501
    assert list(client.places.inbox.iterdir()) == []


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"title": " "}, InvalidTask, "title"),
    ({"priority": 7}, InvalidTask, "priority"),
    ({"payload": {"a": math.nan}}, InvalidTask, "JSON"),
    ({"payload": {"a": object()}}, InvalidTask, "JSON"),
    ({"payload": {"a": "\ud800"}}, InvalidTask, "payload|surrogate|JSON"),
    ({"title": "\ud800"}, InvalidTask, "title|surrogate|JSON"),
    ({"dependencies": ["nobody"]}, InvalidDependency, "no such task: nobody"),
    ({"parent_task_id": "nobody"}, UnknownTask, "nobody"),
    ({"task_id": "../x"}, InvalidTask, "task_id"),
    ({"sprint_id": ["x"]}, InvalidTask, "sprint_id"),
]
MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("insert_tasks", {}),
    ("insert_tasks", {"tasks": 5}),
    ("insert_tasks", {"tasks": ["x"]}),
    ("insert_tasks", {"tasks": [{"agent_owner": "code", "title": "t"}]}),
    ("insert_tasks", {"tasks": [{"agent_owner": "code", "title": "t", "description": "d", "status": "done"}]}),
    ("insert_tasks", {"tasks": [{"agent_owner": "code", "title": "t", "description": None}]}),
    ("insert_tasks", {"@file": "../../etc/passwd"}),
    ("insert_tasks", {"@file": "01M82JHDFZBPSJQCPB2AHS6PDN"}),
    ("claim_task", {}),
    ("record_asset", {"asset_type": "art"}),
    ("record_asset", {"asset_type": "art", "path": "p", "agent_id": "a", "task_id": None, "retry_count": 10**30}),
    ("append_audit", {"action": "a", "agent_owner": "b", "detail": []}),
    ("append_audit", {"action": "a", "agent_owner": "b", "detail": {}, "cost_usd": -1}),
    ("spend", {"agent_owner": "a", "delta_usd": -1, "hard_cap_usd": 1, "soft_cap_usd": 1}),
    ("spend", {"agent_owner": "a", "delta_usd": "nan", "hard_cap_usd": 1, "soft_cap_usd": 1}),
    ("complete_task", {"task_id": "x", "cost_usd": 1}),
    ("no_such_thing", {}),
]


def test_what_is_refused_is_refused_the_same_way_and_changes_nothing(client: LedgerClient) -> None:
    before = client.latest_audit_hash()
    for more, error, says in REFUSED:
        with pytest.raises(error, match=says):
            add(client, **more)
    for operation, arguments in MALFORMED:
        with pytest.raises(ProducerError):
            client.perform(operation, **arguments)
        assert client.latest_audit_hash() == before, operation
    assert is_id(add(client))


def test_money(client: LedgerClient) -> None:
    caps = {"hard_cap_usd": 2.0, "soft_cap_ratio": 0.8}
    assert client.budget_state("code", **caps) == (0.0, 1.6, 2.0)
    assert client.update_budget("code", 0.1, **caps) == (0.1, 1.6, 2.0)
    assert client.update_budget("code", 0.2, **caps)[0] == pytest.approx(0.3)
    for amount in (-0.1, math.nan, math.inf):
        with pytest.raises((MoneyError, InvalidTask)):
            client.update_budget("code", amount, **caps)
    assert client.total_spend_today() == pytest.approx(0.3)


def test_audit(client: LedgerClient) -> None:
    mark = client.last_audit_event(action="schema_init")
    assert mark is not None and mark.id == 1
    first = client.append_audit(
        agent_owner="me", action="hello", detail={"a": 1, "caused_by_task_id": "x"}, cost_usd=0.5
    )
    AuditLogger(client, "you").event("hello", {"b": 2}, task_id="t")
    last = client.last_audit_event(action="hello")
    assert last is not None and (last.agent_owner, last.task_id, json.loads(last.detail)) == ("you", "t", {"b": 2})
    assert len(first) == 64 and client.latest_audit_hash() != first
    assert client.count_audit_events(action="hello") == 2
    assert client.count_audit_events(action="hello", caused_by_task_id="x") == 1
    assert client.count_audit_events(action="hello", since_id=last.id - 1) == 1
    parent = add(client)
    add(client, caused_by_task_id=parent)
    assert client.count_audit_events(action="task_inserted", caused_by_task_id=parent) == 1
    assert client.last_audit_event(action="nothing") is None


def test_the_head_outside_is_kept_whoever_writes(client: LedgerClient) -> None:
    add(client)
    kept = Head.parse((client.places.state / "audit.head").read_text())
    with Reader(client.path) as reader:
        verdict = verify(reader.db, [kept])
    assert verdict.ok and kept.chain.hex() == verdict.head == client.latest_audit_hash()


def test_seed_files(client: LedgerClient, tmp_path: Path) -> None:
    seed = tmp_path / "seed.json"
    tasks = [
        {"id": "01HYK0SEED00000000000HELLO", "agent_owner": "code", "title": "one", "description": "d",
         "created_at": "2026-05-06T00:00:00Z", "status": "pending", "payload": {}},
        {"agent_owner": "qa", "title": "two", "description": "d", "dependencies": ["01HYK0SEED00000000000HELLO"]},
    ]  # fmt: skip
    seed.write_text(json.dumps(tasks))
    assert client.seed_from_json(seed) == 2
    seed.write_text(json.dumps(tasks[:1]))
    assert client.seed_from_json(seed) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "JSON"), ("{}", "list of objects"), ("[1]", "list of objects"), ('[{"titel": "x"}]', "key 'titel'"),
        ('[{"agent_owner": "a", "title": "t", "description": "d", "status": "done"}]', "is pending"),
        ('[{"agent_owner": "a", "agent_owner": "b"}]', "duplicate key"),
        ('[{"agent_owner": "a", "title": "t"}]', "description: is missing"),
        ('[{"agent_owner": "a", "title": "t", "description": "d", "payload": {"x": 1e999}}]', "finite"),
    ],
)  # fmt: skip
def test_a_malformed_seed_file_is_refused_naming_what_is_wrong(
    ledger: Path, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "seed.json").write_text(text)
    with LedgerClient(ledger) as client:
        with pytest.raises(InvalidTask, match=says):
            client.seed_from_json(tmp_path / "seed.json")
        with pytest.raises(InvalidTask, match="No such file"):
            client.seed_from_json(tmp_path / "none.json")
        assert client.list_ready_tasks() == []


# ---- several writers


def race(ledger: Path, writers: int, each: int) -> set[str]:
    """Several processes file tasks at the same time; the ids that they were told."""
    told: set[str] = set()
    children = [process("write", ledger, f"writer{n}", each) for n in range(writers)]
    opened = [child.__enter__() for child in children]
    for child in opened:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in opened:
        told |= set(child.stdout.read().split())
        assert child.wait(30) == 0
    for child in children:
        child.__exit__(None, None, None)
    return told


def check(ledger: Path, told: set[str]) -> None:
    with Reader(ledger) as reader:
        assert {row["id"] for row in reader.list(limit=10_000)} == told
        assert reader.rows("SELECT count(*) FROM audit WHERE action = 'task_inserted'") == [(len(told),)]
        assert verify(reader.db).ok
        assert reader.rows("PRAGMA integrity_check") == [("ok",)]


def test_four_processes_without_a_supervisor_lose_nothing_not_even_the_creation(ledger: Path) -> None:
    told = race(ledger, 4, 15)
    assert len(told) == 60
    check(ledger, told)


def test_four_processes_with_a_supervisor_lose_nothing(ledger: Path) -> None:
    ledger.parent.mkdir()
    with process("serve", ledger) as supervisor:
        told = race(ledger, 4, 15)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(10) == 0
    assert len(told) == 60
    check(ledger, told)


def test_supervisors_that_come_and_go_lose_nothing(ledger: Path) -> None:
    with LedgerClient(ledger) as client:
        told = {add(client, "before")}
        for number in range(2):
            with process("serve", ledger) as supervisor:
                told.add(add(client, f"under {number}"))
                if number % 2:
                    supervisor.kill()
                else:
                    supervisor.send_signal(signal.SIGTERM)
                supervisor.wait(10)
            told.add(add(client, f"between {number}"))
    assert len(told) == 5
    check(ledger, told)


def test_a_supervisor_that_has_no_keys_yet_is_waited_for(ledger: Path) -> None:
    with LedgerClient(ledger) as client, process("serve", ledger, "late"):
        assert is_id(add(client))


def test_a_supervisor_that_dies_after_the_commit_does_not_double_a_task(ledger: Path) -> None:
    with LedgerClient(ledger) as client, process("serve", ledger, "die") as supervisor:
        told = add(client)
        assert supervisor.wait(10) == -signal.SIGKILL
        check(ledger, {told})
    with LedgerClient(ledger) as client, process("serve", ledger, "die"):
        with pytest.raises(LedgerBusy, match="look whether append_audit was done"):
            client.append_audit(agent_owner="me", action="once", detail={})
        assert client.count_audit_events(action="once") == 1


def test_a_supervisor_that_does_not_answer_is_named(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LedgerClient(ledger) as client:
        with process("serve", ledger):
            add(client)
        with process("hold", ledger, "supervisor") as child:
            monkeypatch.setattr(submit_module, "_PATIENCE", 0.5)
            with pytest.raises(LedgerBusy, match=f"supervisor pid {child.pid} holds the ledger and does not answer"):
                add(client)
        with process("hold", ledger, "client") as child, pytest.raises(LedgerBusy, match=f"client pid {child.pid}"):
            add(client)
        assert len(client.list_ready_tasks()) == 1


def test_reading_needs_nobody(ledger: Path) -> None:
    with LedgerClient(ledger) as client, process("hold", ledger, "supervisor"):
        assert client.latest_audit_hash() != AUDIT_GENESIS_PREV_HASH
        with LedgerClient(ledger) as second, Reader(ledger) as reader:
            assert second.list_ready_tasks() == [] and reader.counts()["pending"] == 0


def test_no_lock_is_left_beside_a_file_that_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"hello, I am not a database at all" * 9)
    with pytest.raises(LedgerUnusable):
        LedgerClient(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("make", [UnknownTask, InvalidTask, TaskClaimRace, LedgerBusy, MoneyError])
def test_an_error_is_rebuilt_from_its_name_and_text(make: Callable[[str], Exception]) -> None:
    error = rebuild(make.__name__, "some words")
    assert type(error) is make and str(error) == "some words"
    assert type(rebuild("SystemExit", "x")) is type(rebuild(None, None)) is ProducerError
