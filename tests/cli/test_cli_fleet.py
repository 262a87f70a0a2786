"""The commands for a running supervisor, against something that answers in its place."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable

import pytest
from cli_rig import Project, StandIn, until


def test_each_command_asks_its_operation(project: Project, stand_in: Callable[[], StandIn]) -> None:
    other = stand_in()
    for words, op, answer, arguments, printed in (
        (["scale", "code=4", "qa=0"], "scale", {"desired": {"code": 4, "qa": 0}}, {"desired": {"code": 4, "qa": 0}},
         "code: 4 workers\nqa: 0 workers"),
        (["drain", "code"], "drain", {"draining": ["code"]}, {"role": "code"}, "draining code"),
        (["drain"], "drain", {"draining": ["code", "qa"]}, {"role": None}, "draining every role"),
        (["role", "reset", "qa"], "role_reset", {"changed": True}, {"role": "qa"}, "qa is back in service"),
        (["reload"], "reload", {"changes": ["budget: 1 -> 2"]}, {}, "budget: 1 -> 2"),
        (["restart"], "restart", {"leaving": "restart"}, {}, "the supervisor restarts; its workers go on"),
    ):  # fmt: skip
        other.answers = {op: answer}
        assert project.out(*words) == printed
        asked = other.asked[-1]
        assert asked.op == op and {k: v for k, v in asked.arguments.items() if k != "actor"} == arguments
        assert json.loads(project.out(*words, "--json")) == answer


@pytest.mark.parametrize("words", [["scale", "nobody=1"], ["drain", "nobody"], ["role", "reset", "nobody"]])
def test_a_role_that_does_not_exist_is_refused_before_anyone_is_asked(
    project: Project, stand_in: Callable[[], StandIn], words: list[str]
) -> None:
    other = stand_in()
    assert "nobody" in project.refused(*words)
    assert other.asked == []


def test_what_the_supervisor_refuses_is_shown_with_its_exit_code(
    project: Project, stand_in: Callable[[], StandIn]
) -> None:
    stand_in()
    assert "no such operation: reload" in project.refused("reload", code=2)


def test_stop_returns_when_the_supervisor_has_left(project: Project, stand_in: Callable[[], StandIn]) -> None:
    other = stand_in()
    other.answers["stop"] = {"leaving": "stop"}
    left: list[float] = []

    def leave_once_asked() -> None:
        until(lambda: other.asked)
        time.sleep(0.3)
        left.append(time.monotonic())
        other.leave()

    leaving = threading.Thread(target=leave_once_asked)
    leaving.start()
    assert project.out("stop") == "stopped"
    assert left, "it returned before the supervisor had left"
    leaving.join()
