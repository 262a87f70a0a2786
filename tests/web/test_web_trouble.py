"""Pages that are open while something goes wrong: they say so, keep what they show, and come back by themselves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from browsing import needs_browser, tab
from driving import Project, Supervisor
from playwright.sync_api import Route, expect
from test_web_live import entered, served

from producer.web.hub import MOST_STREAMS

pytestmark = [*needs_browser, pytest.mark.timeout(180)]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    """A machine with other things to do takes its time."""
    expect.set_options(timeout=30_000)
    yield
    expect.set_options(timeout=5_000)


def test_a_dashboard_that_was_started_anew_asks_for_a_new_link(filled: Project) -> None:
    with ExitStack() as first:
        link = first.enter_context(served(filled, "--port", "5333"))
        with tab(link) as one:
            first.close()
            notice = one.page.locator("#link-state")
            expect(notice).to_contain_text("not reachable; trying again")
            expect(one.page.locator("#queue")).to_contain_text("Careful")
            with served(filled, "--port", "5333") as second:
                expect(notice).to_contain_text("Open the link that `producerctl ui` prints")
                one.page.context.new_page().goto(second)
                expect(notice).to_be_hidden()


def test_a_ledger_that_goes_and_comes_back(filled: Project) -> None:
    ledger = filled.state / "ledger.db"
    away = ledger.with_name("elsewhere.db")
    with served(filled) as link, tab(link) as one:
        notice = one.page.locator("#link-state")
        ledger.rename(away)
        expect(notice).to_contain_text("This page shows how it was")
        expect(notice).to_contain_text("does not exist")
        expect(one.page.locator("#queue")).to_contain_text("Careful")
        one.page.goto(f"{one.base}/flow")
        expect(one.page.get_by_role("heading", name="Not now.")).to_be_visible()
        away.rename(ledger)
        expect(one.page.get_by_role("heading", name="Timeline")).to_be_visible()
        expect(notice).to_be_hidden()


def test_a_ninth_page_says_that_there_are_eight(filled: Project) -> None:
    with served(filled) as link, entered(link) as client, ExitStack() as streams:
        for _ in range(MOST_STREAMS):
            streams.enter_context(client.stream("GET", "/api/events"))
        path = client.post("/api/links", json={}).json()["path"]
        with tab(link.split("/enter")[0] + path, live=False) as one:
            expect(one.page.locator("#link-state")).to_contain_text(f"{MOST_STREAMS} pages are open already")
            streams.close()
            one.page.wait_for_selector("html[data-live=yes]")
            expect(one.page.locator("#link-state")).to_be_hidden()


def test_what_went_wrong_with_a_button_stays_beside_it(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    """The page is drawn anew many times a second on a busy night; an error of a moment ago must outlive that."""
    supervise("--workers", "code=0").ready(0)
    with served(filled) as link, tab(link) as one:
        page = one.page
        page.route("**/api/roles/code/scale", refuse)
        page.get_by_role("button", name="One worker more for code").click()
        beside = page.locator('[data-key="role-code"] [data-button-error]')
        expect(beside).to_have_text("not this time")
        filled.file_task("Drawn anew", priority=0)
        expect(page.locator("#queue")).to_contain_text("Drawn anew")
        expect(beside).to_have_text("not this time")
        page.unroute("**/api/roles/code/scale")
        page.get_by_role("button", name="One worker more for code").click()
        expect(beside).to_be_empty()


def refuse(route: Route) -> None:
    route.fulfill(status=409, json={"error": "not this time"})


def test_one_click_on_the_first_page(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    """Approve and try again where they are asked for; the row leaves while its request is under way."""
    supervise("--workers", "code=0", "--workers", "qa=0").ready(0)
    with served(filled) as link, tab(link) as one:
        needs = one.page.locator("#needs")
        needs.get_by_role("button", name="Approve: Careful").click()
        expect(needs).not_to_contain_text("Careful")
        needs.get_by_role("button", name="Try again: Ask somebody").click()
        expect(needs).to_be_hidden()
        expect(one.page.locator("#queue")).to_contain_text("Ask somebody")
        assert one.complaints == []
    assert filled.task("careful")["requires_approval"] is False and filled.task("ask")["status"] == "pending"


def test_a_dialog_begins_with_what_the_task_says_now(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    """Somebody else edits a task whose page is open: the form must not write the old words over the new ones."""
    supervise("--workers", "code=0", "--workers", "qa=0").ready(0)
    with served(filled) as link, tab(link) as one, entered_anew(one.base, one) as other:
        one.go("/tasks/ask")
        page = one.page
        edit = page.locator("#edit-dialog")
        page.get_by_role("button", name="Edit…").click()
        edit.get_by_label("Title").fill("thrown away")
        edit.get_by_role("button", name="Cancel").click()
        other("Ask the harbour master", "By letter.", 1)
        expect(page.get_by_role("heading", name="Ask the harbour master")).to_be_visible()
        page.get_by_role("button", name="Edit…").click()
        expect(edit.get_by_label("Title")).to_have_value("Ask the harbour master")
        expect(edit.get_by_label("Description")).to_have_value("By letter.")
        expect(edit.get_by_label("Priority")).to_have_value("1")
        edit.get_by_label("Title").fill("half written")
        other("Ask nobody", "Or do.", 2)
        expect(page.get_by_role("heading", name="Ask nobody")).to_be_visible()
        expect(edit.get_by_label("Title")).to_have_value("half written")


@contextmanager
def entered_anew(base: str, one: object) -> Iterator[Callable[[str, str, int], None]]:
    """Another browser's way to edit the task `ask`."""
    page = one.page  # type: ignore[attr-defined]
    path = page.evaluate(
        """() => fetch('/api/links', {method: 'POST', body: '{}', headers: {'Content-Type': 'application/json',
           'X-Producer-CSRF': document.querySelector('meta[name=csrf]').content}}).then((r) => r.json())"""
    )["path"]
    with entered(base + path) as client:

        def edit(title: str, description: str, priority: int) -> None:
            body = {"title": title, "description": description, "priority": priority}
            assert client.post("/api/tasks/ask/edit", json=body).status_code == 200

        yield edit


def test_a_supervisor_that_is_killed_is_missed_at_once(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise("--workers", "code=0").ready(0)
    with served(filled) as link, tab(link) as one:
        expect(one.page.locator("#standing")).to_contain_text("running")
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.process.wait(10)
        expect(one.page.get_by_role("heading", name="Nobody is at work.")).to_be_visible()
        expect(one.page.locator("#needs").get_by_role("button")).to_have_count(0)
        supervise("--workers", "code=0").ready(0)
        expect(one.page.locator("#standing")).to_contain_text("running")
        assert one.complaints == []
