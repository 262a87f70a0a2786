"""Somebody holds a worker's key: what it sends ends no supervisor, and is worth no more than that worker's word.

After every message the same process still answers, and has not been built anew.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import zmq
from attack_rig import Dialer, Impostor, filed
from driving import Project, Supervisor

from producer.ids import new_id
from producer.wire.auth import Keys, Peer

HUGE = 2**70


def unshaken(supervisor: Supervisor) -> None:
    """It answers, is the process it was, and took no new start."""
    assert supervisor.status()["supervisor"] and supervisor.process.poll() is None
    assert len(supervisor.project.actions("producer_boot")) == 1, supervisor.log()


PROGRESS: dict[str, dict[str, Any]] = {
    "a role of its own": {"kind": "text", "data": {"role": "qa", "text": "x"}},
    "a task of its own": {"kind": "text", "data": {"task": new_id()}},
    "an attempt of its own": {"kind": "note", "data": {"attempt": new_id()}},
    "a kind of its own": {"kind": "note", "data": {"kind": "kill_switch"}},
    "a self": {"kind": "note", "data": {"self": 1}},
    "tokens beyond counting": {"kind": "usage", "data": {"model": "claude-sonnet-5-5", "input_tokens": HUGE}},
    "fewer tokens than none": {"kind": "usage", "data": {"model": "claude-sonnet-5-5", "input_tokens": -5}},
    "a model that is a list": {"kind": "usage", "data": {"model": [[]], "input_tokens": {}}},
    "a tool that is an object": {"kind": "tool_call", "data": {"name": {"a": []}, "input": [None]}},
    "a number that no ledger takes": {"kind": "tool_call", "data": {"name": "x", "input": HUGE, "id": HUGE}},
    "a result without a name": {"kind": "tool_result", "data": {"ok": False, "name": None, "summary": [1]}},
    "a time after the end of time": {"kind": "text", "data": {}, "at": 1e300},
}


@pytest.mark.parametrize("attack", PROGRESS)
def test_progress(besieged: Supervisor, impostor: Impostor, attack: str) -> None:
    impostor.results.say("Progress", {"attempt": impostor.attempt, **PROGRESS[attack]})
    assert impostor.call("get_task", task_id=impostor.task).ok, "the messages behind it are read"
    unshaken(besieged)
    assert besieged.project.rows("SELECT cost_micros FROM tasks WHERE id = ?", impostor.task) == [(0,)]


@pytest.mark.parametrize("tokens", [HUGE, -(2**53)])
def test_tokens_that_no_ledger_takes_are_not_kept_for_the_runs_end(besieged: Supervisor, tokens: int) -> None:
    """What a run streamed is booked when its worker dies without a word."""
    dying = Impostor(besieged)
    task = filed(besieged, title=f"for {dying.id}")
    dying.take()
    data = {"model": "claude-sonnet-5-5", "input_tokens": tokens, "output_tokens": tokens}
    for _ in range(3):
        dying.results.say("Progress", {"attempt": dying.attempt, "kind": "usage", "data": data})
    assert dying.call("get_task", task_id=task).ok
    dying.close()
    besieged.until(
        lambda: besieged.project.rows("SELECT 1 FROM attempts WHERE id = ? AND state != 'running'", dying.attempt)
    )
    unshaken(besieged)
    besieged.ask("kill_task", task_id=task)


RESULTS: dict[str, dict[str, Any]] = {
    "a cost that no ledger takes": {"cost": HUGE},
    "a cost below nothing": {"cost": -1_000_000},
    "turns beyond counting": {"turns": HUGE},
    "tool calls beyond counting": {"tool_calls": HUGE},
    "survivors below none": {"survivors": -3},
    "a throttle that never ends": {"outcome": "throttled", "until": 1e300},
    "a throttle from before all time": {"outcome": "throttled", "until": -1e300},
    "a session that is a path": {"session_id": "../../../etc/passwd"},
    "a session that is an option": {"session_id": "--dangerously-skip-permissions"},
    "usage below nothing": {"usage": {"claude-sonnet-5-5": {"output_tokens": -1}}},
    "usage beyond counting": {"usage": {"claude-sonnet-5-5": {"output_tokens": HUGE}}},
    "an outcome that there is not": {"outcome": "approved"},
}


@pytest.mark.parametrize("attack", RESULTS)
def test_results(besieged: Supervisor, impostor: Impostor, attack: str) -> None:
    before = len(besieged.project.actions("malformed_message"))
    body = {"attempt": impostor.attempt, "task": impostor.task, "outcome": "succeeded", **RESULTS[attack]}
    impostor.results.say("Result", body)
    besieged.until(lambda: len(besieged.project.actions("malformed_message")) > before, what="the refusal")
    unshaken(besieged)
    assert besieged.project.task(impostor.task)["status"] == "in_progress"


TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "a session that is a path": ("Started", {"session_id": "../../x"}),
    "a session that is an option": ("Started", {"session_id": "--resume"}),
    "room below none": ("Ready", {"free": -1}),
    "room beyond counting": ("Ready", {"free": HUGE}),
    "a process beyond counting": ("Hello", {"pid": HUGE}),
    "the process of everybody": ("Hello", {"pid": -1}),
    "no process": ("Hello", {"pid": 0}),
    "a slot below none": ("Hello", {"slot": -1}),
    "a tool that there is not": ("Call", {"call": "1", "tool": "kill_task", "arguments": {}}),
    "arguments that are a list": ("Call", {"call": "1", "tool": "insert_task", "arguments": []}),
    "runs that have no names": ("Pong", {"running": ["../../x"]}),
}


@pytest.mark.parametrize("attack", TASKS)
def test_words_on_the_tasks_socket(besieged: Supervisor, impostor: Impostor, attack: str) -> None:
    kind, body = TASKS[attack]
    known = {"worker": impostor.id, "role": "code", "slot": 0, "pid": 1, "pid_start": 1.0, "version": "1"}
    before = len(besieged.project.actions("malformed_message"))
    impostor.tasks.say(kind, {**(known if kind == "Hello" else {}), "attempt": impostor.attempt, **body})
    besieged.until(lambda: len(besieged.project.actions("malformed_message")) > before, what="the refusal")
    unshaken(besieged)


@pytest.mark.parametrize(
    "kind,body",
    [
        ("GatewayHello", {"gateway": new_id(), "pid": 1, "pid_start": 1.0, "url": "http://evil", "version": "1"}),
        ("Metered", {"request": new_id(), "model": "claude-sonnet-5-5", "cost": 5_000_000}),
        ("Reserve", {"request": new_id(), "need": 5_000_000, "floor": 1}),
        ("Closed", {}),
        ("Request", {"call": "1", "op": "resume"}),
        ("Request", {"call": "1", "op": "reload"}),
        ("TaskMsg", {}),
        ("Ack", {}),
        ("Cancel", {"reason": "x"}),
        ("Event", {"at": 1.0, "kind": "kill_switch"}),
    ],
)
def test_a_worker_says_what_only_the_gateway_an_operator_or_the_supervisor_may(
    besieged: Supervisor, impostor: Impostor, kind: str, body: dict[str, Any]
) -> None:
    booked = besieged.project.rows("SELECT count(*) FROM meter")
    impostor.tasks.say(kind, {"attempt": impostor.attempt, **body})
    impostor.results.say(kind, {"attempt": impostor.attempt, **body})
    assert impostor.call("get_task", task_id=impostor.task).ok
    unshaken(besieged)
    assert besieged.project.rows("SELECT count(*) FROM meter") == booked
    assert besieged.project.rows("SELECT count(*) FROM reservations") == [(0,)]
    assert besieged.project.task(impostor.task)["status"] == "in_progress"


def test_a_result_for_anothers_attempt_is_a_forgery(besieged: Supervisor, impostor: Impostor) -> None:
    thief = Impostor(besieged, "qa")
    before = len(besieged.project.actions("forged_result"))
    thief.results.say("Result", {"attempt": impostor.attempt, "task": impostor.task, "outcome": "succeeded", "cost": 1})
    besieged.until(lambda: len(besieged.project.actions("forged_result")) > before)
    assert besieged.project.task(impostor.task)["status"] == "in_progress"
    thief.close()


def test_a_result_for_an_attempt_of_ones_own_role_is_a_forgery_too(besieged: Supervisor, impostor: Impostor) -> None:
    thief = Impostor(besieged, "code")
    before = len(besieged.project.actions("forged_result"))
    thief.results.say("Result", {"attempt": impostor.attempt, "task": impostor.task, "outcome": "succeeded"})
    besieged.until(lambda: len(besieged.project.actions("forged_result")) > before)
    assert besieged.project.task(impostor.task)["status"] == "in_progress"
    thief.close()


@pytest.mark.parametrize("tool", ["insert_task", "record_decision", "escalate", "get_task"])
def test_a_tool_called_in_the_name_of_anothers_attempt(besieged: Supervisor, impostor: Impostor, tool: str) -> None:
    thief = Impostor(besieged, "qa")
    thief.hello()
    reply = thief.call(tool, attempt=impostor.attempt, agent_owner="qa", title="t", description="d", reason="x",
                       kind="k", decision_text="d", rationale="r", task_id=impostor.task)  # fmt: skip
    assert not reply.ok and "over" in reply.error
    assert besieged.project.task(impostor.task)["status"] == "in_progress"
    thief.close()


def test_progress_in_the_name_of_anothers_attempt_leaves_no_row(besieged: Supervisor, impostor: Impostor) -> None:
    thief = Impostor(besieged, "qa")
    data = {"name": "FORGED", "id": "1", "input": {}}
    thief.results.say("Progress", {"attempt": impostor.attempt, "kind": "tool_call", "data": data})
    impostor.results.say(
        "Progress", {"attempt": impostor.attempt, "kind": "tool_call", "data": {**data, "name": "own"}}
    )
    besieged.until(lambda: [r for r in besieged.project.actions("tool_call") if r["detail"]["tool"] == "own"])
    assert not [r for r in besieged.project.actions("tool_call") if r["detail"]["tool"] == "FORGED"]
    thief.close()


def test_a_greeting_with_anothers_role_or_name(besieged: Supervisor, impostor: Impostor) -> None:
    for changes in ({"role": "qa"}, {"worker": new_id()}):
        liar = Impostor(besieged)
        liar.hello(**changes)
        liar.tasks.say("Ready", {"free": 5})
        assert impostor.call("get_task", task_id=impostor.task).ok
        assert not [w for w in besieged.workers("qa") if w["id"] == liar.id]
        liar.close()


def test_a_greeting_that_names_a_process_which_is_no_worker(besieged: Supervisor, impostor: Impostor) -> None:
    """Its process is ended with a worker: it must not be anybody else's."""
    liar, victim = Impostor(besieged), subprocess.Popen(["sleep", "600"])
    liar.hello(pid=victim.pid)
    assert "process" in liar.until("Refuse").reason
    assert victim.poll() is None and not [w for w in besieged.workers() if w["id"] == liar.id]
    victim.kill()
    victim.wait(10)
    liar.close()


