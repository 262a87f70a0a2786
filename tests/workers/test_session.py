"""Real worker processes against a stand-in for the supervisor on the real sockets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from producer import killswitch, reaper
from producer.ids import new_id
from producer.places import Places
from producer.reaper import Family
from producer.wire.auth import Keys, Peer
from producer.wire.messages import (
    Ack,
    Bye,
    Call,
    Cancel,
    Drain,
    Hello,
    Message,
    Ping,
    Pong,
    Ready,
    Refuse,
    Reply,
    Result,
    Started,
    TaskMsg,
    Welcome,
)  # fmt: skip
from producer.wire.outbox import LOG, read
from producer.wire.server import Incoming, Server
from producer.workers.isolation import become_subreaper
from tests.workers.conftest import MakeTask

ROOT = Path(__file__).parents[2]


class Boss:
    """A supervisor reduced to its sockets. ``heard`` is everything that came in."""

    def __init__(self, places: Places) -> None:
        self.places, self.keys, self.id = places, Keys(places), new_id()
        self.keys.ensure()
        self.server = Server(places, self.keys)
        self.heard: list[Message] = []
        self.acknowledge = True

    def tell(self, worker: str, message: Message) -> None:
        self.until(lambda: self.server.send("tasks", worker.encode(), message))

    def look(self, seconds: float = 0.05) -> None:
        self.server.wait(seconds)
        for incoming in self.server.receive():
            assert isinstance(incoming, Incoming), incoming
            self.heard.append(incoming.message)
            if isinstance(incoming.message, Hello):
                self.tell(incoming.message.worker, Welcome(supervisor=self.id, version="1"))
            elif isinstance(incoming.message, Result) and self.acknowledge:
                self.tell(incoming.peer.name, Ack(attempts=[incoming.message.attempt]))

    def until(self, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"it did not come about; heard: {self.heard[-5:]}"
            self.look()
        return found

    def of(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def await_one(self, kind: type[Message], count: int = 1) -> Any:
        return self.until(lambda: self.of(kind) if len(self.of(kind)) >= count else None)[count - 1]

    def result_of(self, task: TaskMsg) -> Result:
        return self.until(lambda: next((r for r in self.of(Result) if r.attempt == task.attempt), None))

    def die(self) -> None:
        """Be gone without a word, sockets and all."""
        self.server.close(unlink=False)


class Crew:
    """Starts workers for a test and ends them after it."""

    def __init__(self, tmp_path: Path) -> None:
        env = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "s"), "XDG_RUNTIME_DIR": str(tmp_path / "r")}
        env.pop("STATE_DIRECTORY", None), env.pop("RUNTIME_DIRECTORY", None)
        self.env = env
        self.places = Places.of(tmp_path / "ledger.db", env).make()
        self.switch = tmp_path / "kill_switch"
        self.bosses: list[Boss] = []
        self.children: list[subprocess.Popen[bytes]] = []
        self.log = tmp_path / "worker.log"

    def boss(self) -> Boss:
        self.bosses.append(Boss(self.places))
        return self.bosses[-1]

    def start(self, *more: str, invoker: str = "echo") -> tuple[str, subprocess.Popen[bytes]]:
        worker = new_id()
        Keys(self.places).issue(Peer("worker", worker, "code"))
        who = ["--role", "code", "--slot", "1", "--worker", worker, "--invoker", invoker]
        where = ["--ledger", str(self.places.ledger), "--kill-switch", str(self.switch)]
        command = [sys.executable, "-P", "-m", "producer.workers", *who, *where, *more]
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command, env={**self.env, "PYTHONPATH": str(ROOT)}, stderr=log, start_new_session=True
            )
        self.children.append(child)
        return worker, child


@pytest.fixture
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    become_subreaper()
    crew = Crew(tmp_path_factory.mktemp("c"))
    yield crew
    for child in crew.children:
        reaper.end(Family(root=child.pid))
        child.kill()
        child.wait()
    for boss in crew.bosses:
        if not boss.server._context.closed:
            boss.server.close()


def exited(boss: Boss, child: subprocess.Popen[bytes]) -> int:
    boss.until(lambda: child.poll() is not None)
    assert child.returncode is not None
    return child.returncode


def test_greeting_task_result_and_goodbye(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start("--prefetch", "3")
    hello, ready = boss.await_one(Hello), boss.await_one(Ready)
    assert (hello.worker, hello.role, hello.slot, hello.pid, hello.running, hello.outbox) == (
        worker, "code", 1, child.pid, [], [],
    )  # fmt: skip
    assert abs(hello.pid_start - psutil.Process(child.pid).create_time()) < 1.5 and ready.free == 3
    tasks = [make_task(description=f"say {number}") for number in range(5)]
    for task in tasks:
        boss.tell(worker, task)
    boss.await_one(Result, 5)
    assert [(r.attempt, r.outcome, r.text) for r in boss.of(Result)] == [
        (task.attempt, "succeeded", task.description) for task in tasks
    ]
    assert not boss.of(Started), "a result that comes at once says itself that the run began"
    boss.tell(worker, Ping())
    boss.await_one(Pong)
    boss.tell(worker, Drain())
    assert boss.await_one(Bye).reason == "drained"
    assert exited(boss, child) == 0
    assert not list(crew.places.outboxes.iterdir()) and not list(crew.places.workers.glob("*.json"))


def test_payload_switches_of_echo(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start("--prefetch", "9")
    boss.await_one(Ready)
    payloads: list[dict[str, Any]] = [
        {"cost_usd": 0.25}, {"fail": True}, {"fail": 1}, {"fail": "throttled", "until": 1.9e9}, {"cost_usd": -1},
        {"sleep_seconds": 0.05},
    ]  # fmt: skip
    for payload in payloads:
        boss.tell(worker, make_task(payload=payload, number=2))
    boss.await_one(Result, len(payloads))
    outcomes = [(r.outcome, r.cost, r.until) for r in boss.of(Result)]
    assert sorted(outcomes, key=str) == sorted(
        [("succeeded", 250_000, None), ("failed", None, None), ("succeeded", None, None), ("throttled", None, 1.9e9),
         ("failed", None, None), ("succeeded", None, None)], key=str,
    )  # fmt: skip
    boss.tell(worker, make_task(payload={"crash": True}))
    assert exited(boss, child) == 17


def test_a_result_stays_on_disk_until_it_is_acknowledged(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    boss.acknowledge = False
    worker, child = crew.start()
    boss.await_one(Ready)
    task = make_task()
    boss.tell(worker, task)
    result = boss.await_one(Result)
    child.kill()
    child.wait()
    assert read(crew.places.outboxes / worker / LOG).results == {task.attempt: result}


def test_the_ledger_is_called_and_answered(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, _ = crew.start()
    boss.await_one(Ready)
    filed = [{"agent_owner": "qa", "title": "one", "description": "d"}, {"agent_owner": "qa", "title": "two"}]
    task = make_task(payload={"insert": filed})
    boss.tell(worker, task)
    first = boss.await_one(Call)
    assert (first.attempt, first.tool, first.arguments) == (task.attempt, "insert_task", filed[0])
    boss.tell(worker, Reply(call=first.call, ok=True, result=new_id()))
    boss.tell(worker, Reply(call=boss.await_one(Call, 2).call, ok=False, error="description is missing"))
    result = boss.await_one(Result)
    assert (result.outcome, result.error, result.tool_calls) == ("failed", "description is missing", 2)


def test_cancel_stops_what_runs_and_gives_back_what_waits(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, _ = crew.start("--prefetch", "3")
    boss.await_one(Ready)
    running, waiting, kept = (
        make_task(payload={"sleep_seconds": 60}),
        make_task(payload={"sleep_seconds": 60}),
        make_task(),
    )
    for task in (running, waiting, kept):
        boss.tell(worker, task)
    boss.await_one(Started)
    boss.tell(worker, Cancel(attempt=waiting.attempt, reason="not needed"))
    boss.tell(worker, Cancel(attempt=running.attempt, reason="enough", grace_seconds=0.2))
    boss.await_one(Result, 3)
    results = {r.attempt: (r.outcome, r.error) for r in boss.of(Result)}
    assert results == {
        waiting.attempt: ("cancelled", "not begun: not needed"),
        running.attempt: ("cancelled", "enough"),
        kept.attempt: ("succeeded", None),
    }
    boss.await_one(Started, 2)


def test_the_supervisors_death_is_survived(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start("--prefetch", "2")
    boss.await_one(Ready)
    boss.acknowledge = False
    done, running = make_task(), make_task(payload={"sleep_seconds": 1.0, "insert": [{"title": "after"}]})
    boss.tell(worker, done)
    boss.await_one(Result)
    boss.tell(worker, running)
    boss.await_one(Started)
    boss.die()
    time.sleep(1.2)
    second = crew.boss()
    hello = second.await_one(Hello)
    assert hello.worker == worker and hello.running == [running.attempt] and hello.outbox == [done.attempt]
    call = second.await_one(Call)
    assert call.arguments == {"title": "after"}
    second.tell(worker, Reply(call=call.call, ok=True, result="x"))
    second.until(lambda: {done.attempt, running.attempt} <= {r.attempt for r in second.of(Result)})
    second.until(lambda: not read(crew.places.outboxes / worker / LOG).results)
    assert child.poll() is None
    second.tell(worker, Drain())
    assert exited(second, child) == 0


def test_an_orphan_leaves_and_keeps_its_result(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    boss.acknowledge = False
    worker, child = crew.start("--orphan-seconds", "1.5")
    boss.await_one(Ready)
    task = make_task()
    boss.tell(worker, task)
    boss.await_one(Result)
    boss.die()
    assert child.wait(20) == 0
    assert list(read(crew.places.outboxes / worker / LOG).results) == [task.attempt]


def test_the_kill_switch_works_with_the_supervisor_dead(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start("--prefetch", "2")
    boss.await_one(Ready)
    running, waiting = make_task(payload={"sleep_seconds": 60}), make_task(payload={"sleep_seconds": 60})
    boss.tell(worker, running)
    boss.tell(worker, waiting)
    boss.await_one(Started)
    boss.die()
    killswitch.arm(crew.switch, "stop it all", now=True)
    log = crew.places.outboxes / worker / LOG
    deadline = time.monotonic() + 10
    while not {running.attempt, waiting.attempt} <= set(read(log).results) and time.monotonic() < deadline:
        time.sleep(0.02)
    results = read(log).results
    assert results[running.attempt].outcome == results[waiting.attempt].outcome == "cancelled"
    assert "stop it all" in (results[running.attempt].error or "")
    second = crew.boss()
    refused, last = make_task(), make_task()
    second.await_one(Ready)
    second.tell(worker, refused)
    assert second.result_of(refused).outcome == "cancelled"
    killswitch.disarm(crew.switch)
    second.tell(worker, last)
    assert second.result_of(last).outcome == "succeeded"
    assert second.result_of(running).outcome == second.result_of(waiting).outcome == "cancelled"
    assert child.poll() is None


def test_sigterm_stops_the_run_keeps_its_result_and_leaves(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start("--prefetch", "2")
    boss.await_one(Ready)
    running, waiting = make_task(payload={"sleep_seconds": 60}), make_task()
    boss.tell(worker, running)
    boss.tell(worker, waiting)
    boss.await_one(Started)
    os.kill(child.pid, signal.SIGTERM)
    boss.await_one(Result, 2)
    assert {r.outcome for r in boss.of(Result)} == {"cancelled"}
    assert exited(boss, child) == 0
    assert "SIGTERM" in boss.await_one(Bye).reason


def test_a_refused_worker_leaves(crew: Crew) -> None:
    boss = crew.boss()
    worker, child = crew.start()
    boss.await_one(Ready)
    boss.tell(worker, Refuse(reason="the key is another worker's"))
    assert exited(boss, child) == 0


def test_the_register_says_what_runs(crew: Crew, make_task: MakeTask) -> None:
    boss = crew.boss()
    worker, child = crew.start()
    boss.await_one(Ready)
    task = make_task(payload={"sleep_seconds": 60})
    boss.tell(worker, task)
    boss.await_one(Started)
    data = json.loads((crew.places.workers / f"{worker}.json").read_text())
    assert (data["pid"], data["role"], data["slot"], data["attempt"]) == (child.pid, "code", 1, task.attempt)


@pytest.mark.parametrize(
    ("invoker", "words"),
    [("nonsense", "not known"), ("os:nothing", "cannot be loaded"), ("os:path", "no method"), ("gone:X", "cannot be")],
)
def test_an_invoker_that_cannot_be_loaded_is_one_clear_line(crew: Crew, invoker: str, words: str) -> None:
    Boss(crew.places).die()
    _, child = crew.start(invoker=invoker)
    assert child.wait(20) == 2
    text = crew.log.read_text()
    assert words in text and "Traceback" not in text


PLUGIN = """
import subprocess, time
class Answer:
    def __init__(self, **fields): self.__dict__.update(fields)
