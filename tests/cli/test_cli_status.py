from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli_rig import Project, StandIn

from producer import killswitch

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "status.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_without_a_supervisor_the_ledger_tells(project: Project) -> None:
    first = project.add("First")
    project.add("Second", dependencies=[first])
    with project.client() as ledger:
        ledger.claim_task(first, "code")
        ledger.complete_task(first, cost_usd=0.1234567)
        ledger.escalate_task(project.add("Third", role="qa"), "no idea")
    killswitch.arm(project.switch, "look first")
    found = json.loads(project.out("status", "--json"))
    VALIDATOR.validate(found)
    assert found["supervisor"]["running"] is False and found["supervisor"]["pid"] is None
    assert found["kill_switch"]["armed"] is True and found["kill_switch"]["reason"] == "look first"
    assert found["queue"] == {
        "pending": 1, "blocked": 0, "in_progress": 0, "done": 1, "failed": 0, "escalated": 1, "killed": 0,
    }  # fmt: skip
    assert found["budget"]["project"] == {"spent_usd": "0.123457", "held_usd": "0.00", "cap_usd": "10.00"}
    assert found["budget"]["roles"]["code"] == {"spent_usd": "0.123457", "held_usd": "0.00", "cap_usd": "2.00"}
    assert found["roles"]["code"]["desired"] == 2
    text = project.out("status")
    for words in ("not running", "ARMED", "look first", "1 escalated", "Third: no idea", "$0.123457", "$10.00"):
        assert words in text


def test_a_supervisors_own_answer_is_shown(
    project: Project, stand_in: Callable[[], StandIn], some_status: dict[str, Any]
) -> None:
    VALIDATOR.validate(some_status)
    counted = {name: some_status.pop(name) for name in ("queue", "events")}
    project.add("One that waits")
    supervisor = stand_in()
    supervisor.answers["status"] = some_status
    found = json.loads(project.out("status", "--json"))
    VALIDATOR.validate(found)
    queue, events = found.pop("queue"), found.pop("events")
    assert found == some_status and queue == {**dict.fromkeys(counted["queue"], 0), "pending": 1}
    assert [event["action"] for event in events] == ["schema_init", "task_inserted"]
    assert supervisor.asked[-1].arguments["brief"] is True, "its loop counts nothing for whoever looks"
    text = project.out("status")
    for words in ("pid 99", "rehearsal, gateway http://127.0.0.1:1", "1 busy, 1 of 2", "Write the parser (12 s, $0.25)",
                  "capped", "its cap"):  # fmt: skip
        assert words in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["supervisor", "running"], "yes"),
        (["kill_switch", "armed"], None),
        (["queue", "pending"], -1),
        (["queue", "pending"], "1"),
        (["budget", "project", "spent_usd"], 0.25),
        (["budget", "project", "spent_usd"], "1e-3"),
        (["budget", "date"], "today"),
        (["roles", "code", "state"], "tired"),
        (["roles", "code", "workers", 0, "state"], "asleep"),
        (["roles", "code", "workers", 0, "seconds"], -1),
        (["supervisor", "since"], "2026-05-06 07:08"),
    ],
)
def test_the_schema_refuses_what_is_wrong(some_status: dict[str, Any], path: list[Any], value: object) -> None:
    where: Any = some_status
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    assert not VALIDATOR.is_valid(some_status)


def test_a_ledger_that_is_none_is_refused_untouched(project: Project) -> None:
    project.ledger.parent.mkdir()
    project.ledger.write_bytes(b"this is no database, but a text of some length" * 100)
    before = project.ledger.read_bytes()
    assert "ledger.db" in project.refused("status")
    assert "ledger.db" in project.refused("task", "add", "--agent", "code", "--title", "t", "--description", "d")
    assert project.ledger.read_bytes() == before