def test_a_worker_that_asks_for_the_whole_queue(besieged: Supervisor, impostor: Impostor) -> None:
    tasks = besieged.ask(
        "insert_tasks", tasks=[{"agent_owner": "code", "title": f"t{n}", "description": "d"} for n in range(30)]
    )
    impostor.tasks.say("Ready", {"free": 10_000})
    assert impostor.call("get_task", task_id=impostor.task).ok
    taken = [task for task in tasks if besieged.project.task(task)["status"] != "pending"]
    for task in tasks:
        besieged.ask("kill_task", task_id=task)
    assert len(taken) <= 1, "a role's prefetch is the most that one of its workers holds"


def test_one_result_a_thousand_times_counts_once(besieged: Supervisor, impostor: Impostor) -> None:
    body = {"attempt": impostor.attempt, "task": impostor.task, "outcome": "succeeded", "cost": 10}
    for _ in range(1000):
        impostor.results.say("Result", body)
    besieged.until_status(impostor.task, "done")
    assert set(impostor.until("Ack").attempts) == {impostor.attempt}
    unshaken(besieged)
    assert besieged.project.rows("SELECT cost_micros FROM tasks WHERE id = ?", impostor.task) == [(10,)]


def test_a_flood_leaves_room_for_an_operator(besieged: Supervisor, impostor: Impostor) -> None:
    """Ten thousand messages of nonsense and as many of sense; an answer comes all the same."""
    body = json.dumps({"attempt": impostor.attempt, "kind": "text", "data": {"text": "x" * 100}}).encode()
    for _ in range(5000):
        impostor.results.send(b"PRD1", b"Progress", body)
        impostor.tasks.send(b"PRD1", b"Nothing", b"{}")
    unshaken(besieged)
    assert impostor.call("get_task", task_id=impostor.task).ok


