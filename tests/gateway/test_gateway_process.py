"""The gateway as a process, over real sockets, with a supervisor that a test plays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from gateway_rig import HELLO, body

from producer import ids
from producer.gateway import bill
from producer.places import Places
from producer.wire import journal as lines
from producer.wire import tokens
from producer.wire.auth import GATEWAY, Keys, Peer
from producer.wire.messages import (
    Booked,
    Close,
    Closed,
    Drain,
    GatewayHello,
    Message,
    Metered,
    Open,
    Reply,
    Reserve,
    Welcome,
)
from producer.wire.server import Incoming, Server

SLOW = HELLO.replace("output_tokens: 50", "output_tokens: 400, tokens_per_second: 20")


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.02)


@dataclass
class Played:
    """A supervisor's end of the tasks socket, in a thread."""

    places: Places
    attempts: list[str]
    answers: bool = True
    books: bool = True
    said: list[Message] = field(default_factory=list)
    outbox: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ident, self._end = ids.new_id(), threading.Event()
        self._server = Server(self.places, Keys(self.places))
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def of(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.said if isinstance(message, kind)]

    def stop(self) -> None:
        self._end.set()
        self._thread.join(10)
        self._server.close()

    def _loop(self) -> None:
        while not self._end.is_set():
            self._server.wait(0.02)
            for incoming in self._server.receive():
                if isinstance(incoming, Incoming):
                    assert incoming.peer == Peer("gateway", GATEWAY)
                    self.said.append(incoming.message)
                    for answer in self._answers(incoming.message):
                        self._server.send("tasks", incoming.address, answer)
            while self.outbox:
                self._server.send("tasks", GATEWAY.encode(), self.outbox.pop(0))

    def _answers(self, message: Message) -> Iterator[Message]:
        match message:
            case GatewayHello():
                yield Welcome(supervisor=self.ident, version="test")
                for attempt in self.attempts:
                    yield Open(attempt=attempt, role="code", task=ids.new_id())
            case Reserve() if self.answers:
                yield Reply(call=message.request, ok=True, result={"granted": message.need})
            case Metered() if self.books:
                yield Booked(request=message.request)


class Home:
    """A ledger's private directories, and gateways started on them."""

    def __init__(self, root: Path, play: str) -> None:
        self.root = root
        mine = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "PATH")  # the test's own, short enough for a socket
        self.env = {"HOME": str(root), **{name: os.environ[name] for name in mine}}
        self.places = Places.of(root / "ledger.db", self.env).make()
        keys = Keys(self.places)
        keys.ensure()
        keys.issue(Peer("gateway", GATEWAY))
        self.attempt = ids.new_id()
        self.bill = root / "bill.jsonl"
        (root / "play.yaml").write_text(play)
        self.children: list[subprocess.Popen[str]] = []

    def gateway(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "producer.gateway", "--ledger", str(self.root / "ledger.db")]
        command += ["--kill-switch", str(self.root / "kill_switch"), "--rehearse", str(self.root / "play.yaml")]
        command += ["--bill", str(self.bill), *more]
        child = subprocess.Popen(command, env=self.env, cwd=Path(__file__).parents[2], text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        self.children.append(child)
        return child

    def ask(self, url: str, **changes: object) -> httpx.Response:
        headers = {"x-api-key": tokens.mint(tokens.secret(self.places), self.attempt)}
        return httpx.post(f"{url}/v1/messages", headers=headers, json=body(**changes), timeout=60)

    def journal(self) -> Path:
        return lines.path_of(self.places.journal, self.attempt)


@contextmanager
def home(tmp_path: Path, play: str = HELLO) -> Iterator[Home]:
    it = Home(tmp_path, play)
    try:
        yield it
    finally:
        for child in it.children:
            child.kill()
            child.communicate()


def url_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout
    line = child.stdout.readline().strip()
    if not line:
        assert child.stderr
        pytest.fail(child.stderr.read())
    return line


def test_a_request_is_granted_metered_booked_and_its_journal_removed(tmp_path):
    with home(tmp_path) as h:
        supervisor = Played(h.places, [h.attempt])
        url = url_of(h.gateway())
        assert h.ask(url).status_code == 200
        until(lambda: supervisor.of(Metered))
        (hello, *_), (record,) = supervisor.of(GatewayHello), supervisor.of(Metered)
        assert hello.url == url
        assert hello.pid == h.children[0].pid
        assert (record.cost, record.exact) == (bill.total(h.bill), True)
        supervisor.outbox.append(Close(attempt=h.attempt))
        until(lambda: supervisor.of(Closed))
        until(lambda: not h.journal().exists())
        assert h.ask(url).status_code == 403
        supervisor.outbox.append(Drain())
        assert h.children[0].wait(20) == 0
        supervisor.stop()


def test_a_new_supervisor_hears_all_that_the_old_one_left_open(tmp_path):
    with home(tmp_path) as h:
        first = Played(h.places, [h.attempt], books=False)
        url = url_of(h.gateway())
        h.ask(url)
        until(lambda: first.of(Metered))
        first.answers = False
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(h.ask(url)))
        waiting.start()
        until(lambda: len(first.of(Reserve)) == 2)
        first.stop()

        second = Played(h.places, [h.attempt])
        waiting.join(40)
        assert answers[0].status_code == 200
        until(lambda: len({record.request for record in second.of(Metered)}) == 2)
        assert second.of(GatewayHello)[0].open == [h.attempt]
        costs = {record.request: record.cost for record in second.of(Metered)}
        assert sum(costs.values()) == bill.total(h.bill)
        second.stop()


