"""What the README of 0.3.x promises under "Web UI", with the gates that it did not have."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from driving import SOURCE, Project, Supervisor, until


@contextmanager
def ui(project: Project, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`producer ui` as a user calls it; the process and the link that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "producer", "ui", *words], cwd=project.root,
        env={"BROWSER": "true", **project.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout
        yield process, process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=20)


@contextmanager
def visit(link: str) -> Iterator[httpx.Client]:
    """A browser that opens the link: a session, and the token for changes."""
    with httpx.Client(base_url=link.split("/enter")[0], timeout=20) as client:

        def entered() -> bool:
            try:
                return client.get(link).status_code == 200
            except httpx.ConnectError:
                return False

        until(entered, what="the dashboard")
        token = re.search(r'name="csrf" content="([^"]+)"', client.get("/").text)
        assert token
        client.headers["X-Producer-CSRF"] = token[1]
        yield client


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def ready(project: Project) -> Project:
    with project.client():
        return project


def test_it_hunts_for_a_free_port_from_5050_and_is_bound_to_loopback_only(ready: Project) -> None:
    with ui(ready, "--no-browser") as (one, first), ui(ready, "--no-browser") as (_, second):
        ports = [int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/enter\?token=.+", link)[1]) for link in (first, second)]  # type: ignore[index]
        assert min(ports) >= 5050 and ports[0] != ports[1]  # others may have had, and given back, one between
        with visit(first) as client:
            assert client.get("/").status_code == 200
        family = [psutil.Process(one.pid), *psutil.Process(one.pid).children()]
        listening = {c.laddr.ip for p in family for c in p.net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}


def test_a_port_by_name_and_no_hunting(ready: Project) -> None:
    port = free_port()
    with ui(ready, "--port", str(port), "--no-browser") as (_, link):
        assert f":{port}/" in link
        again = ready.producerctl("ui", "--port", str(port), "--no-browser")
        assert again.returncode == 2 and str(port) in again.stderr


def test_it_opens_the_browser_unless_told_not_to(ready: Project, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)
    ready.env["BROWSER"] = str(browser)
    with ui(ready, "--no-browser") as (_, link), visit(link):
        assert not opened.exists()
    with ui(ready) as (_, link):
        until(lambda: opened.exists() and opened.read_text().strip() == link, what="the browser")


def test_everything_that_its_form_and_buttons_did(ready: Project, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise("--workers", "code=0").ready(0)
    with ui(ready, "--no-browser") as (_, link), visit(link) as client:
        filed = client.post("/api/tasks", json={"agent_owner": "code", "title": "t", "description": "d"})
        assert filed.status_code == 201
        task = filed.json()["id"]
        assert client.post(f"/api/tasks/{task}/kill", json={}).status_code == 200
        assert ready.task(task)["status"] == "killed"
        assert client.post(f"/api/tasks/{task}/requeue", json={}).status_code == 200
        assert ready.task(task)["status"] == "pending"
        assert client.post("/api/kill_switch", json={"armed": True, "reason": "lunch"}).status_code == 200
        state = client.get("/api/state").json()
        assert state["kill_switch"]["armed"] and [row["id"] for row in state["queue"]["pending"]] == [task]
        assert client.post("/api/kill_switch", json={"armed": False}).status_code == 200
        assert Path(client.post("/api/morning_report", json={}).json()["path"]).exists()
    supervisor.until_action("kill_switch_disarmed")


def test_the_notifications_name_ntfy_only_where_a_topic_is_set(ready: Project) -> None:
    for topic, shown in (("", False), ("a-topic-of-the-test", True)):
        ready.configure({"code": None}, notifications={"ntfy_topic": topic})
        with ui(ready, "--no-browser") as (_, link), visit(link) as client:
            assert ("By ntfy" in client.get("/reports").text) is shown
            assert client.get("/api/state").json()["ntfy_status"]["enabled"] is shown


def test_theming_is_one_block_of_custom_properties() -> None:
    css = Path(SOURCE, "producer/web/static/app.css").read_text()
    block, _, rest = css[css.index(":root {") :].partition("\n}")
    assert len(re.findall(r"^\s+--[a-z0-9-]+:", block, re.MULTILINE)) > 15
    assert not re.search(r"#[0-9a-f]{6}", rest), "no colour is named outside the block"
