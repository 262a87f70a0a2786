"""What happens, as it happens: the hub's queues and numbers, and a real stream of a real process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest
from driving import Project, Supervisor, until
from web_rig import Web

from producer import killswitch
from producer.web.hub import KEPT, MOST_STREAMS, QUEUED, Hub, Stream
from producer.wire.messages import Event


def event(kind: str = "task_completed", task: str | None = None, **data: object) -> Event:
    return Event(at=1.0, kind=kind, role="code", task=task, attempt="A", data=dict(data))


def drained(stream: Stream) -> list[str]:
    found = []
    while not stream.queue.empty():
        found.append(stream.queue.get_nowait())
    return [f"{entry['kind']} {entry['number']}" for entry in found]


@pytest.fixture
def hub(web: Web) -> Hub:
    return Hub(web.desk)


def opened(hub: Hub, task: str | None = None, last: str | None = None) -> Stream:
    stream = hub.open(task, last)
    assert stream is not None
    return stream


def test_a_stream_that_comes_back_gets_what_it_missed(hub: Hub) -> None:
    for _ in range(5):
        hub.hear(event())
    third = hub.now().rpartition("-")[0] + "-3"
    assert drained(opened(hub, last=third)) == ["task_completed 4", "task_completed 5"]
    assert drained(opened(hub, last=hub.now())) == []
    assert drained(opened(hub)) == []


@pytest.mark.parametrize(
    "last", ["x", "", "-", "abc-1", "00000000-3", "-1", "EPOCH-999", "EPOCH-x", "EPOCH--1", "9" * 99]
)
def test_a_stream_whose_place_is_not_known_looks_anew(hub: Hub, last: str) -> None:
    hub.hear(event())
    stream = opened(hub, last=last.replace("EPOCH", hub.now().rpartition("-")[0]))
    assert drained(stream) == (["reset 1"] if last else [])


def test_what_is_too_long_ago_is_not_replayed(hub: Hub) -> None:
    first = hub.now()
    for _ in range(KEPT + 1):
        hub.hear(event())
    assert drained(opened(hub, last=first)) == [f"reset {KEPT + 1}"]


def test_a_slow_page_is_told_to_look_anew_and_costs_a_bounded_queue(hub: Hub) -> None:
    slow, quick = opened(hub), opened(hub)
    for number in range(QUEUED * 3 + 7):
        hub.hear(event())
        assert slow.queue.qsize() <= QUEUED
        if number % 50 == 0:
            drained(quick)
    kinds = [line.split()[0] for line in drained(slow)]
    assert kinds[0] == "reset" and len(kinds) <= QUEUED
    assert "reset" not in {line.split()[0] for line in drained(quick)}


def test_eight_streams_and_no_more(hub: Hub) -> None:
    streams = [opened(hub) for _ in range(MOST_STREAMS)]
    assert hub.open(None, None) is None
    hub.shut(streams[0])
    assert hub.open(None, None) is not None


def test_a_task_page_hears_its_own_agent_and_what_changes(hub: Hub) -> None:
    stream = opened(hub, task="mine")
    hub.hear(event("progress.text", "other", text="not for you"))
    hub.hear(event("progress.text", "mine", text="for you"))
    hub.hear(event("task_completed", "other"))
    assert drained(stream) == ["progress.text 2", "task_completed 3"]


def test_long_texts_are_cut(hub: Hub) -> None:
    stream = opened(hub)
    hub.hear(event("progress.text", text="x" * 1_000_000))
    assert len(json.dumps(stream.queue.get_nowait())) < 10_000


def test_what_nobody_tells_is_noticed(web: Web) -> None:
    async def go() -> str:
        hub = Hub(web.desk)
        stream = opened(hub)
        running = asyncio.create_task(hub.run())
        try:
            for number in range(200):
                killswitch.arm(web.desk.config.kill_switch, f"reason {number}")
                with suppress(TimeoutError):
                    return str((await asyncio.wait_for(stream.queue.get(), 0.3))["kind"])
        finally:
            running.cancel()
        return "nothing"

    assert asyncio.run(go()) == "changed"


# ---- the real thing


@contextmanager
def served(project: Project, *words: str) -> Iterator[str]:
    """`producerctl ui` of a project as a process; its one-time link."""
    command = [sys.executable, "-P", "-m", "producer", "--config", str(project.file), "ui", "--no-browser", *words]
    process = subprocess.Popen(
        command, env=project.env, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout
        link = process.stdout.readline().strip()
        assert link, process.communicate(timeout=10)
        yield link
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert "Traceback" not in out + err and "ERROR" not in err, out + err
        assert process.returncode == 0


@contextmanager
def entered(link: str) -> Iterator[httpx.Client]:
    """A browser that came by the link."""
    with httpx.Client(base_url=link.split("/enter")[0], timeout=20) as client:

        def there() -> httpx.Response | None:
            try:
                return client.get(link)
            except httpx.ConnectError:
                return None

        assert until(there, what="the dashboard").status_code == 200  # type: ignore[union-attr]
        token = re.search(r'<meta name="csrf" content="([^"]+)">', client.get("/").text)
        assert token
        client.headers.update({"x-producer-csrf": token[1], "content-type": "application/json"})
        yield client


def until_changed(lines: Iterator[str]) -> str:
    """Wait until the dashboard's listener is there; the id of what it said then."""
    last = ""
    for line in lines:
        last = line if line.startswith("id: ") else last
        if line.startswith("data: ") and json.loads(line[6:]).get("kind") == "changed":
            return last
    raise AssertionError("the stream ended")


