"""The dashboard in a real Chromium, as a person uses it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from browsing import axe, needs_browser, tab
from driving import Project, Supervisor
from rehearsing import LONG, rehearse, shell, with_shell
from test_web_live import served

from producer import killswitch
from producer.web import pages

pytestmark = needs_browser
PAGES = [path.format(ident="replace") for path, _ in pages.ROUTES]


@pytest.mark.timeout(240)
def test_a_rehearsed_task_moves_by_itself(project: Project, supervise: Callable[..., Supervisor]) -> None:
    """File it in the form, watch it begin, work and end on pages that nobody reloads; its transcript streams."""
    project.configure({"code": with_shell()})
    turns = [
        shell("echo hello", text="I look around first.", delay_seconds=1.0),
        {"text": "All is well.", "delay_seconds": 1.0},
    ]
    supervisor = rehearse(supervise, project, {"code": {"*": turns}})
    with served(project) as link, tab(link) as one:
        page = one.page
        page.keyboard.press("c")
        page.wait_for_url("**/tasks/new")
        page.get_by_role("button", name="File it").click()
        page.get_by_text("this cannot be empty").wait_for()
        page.get_by_label("Title").fill("Look around")
        page.get_by_label("Description").fill("Look, and say what you see.")
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Payload").fill("{nonsense")
        page.get_by_role("button", name="File it").click()
        page.get_by_text("this is not JSON").wait_for()
        page.get_by_label("Payload").fill('{"where": "here"}')
        page.get_by_role("button", name="File it").click()
        page.wait_for_url(re.compile(r"/tasks/[0-9A-Z]{26}$"))
        task = page.url.rpartition("/")[2]
        assert project.task(task)["payload"] == {"where": "here"}
        page.evaluate("window.STAYED = 1")
        transcript = page.locator("#transcript")
        transcript.get_by_text("I look around first.").wait_for(timeout=LONG * 1000)
        page.locator("#head .s-done").wait_for(timeout=LONG * 1000)
        transcript.get_by_text("All is well.").wait_for()
        transcript.locator("summary", has_text="echo hello").click()
        transcript.locator("pre", has_text='"command": "echo hello"').wait_for()
        page.locator("#attempts summary").click()
        assert page.locator("#attempts tbody tr").count() == 2, "a row a model request"
        assert page.evaluate("window.STAYED") == 1, "it was never loaded again"
        page.keyboard.press("Escape")
        page.keyboard.press("g")
        page.keyboard.press("n")
        page.wait_for_url(f"{one.base}/")
        page.locator("#feed", has_text="Look around").wait_for()
        assert one.complaints == []
    supervisor.until_status(task, "done")


@pytest.mark.timeout(180)
def test_halt_and_resume_and_a_supervisor_that_leaves(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise().ready()
    with served(filled) as link, tab(link) as one:
        page = one.page
        slow = filled.file_task("Slow one", payload={"sleep_seconds": 600}, priority=0)
        page.locator("#fleet .worker.busy", has_text="Slow one").wait_for()
        page.get_by_role("heading", name="1 agent is at work.").wait_for()
        page.get_by_role("button", name="Halt…").click()
        dialog = page.locator("#kill-dialog")
        dialog.get_by_role("button", name="Halt").click()
        dialog.get_by_text("this cannot be empty").or_(dialog.locator("input:invalid")).first.wait_for()
        assert not killswitch.read(filled.config().kill_switch).armed, "it wants a reason"
        dialog.get_by_label("Why").fill("deploying <b>now</b>")
        dialog.get_by_label("Also stop what runs, now").check()
        dialog.get_by_role("button", name="Halt").click()
        dialog.get_by_text("say that you are sure").wait_for()
        assert not killswitch.read(filled.config().kill_switch).armed, "it wants to be sure"
        dialog.get_by_label("Yes: cut every running agent").check()
        dialog.get_by_role("button", name="Halt").click()
        page.get_by_role("heading", name="Halted.").wait_for()
        page.get_by_text("deploying <b>now</b>").first.wait_for()
        state = killswitch.read(filled.config().kill_switch)
        assert state.armed and state.now
        supervisor.until_status(slow, "pending")
        page.get_by_role("button", name="Resume").click()
        page.locator("#resume-dialog").get_by_role("button", name="Resume").click()
        page.locator("#standing .good").wait_for()
        assert not killswitch.read(filled.config().kill_switch).armed

        filled.config().kill_switch.touch()  # somebody else, from a terminal
        page.get_by_role("heading", name="Halted.").wait_for()
        filled.config().kill_switch.unlink()
        page.locator("#standing .good").wait_for()
        assert supervisor.stop() == 0
        page.get_by_role("heading", name="Nobody is at work.").wait_for()
        page.get_by_text("read-only").wait_for()
        assert page.get_by_role("button", name="Halt…").is_disabled()
        assert one.complaints == []


@pytest.mark.timeout(180)
def test_an_escalation_is_resolved(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervise().ready()
    with served(filled) as link, tab(link) as one:
        page = one.page
        needs = page.locator("#needs")
        needs.get_by_text("nobody knows").wait_for()
        needs.get_by_role("link", name="Ask somebody").click()
        page.get_by_role("heading", name="Why it was given up").wait_for()
        page.wait_for_selector("html[data-live=yes]")
        page.get_by_role("button", name="Edit…").click()
        edit = page.locator("#edit-dialog")
        edit.get_by_label("Title").fill("")
        edit.get_by_label("Description").fill("Ask the keeper.")
        edit.get_by_label("Title").fill("Ask the keeper")
        edit.get_by_role("button", name="Save").click()
        page.get_by_role("heading", name="Ask the keeper", level=1).wait_for()
        page.get_by_role("button", name="Route…").click()
        page.locator("#route-dialog").get_by_label("Role").select_option("code")
        page.locator("#route-dialog").get_by_role("button", name="Route").click()
        page.locator("#head .s-done").wait_for()
        assert filled.task("ask")["agent_owner"] == "code"
        one.go("/tasks/careful")
        page.get_by_role("button", name="Approve").click()
        page.locator("#head .s-done").wait_for()
        one.go("/tasks/replace")
        page.get_by_role("button", name="Kill…").click()
        page.locator("#task-kill-dialog").get_by_label("Why").fill("not any more")
        page.locator("#task-kill-dialog").get_by_role("button", name="Kill").click()
        page.locator("#head .s-killed").wait_for()
        page.get_by_role("button", name="Try again").click()
        page.locator("#head .s-done").wait_for()
        assert one.complaints == []


def test_keyboard_only_and_the_theme(filled: Project) -> None:
    with served(filled) as link, tab(link) as one:
        page = one.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        for key, path in (
            ("t", "/tasks"),
            ("f", "/flow"),
            ("m", "/money"),
            ("a", "/audit"),
            ("r", "/reports"),
            ("n", "/"),
        ):
            page.keyboard.press("g")
            page.keyboard.press(key)
            page.wait_for_url(one.base + path)
            page.wait_for_selector("html[data-live=yes]")
        page.keyboard.press("?")
        page.locator("#keys-dialog[open]").wait_for()
        page.keyboard.press("Escape")
        page.locator("#keys-dialog[open]").wait_for(state="detached")
        page.keyboard.press("/")
        page.wait_for_url(f"{one.base}/tasks")
        page.wait_for_selector("html[data-live=yes]")
        page.keyboard.press("/")
        page.keyboard.type("parser g t")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"text=parser"))
        page.go_back()
        page.wait_for_selector("html[data-live=yes]")
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/tasks/under$"))
        light = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").focus()
        page.keyboard.press("Enter")
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert light != dark
        page.reload()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark, "it is remembered"
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert one.complaints == []


@pytest.mark.timeout(180)
def test_with_the_keyboard_alone_one_halts_resumes_approves_and_files(
    filled: Project, supervise: Callable[..., Supervisor]
) -> None:
    supervise("--workers", "code=0", "--workers", "qa=0").ready(0)
    with served(filled) as link, tab(link) as one:
        page, keyboard = one.page, one.page.keyboard
        keyboard.press("!")
        page.locator("#kill-dialog[open]").wait_for()
        keyboard.type("no mouse")
        keyboard.press("Enter")
        page.get_by_role("heading", name="Halted.").wait_for()
        assert "no mouse" in (killswitch.read(filled.config().kill_switch).reason or "")
        keyboard.press("!")
        page.locator("#resume-dialog[open]").wait_for()
        keyboard.press("Enter")
        page.locator("#standing .good").wait_for()
        for _ in range(40):
            if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Approve: Careful":
                break
            keyboard.press("Tab")
        keyboard.press("Enter")
        page.locator("#needs", has_text="Careful").wait_for(state="detached")
        keyboard.press("c")
        page.wait_for_url("**/tasks/new")
        for label, text in (("f-title", "By keys"), ("f-desc", "Without a mouse")):
            for _ in range(40):
                if page.evaluate("document.activeElement.id") == label:
                    break
                keyboard.press("Tab")
            keyboard.type(text)
        for _ in range(10):
            keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "File it":
                break
        keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/tasks/[0-9A-Z]{26}$"))
        page.get_by_role("heading", name="By keys").wait_for()
        assert one.complaints == []


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(filled: Project, scheme: str, width: int) -> None:
    source = axe()
    with served(filled) as link, tab(link, scheme=scheme, width=width) as one:
        for path in [*PAGES, "/tasks/ask", "/tasks/under", "/flow?hours=1"]:
            one.go(path)
            one.page.evaluate(source)
            found = one.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
            bad = [
                f"{path} {rule['id']} ({rule['impact']}): {node['html'][:150]} {node.get('failureSummary', '')[:300]}"
                for rule in found["violations"]
                if rule["impact"] in ("serious", "critical")
                for node in rule["nodes"]
            ]
            assert not bad, "\n".join(bad)
        for opener, dialog in (("#standing [data-dialog]", "#kill-dialog"), ("footer [data-dialog]", "#keys-dialog")):
            one.page.evaluate(f"document.querySelector({json.dumps(dialog)}).showModal()")
            found = one.page.evaluate(f"axe.run({json.dumps(dialog)})")
            assert not [rule["id"] for rule in found["violations"] if rule["impact"] in ("serious", "critical")], opener
            one.page.keyboard.press("Escape")
        assert one.complaints == []


def test_a_phone_shows_all_of_it(filled: Project) -> None:
    with served(filled) as link, tab(link, width=375, height=740) as one:
        for path in PAGES:
            one.go(path)
            wide = one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px too wide"
            assert one.page.locator("nav").is_visible() and one.page.locator("#main h1").is_visible()


@pytest.mark.parametrize("width", [375, 1280])
def test_words_without_end_stay_in_their_place(project: Project, width: int) -> None:
    role = "a-role-with-a-name-as-long-as-is"
    project.configure({role: None}, project_name="a-project-whose-name-is-as-long-as-names-may-be-and-longer")
    with project.client() as client:
        for state in ("pending", "done", "escalated", "in_progress"):
            task = project.file_task("W" * 190, role=role, task_id=f"{state}-{'x' * 40}", payload={"k" * 300: "v" * 900},
                                     requires_approval=state == "pending", sprint_id="s" * 190)  # fmt: skip
            if state != "pending":
                client.claim_task(task, role)
            if state == "done":
                client.perform("complete_task", task_id=task, cost_usd="0.25", output="r" * 5000)
            if state == "escalated":
                client.escalate_task(task, "because" * 200)
    with served(project) as link, tab(link, width=width) as one:
        for path, _ in pages.ROUTES:
            for state in ("pending", "done", "escalated") if "{ident}" in path else ("",):
                one.go(path.format(ident=f"{state}-{'x' * 40}"))
                wide = one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert wide <= 0, f"{one.page.url} is {wide} px too wide"
        assert one.complaints == []


def test_a_page_that_was_away_catches_up(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervise("--workers", "code=0").ready(0)
    with served(filled) as link, tab(link) as one:
        page = one.page
        page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        filled.file_task("While you were away", priority=0)
        assert page.locator("#queue", has_text="While you were away").count() == 0
        page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.locator("#queue", has_text="While you were away").wait_for()
