"""Text from agents and people stays text: on every page, in every field, for two hundred ways to be more."""

from __future__ import annotations

import json
from contextlib import closing
from html.parser import HTMLParser
from urllib.parse import quote

import apsw
import pytest
from browsing import needs_browser, tab
from driving import Project
from payloads import PAYLOADS
from test_web_live import served
from web_rig import Web

from producer.web import pages, show


class Tags(HTMLParser):
    """The elements of a page and their attributes' names; no text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[tuple[str, ...]] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add((tag, *sorted(name for name, _ in attrs)))


@pytest.fixture
def hostile(project: Project) -> Project:
    """A ledger whose every text is a payload: titles, descriptions, payloads, sprints, reasons, results, errors."""
    project.configure({"code": None})
    with project.client() as client:
        client.insert_tasks(
            {"agent_owner": "code", "title": text[:200].strip("\x00"), "description": text, "payload": {text: [text]},
             "sprint_id": text, "task_id": f"x{number}"}
            for number, text in enumerate(PAYLOADS)
        )  # fmt: skip
        for number, text in enumerate(PAYLOADS[:40]):
            ident = f"x{number}"
            if number % 4 == 0:
                client.escalate_task(ident, text)
            elif number % 4 == 1:
                client.kill_task(ident, text)
            else:
                client.claim_task(ident, "code")
                client.fail_task(ident, text)
            client.record_decision(task_id=ident, agent_owner=text, kind=text, decision_text=text, rationale=text)
        client.append_audit(agent_owner=PAYLOADS[0], action="custom<script>", detail={"text": PAYLOADS[1]})
    said = project.places.config_dir("x2") / "projects" / "p"
    said.mkdir(parents=True)
    escalations = project.state / "escalations"
    escalations.mkdir(parents=True, exist_ok=True)
    (escalations / "x0.md").write_text("\n".join(PAYLOADS))
    (project.state / "morning-report-20260101.md").write_text("# Report\n\n" + "\n\n".join(PAYLOADS))
    session = "00000000-0000-4000-8000-000000000000"
    with closing(apsw.Connection(str(project.state / "ledger.db"))) as ledger:
        ledger.execute("UPDATE attempts SET session_id = ? WHERE task_id = 'x2'", (session,))
    lines = [transcript_line(number, text) for number, text in enumerate(PAYLOADS)]
    (said / f"{session}.jsonl").write_text("\n".join(lines))
    return project


def transcript_line(number: int, text: str) -> str:
    tool = {"type": "tool_use", "id": f"t{number}", "name": text, "input": {"file_path": text, "content": text}}
    edit = {"type": "tool_use", "id": f"e{number}", "name": "Edit", "input": {"file_path": text, "old_string": text,
                                                                             "new_string": text * 2}}  # fmt: skip
    blocks = [{"type": "text", "text": text}, tool, edit]
    return json.dumps({"type": "assistant", "timestamp": "2026-01-01T00:00:00Z", "message": {"content": blocks}})


ADDRESSES = [
    *(path.format(ident="x0") for path, _ in pages.ROUTES), *(f"/tasks/x{number}" for number in range(4)),
    "/tasks?status=escalated", "/audit?task=x1", "/reports?day=20260101",
    "/tasks?text=%3Cscript%3Ealert(1)%3C/script%3E&role=%22%3E%3Cimg%20src=x%3E",
    "/audit?text=%22%3E%3Csvg%20onload=x%3E&action=%27%3E%3Cscript%3E",
]  # fmt: skip


SCRIPT = ("script", "src", "type")
FOREIGN = {"img", "iframe", "object", "embed", "base", "style", "video", "source", "math", "template"}


def test_there_are_two_hundred() -> None:
    assert len(set(PAYLOADS)) == 200


def test_no_text_becomes_an_element(hostile: Project) -> None:
    web = Web(hostile)
    assert len(web.get("/tasks/x2").text) > 100_000, "the transcript is in it"
    for address in ADDRESSES:
        found = web.get(address, accept="text/html")
        assert found.status_code == 200, f"{address}: {found.text[:300]}"
        names = {tag[0] for tag in Tags(found.text).found}
        bad = names & FOREIGN
        assert not bad, f"{address}: {bad}"
        for tag in Tags(found.text).found:
            assert not any(name.startswith("on") for name in tag[1:]), f"{address}: {tag}"
            assert tag[0] != "script" or tag == SCRIPT, f"{address}: {tag}"


@pytest.mark.slow
def test_no_text_of_an_address_becomes_an_element(web: Web) -> None:
    """What is searched for stands in the field again, and what is wrong with it in an error."""
    for text in PAYLOADS:
        sent = quote(text, safe="")
        for address in (f"/tasks?text={sent}", f"/tasks?status={sent}", f"/tasks?role={sent}&before={sent}", f"/tasks/{sent}",
                        f"/audit?text={sent}", f"/audit?action={sent}&task={sent}", f"/reports?day={sent}",
                        f"/flow?hours={sent}", f"/{sent}"):  # fmt: skip
            found = web.get(address, accept="text/html")
            assert found.status_code in (200, 400, 404), f"{address}: {found.text[:300]}"
            foreign = {
                tag for tag in Tags(found.text).found if tag[0] in FOREIGN or any(n.startswith("on") for n in tag[1:])
            }
            assert not foreign, f"{address}: {foreign}"
            assert all(tag == SCRIPT for tag in Tags(found.text).found if tag[0] == "script"), address


@pytest.mark.parametrize("text", PAYLOADS[::20])
def test_markdown_of_a_report_makes_no_foreign_elements(text: str) -> None:
    html = show.markdown(
        f"# {text}\n\n[x](javascript:alert)\n\n![x](https://evil.example/x)\n\n> {text}\n\n| a |\n|--:|\n| {text} |"
    )
    names = {tag[0] for tag in Tags(str(html)).found}
    assert names <= {"h1", "p", "a", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "code",
                     "pre", "ul", "li"}  # fmt: skip
    assert "style=" not in html and 'href="javascript' not in html


class TestInABrowser:
    """The same in Chromium: nothing runs, nothing is fetched from elsewhere, the policy has nothing to complain of."""

    pytestmark = needs_browser

    def test_nothing_runs(self, hostile: Project) -> None:
        with served(hostile) as link, tab(link) as one:
            foreign: list[str] = []
            one.page.on("request", lambda asked: asked.url.startswith(one.base) or foreign.append(asked.url))
            one.page.on("dialog", lambda dialog: foreign.append(dialog.message))
            for address in ADDRESSES:
                one.page.goto(one.base + address)
                one.page.evaluate("document.querySelectorAll('details').forEach((fold) => (fold.open = true))")
                one.page.wait_for_load_state("load")
                assert one.page.evaluate("window.PWNED") is None, address
            assert foreign == []
            assert one.complaints == []

    def test_nothing_that_an_agent_says_runs_while_it_streams(self, filled: Project) -> None:
        """Live text comes by events, past the server's templates."""
        said = [
            {"kind": "progress.text", "at": 1.0 + number, "role": "qa", "task": "under", "attempt": text, "words": text,
             "text": text}
            for number, text in enumerate(PAYLOADS)
        ]  # fmt: skip
        stream = "event: hello\ndata: {}\n\n" + "".join(
            f"event: happened\nid: x-{number}\ndata: {json.dumps(one)}\n\n" for number, one in enumerate(said)
        )
        with served(filled) as link, tab(link) as one:
            one.page.route(
                "**/api/events?*", lambda route: route.fulfill(body=stream, content_type="text/event-stream")
            )
            one.page.goto(f"{one.base}/tasks/under")
            one.page.wait_for_function(
                "(most) => document.querySelectorAll('#transcript li.t-text p').length >= most", arg=len(PAYLOADS)
            )
            assert one.page.evaluate("document.querySelectorAll('#transcript li.t-text p *').length") == 0
            assert one.page.evaluate("window.PWNED") is None
            assert [text for text in one.complaints if "Content Security" in text or "Trusted" in text] == []