@pytest.mark.parametrize("over", ["ipc", "tcp"])
def test_a_flood_does_not_fill_the_audit_log(project: Project, supervise: Callable[..., Supervisor]) -> None:
    """A hundred rows of each kind a minute, and how many more there were once the supervisor goes."""
    supervisor = supervise().ready()
    done = filed(supervisor)
    supervisor.until_status(done, "done")
    attempt = project.rows("SELECT id FROM attempts WHERE task_id = ?", done)[0][0]
    running = filed(supervisor, payload={"sleep_seconds": 600})
    supervisor.until_status(running, "in_progress")
    other = project.rows("SELECT id FROM attempts WHERE task_id = ?", running)[0][0]
    thief = Impostor(supervisor)
    for _ in range(1000):
        thief.results.send(b"PRD1", b"Result", b"{")
        thief.results.say("Pong", {})
        thief.results.say("Result", {"attempt": attempt, "task": done, "outcome": "succeeded"})
        thief.results.say("Result", {"attempt": other, "task": running, "outcome": "succeeded"})
    kinds = ("malformed_message", "misplaced_message", "stale_result", "forged_result")
    supervisor.until(lambda: all(len(project.actions(kind)) >= 100 for kind in kinds))
    thief.tasks.say("Call", {"call": new_id(), "attempt": other, "tool": "get_task", "arguments": {}})
    thief.until("Reply")
    thief.close()
    supervisor.stop()
    said = {kind: [row["detail"] for row in project.audit() if row["action"] == kind] for kind in kinds}
    assert {kind: len(rows) for kind, rows in said.items()} == dict.fromkeys(kinds, 101)
    more = {kind: rows[-1]["more"] for kind, rows in said.items()}
    # What was not read yet is not counted; a forged result read after its attempt was stopped is a stale one.
    assert min(more.values()) > 0 and sum(more.values()) <= 4 * 900, more