def until_heard(client: httpx.Client, lines: Iterator[str]) -> str:
    """File tasks until one of them is told: a `changed` may come before the listener hears everything. Its id."""
    last = until_changed(lines)
    for _ in range(10):
        filed = client.post("/api/tasks", json={"agent_owner": "code", "title": "First", "description": "d"})
        assert filed.status_code == 201
        for line in lines:
            last = line if line.startswith("id: ") else last
            kind = json.loads(line[6:]).get("kind") if line.startswith("data: ") else None
            if kind == "task_inserted":
                return last
            if kind == "changed":
                break
    raise AssertionError("no event was told")


def test_without_a_page_nobody_listens(
    filled: Project, supervise: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervise().ready()
    monkeypatch.setattr("producer.web.hub.LINGER", 0.2)
    web = Web(filled)

    async def go() -> list[bool]:
        hub = Hub(web.desk)
        running = asyncio.create_task(hub.run())
        listens = []
        try:
            for streams, expected in ((0, False), (1, True), (0, False), (1, True)):
                if streams:
                    stream = opened(hub)
                elif listens:
                    hub.shut(stream)
                for _ in range(400):
                    await asyncio.sleep(0.05)
                    if (hub._events is not None) is expected:
                        break
                listens.append(hub._events is not None)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        return listens

    assert asyncio.run(go()) == [False, True, False, True]


def test_a_stream_of_the_real_process(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervise().ready()
    with served(filled) as link, entered(link) as client:
        with client.stream("GET", "/api/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert "default-src 'none'" in stream.headers["content-security-policy"]
            lines = stream.iter_lines()
            first = until_heard(client, lines)
            for _ in range(2):
                task = client.post("/api/tasks", json={"agent_owner": "code", "title": "Now", "description": "d"})
                assert task.status_code == 201
            seen = 0
            last = first
            for line in lines:
                last = line if line.startswith("id: ") else last
                if line.startswith("data: ") and json.loads(line[6:]).get("kind") == "task_inserted":
                    seen += 1
                if seen == 2:
                    break
        with client.stream("GET", "/api/events", headers={"last-event-id": first[4:]}) as stream:
            kinds = []
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    kinds.append(json.loads(line[6:]).get("kind"))
                if kinds.count("task_inserted") == 2:
                    break
            assert "reset" not in kinds, "it goes on where it stopped"


def test_streams_are_behind_the_gates_and_at_most_eight(filled: Project) -> None:
    with served(filled) as link, entered(link) as client:
        assert httpx.get(client.base_url.join("/api/events")).status_code == 401
        assert client.get("/api/events", headers={"host": "evil.example"}).status_code == 403
        assert client.get("/api/events", headers={"sec-fetch-site": "cross-site"}).status_code == 403
        open_ones = [client.stream("GET", "/api/events") for _ in range(MOST_STREAMS)]
        for one in open_ones:
            assert one.__enter__().status_code == 200
        refused = client.get("/api/events")
        assert refused.status_code == 429 and "error" in refused.json()
        open_ones[0].__exit__(None, None, None)

        def again() -> bool:
            with client.stream("GET", "/api/events") as found:
                return found.status_code == 200

        until(again, what="a place for another stream")
        for one in open_ones[1:]:
            one.__exit__(None, None, None)


def test_two_dashboards_side_by_side_and_ports(filled: Project) -> None:
    with served(filled, "--start-port", "5150") as one, served(filled, "--start-port", "5150") as two:
        ports = [int(link.split(":")[2].split("/")[0]) for link in (one, two)]
        assert ports[1] > ports[0] >= 5150
        with entered(one) as first, entered(two) as second:
            first.cookies.update(second.cookies)  # cookies know no ports
            assert first.get("/").status_code == second.get("/").status_code == 200
        ran = filled.producerctl("ui", "--no-browser", "--port", str(ports[0]))
        assert ran.returncode == 2 and f"--port: {ports[0]}" in ran.stderr and len(ran.stderr.splitlines()) == 1


def test_without_a_ledger_the_command_says_what_to_do(project: Project) -> None:
    ran = project.producerctl("ui", "--no-browser")
    assert ran.returncode == 2 and "producerctl init" in ran.stderr
    assert not project.state.joinpath("ledger.db").exists()


def test_the_dashboard_outlives_supervisors(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    with served(filled) as link, entered(link) as client:
        assert client.get("/api/state").json()["producer"]["running"] is False
        with client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            first = supervise().ready()
            told(lines, "producer_boot", "changed")
            assert client.get("/api/state").json()["producer"]["pid"] == first.pid
            os.kill(first.pid, signal.SIGKILL)
            first.process.wait(10)
            told(lines, "changed")
            until(lambda: client.get("/api/state").json()["producer"]["running"] is False)
            second = supervise().ready()
            until(lambda: client.get("/api/state").json()["producer"]["pid"] == second.pid)
            # The page may not listen to the new supervisor yet: something happens until it does.
            heard = threading.Event()
            filing = threading.Thread(target=lambda: keep_filing(filled, heard))
            filing.start()
            try:
                told(lines, "task_inserted")
            finally:
                heard.set()
                filing.join(30)


def keep_filing(project: Project, enough: threading.Event) -> None:
    for number in range(60):
        project.file_task(f"heard {number}")
        if enough.wait(0.5):
            return


def told(lines: Iterator[str], *kinds: str) -> None:
    """Wait for an event of one of these kinds; the client's read has a deadline."""
    for line in lines:
        if line.startswith("data: ") and json.loads(line[6:]).get("kind") in kinds:
            return
    raise AssertionError("the stream ended")