def test_a_gateway_killed_in_the_middle_comes_back_on_its_port_and_books_the_worst(tmp_path):
    with home(tmp_path, SLOW) as h:
        supervisor = Played(h.places, [h.attempt])
        first = h.gateway()
        url = url_of(first)
        headers = {"x-api-key": tokens.mint(tokens.secret(h.places), h.attempt)}
        with httpx.stream("POST", f"{url}/v1/messages", headers=headers, json=body(), timeout=60) as response:
            pieces = response.iter_bytes()  # kept: dropping it would close the connection
            next(pieces)
            first.kill()
            first.wait(20)
        (worst,) = lines.read(h.journal()).opened.values()
        assert not supervisor.of(Metered)
        assert url_of(h.gateway()) == url
        until(lambda: supervisor.of(Metered))
        (record,) = {record.request: record for record in supervisor.of(Metered)}.values()
        assert (record.request, record.cost, record.exact) == (worst.request, worst.worst, False)
        assert h.ask(url, stream=False, max_tokens=50).status_code == 200
        supervisor.stop()


def test_a_request_waits_while_there_is_no_supervisor_at_all(tmp_path):
    with home(tmp_path) as h:
        url = url_of(h.gateway())
        answers: list[httpx.Response] = []
        waiting = threading.Thread(target=lambda: answers.append(h.ask(url)))
        waiting.start()
        supervisor = Played(h.places, [h.attempt])
        waiting.join(40)
        assert answers[0].status_code == 200
        supervisor.stop()


def test_one_gateway_a_ledger(tmp_path):
    with home(tmp_path) as h:
        url_of(h.gateway())
        second = h.gateway()
        _, error = second.communicate(timeout=30)
        assert second.returncode == 2
        assert "another gateway serves" in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_leaves_on_a_signal_and_books_what_it_cut(tmp_path, number):
    with home(tmp_path, SLOW) as h:
        supervisor = Played(h.places, [h.attempt])
        child = h.gateway()
        url = url_of(child)
        headers = {"x-api-key": tokens.mint(tokens.secret(h.places), h.attempt)}
        with httpx.stream("POST", f"{url}/v1/messages", headers=headers, json=body(), timeout=60) as response:
            pieces = response.iter_bytes()  # kept: dropping it would close the connection
            next(pieces)
            child.send_signal(number)
            assert child.wait(20) == 0
        (record,) = lines.read(h.journal()).metered.values() if h.journal().exists() else supervisor.of(Metered)
        assert record.cost >= bill.total(h.bill)
        supervisor.stop()


def test_it_leaves_when_there_was_no_supervisor_for_long(tmp_path):
    with home(tmp_path) as h:
        child = h.gateway("--orphan-seconds", "0.5")
        url_of(child)
        assert child.wait(20) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--min-max-tokens", "0"], "--min-max-tokens"),
        (["--prices", "no-such-file.json"], "no-such-file.json"),
        (["--prices", __file__], "not JSON"),
    ],
)
def test_bad_arguments_are_one_clear_line(tmp_path, arguments, said):
    with home(tmp_path) as h:
        child = h.gateway(*arguments)
        _, error = child.communicate(timeout=30)
        assert child.returncode == 2
        assert said in error.splitlines()[-1]
        assert "Traceback" not in error


def test_a_bad_script_is_one_clear_line(tmp_path):
    with home(tmp_path, "roles: {code: [{turns: [{tex: hello}]}]}") as h:
        child = h.gateway()
        _, error = child.communicate(timeout=30)
        assert child.returncode == 2
        assert "play.yaml:1: roles.code[0].turns[0].tex: unknown key" in error


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_its_memory_and_environment_are_not_for_others_to_read():
    code = "import ctypes; from producer.gateway.__main__ import _hide; _hide(); print(ctypes.CDLL(None).prctl(3))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert found.stdout.strip() == "0"