def test_frames_in_any_number_and_order(besieged: Supervisor, impostor: Impostor) -> None:
    good = [b"PRD1", b"Pong", b"{}"]
    for parts in ([b""], [b"PRD1"], good[:2], [*good, b"x"], good[::-1], [b"PRD2", *good[1:]], [b""] * 200, good * 30,
                  [b"PRD1", b"\xff\xfe", b"{}"], [b"PRD1", b"Pong", b"\xff"], [b"PRD1", b"Pong" * 1000, b"{}"]):  # fmt: skip
        impostor.tasks.send(*parts)
        impostor.results.send(*parts)
    assert impostor.call("get_task", task_id=impostor.task).ok
    unshaken(besieged)


def test_who_never_reads_does_not_hold_up_the_others(besieged: Supervisor, impostor: Impostor) -> None:
    deaf = Impostor(besieged, "qa")
    deaf.tasks.socket.rcvhwm = 1
    for number in range(3000):
        deaf.tasks.say("Call", {"call": str(number), "attempt": new_id(), "tool": "get_task", "arguments": {}})
    assert impostor.call("get_task", task_id=impostor.task).ok
    unshaken(besieged)
    deaf.close()


@pytest.mark.parametrize("socket", ["control", "events"])
def test_a_workers_key_opens_no_operators_socket(besieged: Supervisor, impostor: Impostor, socket: str) -> None:
    kind = zmq.DEALER if socket == "control" else zmq.SUB
    door = Dialer(besieged.project.places, socket, impostor.id, kind)
    if socket == "control":
        door.say("Request", {"call": "1", "op": "kill", "arguments": {"reason": "mine"}})
    else:
        door.socket.subscribe(b"")
        for count in (0, 200):
            besieged.ask("scale", desired={"code": count})
    assert door.hear(0.5) is None
    assert not besieged.status()["kill_switch"]["armed"]
    door.close()


@pytest.mark.parametrize("socket,kind", [("results", zmq.PUSH), ("control", zmq.DEALER)])
def test_the_gateways_key_is_no_workers_and_no_operators(besieged: Supervisor, socket: str, kind: int) -> None:
    Keys(besieged.project.places).issue(Peer("gateway", "gateway"))
    door = Dialer(besieged.project.places, socket, "gateway", kind)
    door.socket.setsockopt(zmq.SNDTIMEO, 300)
    with suppress(zmq.Again):
        door.say("Request", {"call": "1", "op": "stop"})
    assert kind == zmq.PUSH or door.hear(0.4) is None
    unshaken(besieged)
    door.socket.linger = 0
    door.close()
