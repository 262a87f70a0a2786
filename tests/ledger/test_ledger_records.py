"""Decisions, assets, the outbox and the roles' table: what is accepted, what is refused naming the field."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from ledger_rig import Desk

from producer.errors import InvalidTask, LedgerError, MoneyError, UnknownTask, UsageError

DECISION = {"agent_owner": "code", "kind": "design", "decision_text": "do it", "rationale": "because"}
ASSET = {"asset_type": "art", "path": "a.png", "agent_id": "art"}


def decide(desk: Desk, **more: Any) -> str:
    with desk.transaction():
        return desk.records.decision(**({"task_id": None} | DECISION | more))


def register(desk: Desk, **more: Any) -> str:
    with desk.transaction():
        return desk.records.asset(**({"task_id": None} | ASSET | more))


def test_a_decision_is_kept_with_its_row(desk: Desk) -> None:
    task = desk.add()
    ident = decide(desk, task_id=task, artifact="docs/x.md")
    row = desk.db.dict("SELECT * FROM decisions")
    assert row == {"id": ident, "task_id": task, **DECISION, "artifact": "docs/x.md", "made_at": desk.db.stamp}
    assert desk.actions(task)[-1] == "decision"


@pytest.mark.parametrize("field", sorted(DECISION))
@pytest.mark.parametrize("value", ["", "  ", None, 5, "x" * 65_537, "\ud800"])
def test_a_decision_without_words_is_refused(desk: Desk, field: str, value: object) -> None:
    with pytest.raises(InvalidTask, match=field):
        decide(desk, **{field: value})
    assert desk.actions() == ["schema_init"]


def test_a_decision_or_asset_of_no_task_is_refused(desk: Desk) -> None:
    for make in (decide, register):
        with pytest.raises(UnknownTask, match="nobody"):
            make(desk, task_id="nobody")


def test_an_asset_is_kept_with_everything(desk: Desk) -> None:
    more = {
        "prompt": "p", "seed": 7, "api": "x", "model": "m", "model_version": "1", "retry_count": 2,
        "critic_verdicts": [{"ok": True}], "cost_usd": 0.1, "wall_clock_seconds": 1.5, "sha256": "ab",
        "disposition": "pending_qa",
    }  # fmt: skip
    ident = register(desk, **more)
    row = desk.db.dict("SELECT * FROM asset_registry")
    assert row is not None and (row["id"], row["seed"], row["cost_usd"]) == (ident, "7", 0.1)
    assert json.loads(row["critic_verdicts"]) == [{"ok": True}]
    assert (row["retry_count"], row["wall_clock_seconds"], row["disposition"]) == (2, 1.5, "pending_qa")


def test_an_asset_of_a_path_that_is_known_is_recorded_anew(desk: Desk) -> None:
    first, second = register(desk, cost_usd=1), register(desk, disposition="killed")
    assert desk.db.rows("SELECT id, cost_micros, disposition FROM asset_registry") == [(second, 0, "killed")]
    assert first != second and desk.actions().count("asset") == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("asset_type", "film"), ("asset_type", None), ("path", ""), ("path", None), ("agent_id", ""),
        ("agent_id", None), ("disposition", "lost"), ("retry_count", -1), ("retry_count", "2"), ("retry_count", 10**30),
        ("retry_count", True), ("wall_clock_seconds", math.nan), ("wall_clock_seconds", -1),
        ("wall_clock_seconds", math.inf), ("cost_usd", -1), ("cost_usd", math.nan), ("cost_usd", "much"),
        ("critic_verdicts", {1, 2}), ("critic_verdicts", [math.nan]), ("wall_clock", 5), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_malformed_asset_is_refused_naming_the_field(desk: Desk, field: str, value: object) -> None:
    with pytest.raises((InvalidTask, MoneyError)) as caught:
        register(desk, **{field: value})
    assert field in str(caught.value) or field == "cost_usd"
    assert desk.db.value("SELECT count(*) FROM asset_registry") == 0 and desk.actions() == ["schema_init"]


def test_the_outbox_keeps_what_was_not_told(desk: Desk) -> None:
    with desk.transaction():
        first, second = desk.outbox.put("notice", {"n": 1}), desk.outbox.put("notice", {"n": 2})
    now = desk.time.now
    assert [item.id for item in desk.outbox.due(now)] == [first, second]
    assert [item.id for item in desk.outbox.due(now, limit=1)] == [first]
    with desk.transaction():
        desk.outbox.failed(first, "no route", now + 60)
        desk.outbox.done(second)
    assert desk.outbox.due(now + 59) == []
    (item,) = desk.outbox.due(now + 60)
    assert (item.id, item.body, item.tries) == (first, {"n": 1}, 1)


def test_what_an_undone_transaction_wanted_to_tell_is_not_told(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError), desk.transaction():
        desk.outbox.put("notice", {})
        raise ZeroDivisionError
    assert desk.outbox.due(desk.time.now + 1e6) == []


def test_roles_are_those_of_the_configuration_and_keep_their_scale(desk: Desk) -> None:
    with desk.transaction():
        desk.roles.declare({"code": 1, "qa": 2})
        desk.roles.scale("code", 4, "me")
        desk.roles.declare({"code": 1, "art": 1})
        assert {role: row.desired for role, row in desk.roles.all().items()} == {"code": 4, "art": 1}
        desk.roles.declare({"code": 1, "qa": 5}, keep_scale=False)
        assert {role: row.desired for role, row in desk.roles.all().items()} == {"code": 1, "qa": 5}


@pytest.mark.parametrize(("role", "count"), [("nobody", 1), ("code", -1)])
def test_what_is_no_role_or_no_number_is_not_scaled(desk: Desk, role: str, count: int) -> None:
    with desk.transaction():
        desk.roles.declare({"code": 1})
    with pytest.raises(UsageError), desk.transaction():
        desk.roles.scale(role, count, "me")
    assert "scale" not in desk.actions()


def test_a_role_is_held_back_once_and_says_so_once(desk: Desk) -> None:
    with desk.transaction():
        desk.roles.declare({"code": 1})
        assert desk.roles.set_state("code", "throttled", until=5.5, reason="limit")
        assert not desk.roles.set_state("code", "throttled", until=5.5, reason="limit")
        assert desk.roles.set_state("code", "capped", needed=7)
        assert desk.roles.all()["code"].needed == 7
        assert desk.roles.set_state("code", "ok")
        assert not desk.roles.set_state("nobody", "ok")
    assert desk.actions()[1:] == ["role_throttled", "role_capped", "role_ok"]
    with pytest.raises(LedgerError), desk.transaction():
        desk.roles.set_state("code", "asleep")