class Plain:
    def invoke(self, agent_role, prompt, *, system_prompt=None, max_turns=16, allowed_tools=None, model=None):
        if "daemon" in prompt: subprocess.Popen(["setsid", "sleep", "60"])
        if "hang" in prompt: time.sleep(60)
        if "boom" in prompt: raise RuntimeError("it went boom")
        if "error" in prompt: return Answer(text="API Error: 500", cost_usd=0.1, sdk_error="API Error: 500")
        return Answer(text=f"{agent_role}: {prompt}", cost_usd=0.5, usage={"input_tokens": 7}, tool_calls=[1, 2])
"""


def test_a_module_invoker_runs_on_the_same_path(crew: Crew, make_task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    boss = crew.boss()
    worker, child = crew.start("--project-root", str(tmp_path), "--prefetch", "9", invoker="plugin:Plain")
    boss.await_one(Ready)
    prompts = ["hello", "boom", "error", "daemon"]
    tasks = [make_task(prompt=prompt) for prompt in prompts]
    for task in tasks:
        boss.tell(worker, task)
    boss.await_one(Result, 4)
    good, boom, error, daemon = boss.of(Result)
    assert (good.outcome, good.text, good.cost, good.tool_calls) == ("succeeded", "code: hello", 500_000, 2)
    assert good.usage["claude-sonnet-5-5"].input_tokens == 7
    assert (boom.outcome, boom.error) == ("failed", "RuntimeError: it went boom")
    assert (error.outcome, error.text, error.cost) == ("failed", "", 100_000)
    assert (daemon.outcome, daemon.survivors) == ("succeeded", 0)
    assert reaper.find(Family(root=child.pid)) == []
    hang = make_task(prompt="hang", timeout_seconds=0.5)
    boss.tell(worker, hang)
    late = boss.await_one(Result, 5)
    assert late.outcome == "failed" and "longer than 0.5 s" in late.error
    assert exited(boss, child) == 3
