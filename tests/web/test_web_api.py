"""The JSON routes: their shapes, what they refuse, and that what they do is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import apsw
import jsonschema
import pytest
from driving import Project, Supervisor
from web_rig import Web

from producer.ledger import Store
from producer.ledger.charts import MARKS
from producer.web import api, model
from producer.web.openapi import document


def test_state_has_the_keys_of_0_3(web: Web) -> None:
    found = web.get("/api/state").json()
    assert found.keys() >= {"producer", "kill_switch", "budget", "queue", "audit", "ntfy_status", "ts"}
    assert found["queue"].keys() == {"running", "pending", "recent"}
    assert [row["id"] for row in found["queue"]["running"]] == ["under"]
    assert [row["id"] for row in found["queue"]["pending"]] == ["next", "follows", "careful"], "most urgent first"
    assert found["queue"]["pending"][2]["reason"] == "waits for your approval"
    assert found["queue"]["pending"][1]["reason"] == "waits for Ask somebody (escalated)"
    assert found["producer"]["running"] is False and found["kill_switch"]["armed"] is False
    assert found["budget"]["project"] == {"spent_usd": "0.25", "held_usd": "0.00", "cap_usd": "100.00"}
    counts = {name: count["number"] for name, count in found["counts"].items() if count["number"]}
    assert counts == {"pending": 2, "blocked": 1, "in_progress": 1, "done": 1, "failed": 1, "escalated": 1, "killed": 1}


def test_a_task_has_task_audit_and_escalation_file(web: Web) -> None:
    web.desk.config.escalations_dir.mkdir(parents=True)
    (web.desk.config.escalations_dir / "ask.md").write_text("# why")
    found = web.get("/api/tasks/ask").json()
    assert found.keys() == {"task", "audit", "escalation_file"}
    assert found["escalation_file"] == "# why" and found["task"]["escalation_reason"] == "nobody knows"
    assert [row["action"] for row in found["audit"]] == ["escalation", "task_inserted"], "newest first"
    lineage = web.get("/api/tasks/replace").json()["task"]["lineage"]
    assert [(row["id"], row["level"]) for row in lineage] == [("parser", 0), ("replace", 1)]


def test_an_escalation_file_that_is_a_link_is_not_followed(web: Web) -> None:
    web.desk.config.escalations_dir.mkdir(parents=True)
    (web.desk.config.escalations_dir / "ask.md").symlink_to("/etc/passwd")
    assert web.get("/api/tasks/ask").json()["escalation_file"] is None


@pytest.mark.parametrize("ident", ["nobody", "01K3ABCDEF", "x" * 65, "a%20b", "%00", "a.b", "%F0%9F%92%A9", "'--"])
def test_an_unknown_task_is_404(web: Web, ident: str) -> None:
    for path in (f"/api/tasks/{ident}", f"/tasks/{ident}"):
        found = web.get(path)
        assert found.status_code == 404 and found.json()["error"]


def test_pages_of_tasks_hold_each_once(web: Web) -> None:
    seen: list[str] = []
    address: str | None = "/api/tasks?limit=3"
    while address:
        found = web.get(address).json()
        seen += [row["id"] for row in found["tasks"]]
        address = f"/api/tasks?limit=3&before={found['next']}" if found["next"] else None
    assert seen == ["under", "next", "careful", "follows", "unwanted", "ask", "replace", "parser"]


@pytest.mark.parametrize(
    ("query", "ids"),
    [("status=pending", ["next", "careful", "follows"]), ("status=blocked", ["follows"]), ("status=done", ["parser"]),
     ("role=qa", ["under", "follows", "ask"]), ("status=pending&role=code", ["next", "careful"]),
     ("text=PARSER", ["parser"]), ("text=the&status=escalated", []), ("text=somebody&role=qa", ["ask"]),
     ("status=all&limit=1", ["under"]), ("role=nobody", []), ("text=%27%20OR%201=1", [])],
)  # fmt: skip
def test_filters_of_tasks(web: Web, query: str, ids: list[str]) -> None:
    assert [row["id"] for row in web.get(f"/api/tasks?{query}").json()["tasks"]] == ids


@pytest.mark.parametrize(
    "query",
    ["status=nonsense", "before=x", "before=0", "before=-1", "before=1e9", "before=99999999999999999999999", "limit=0",
     "limit=201", "limit=%D9%A1", "text=a&text=b", "text=%00", f"text={'x' * 201}", "role=a%0d%0aSet-Cookie:x"],
)  # fmt: skip
def test_bad_parameters_are_400_with_their_field(web: Web, query: str) -> None:
    for path in ("/api/tasks", "/tasks"):
        found = web.get(f"{path}?{query}")
        assert found.status_code == 400 and found.json()["field"] in query


def test_the_audit_log_by_pages_and_filters(web: Web) -> None:
    every = web.get("/api/audit?limit=200").json()["audit"]
    assert every == list(reversed(web.project.audit()))
    first = web.get("/api/audit?limit=4").json()
    second = web.get(f"/api/audit?limit=200&before={first['next']}").json()
    assert first["audit"] + second["audit"] == every and second["next"] is None
    assert [row["task"] for row in web.get("/api/audit?action=escalation").json()["audit"]] == ["ask"]
    assert {row["task"] for row in web.get("/api/audit?task=unwanted").json()["audit"]} == {"unwanted"}
    assert [row["task"] for row in web.get("/api/audit?text=changed%20my").json()["audit"]] == ["unwanted"]


def test_a_row_that_was_tampered_with_is_shown_as_unreadable(web: Web) -> None:
    with closing(apsw.Connection(str(web.project.state / "ledger.db"))) as ledger:
        ledger.execute("DROP TRIGGER audit_is_never_updated")
        ledger.execute(
            "UPDATE audit SET body = CAST('{\"nothing\": 1}' AS BLOB) WHERE seq = (SELECT max(seq) FROM audit)"
        )
    for path in ("/api/audit", "/api/state"):
        assert "unreadable" in web.get(path).text
    for path in ("/", "/audit"):
        assert web.get(path).status_code == 200 and "unreadable" in web.get(path).text


def test_money_and_flow(web: Web) -> None:
    money = web.get("/api/money").json()
    assert [row["cost_usd"] for row in money["by_role"]] == ["0.25"] and money["by_hour"][-1]["cost_usd"] == "0.25"
    assert money["drift"] == [{"role": "code", "tasks": 1, "computed_usd": "0.25", "reported_usd": "0.24",
                               "difference_usd": "0.01"}]  # fmt: skip
    assert len(money["by_hour"]) == 24
    flow = web.get("/api/flow").json()
    assert sum(step["done"] for step in flow["throughput"]) == 1
    assert {(row["task"], row["state"]) for row in flow["attempts"]} == {
        ("parser", "succeeded"), ("replace", "failed"), ("under", "running")
    }  # fmt: skip
    assert flow["causes"] == [{"state": "failed", "cause": "it would not be replaced", "number": 1}]


def test_whatever_interrupted_the_night_stands_on_its_timeline(web: Web) -> None:
    ledger = Store(web.project.places.ledger, head_file=web.project.places.state / "audit.head")
    with closing(ledger) as store, store.transaction():
        for action in MARKS:
            store.audit.append(action, "producer", role="code", reason=f"because of {action}")
    marks = [mark for mark in web.get("/api/flow").json()["marks"] if mark["reason"].startswith("because of")]
    assert {mark["action"]: mark["kind"] for mark in marks} == MARKS
    page = web.get("/flow").text
    for action, kind in MARKS.items():
        assert f'class="mark m-{kind}"' in page and page.count(f"because of {action}") >= 2, (
            "in the picture and in the list"
        )


def test_without_a_supervisor_every_write_says_so_and_changes_nothing(web: Web) -> None:
    before = web.project.audit()
    bodies: dict[str, Any] = {
        "/api/tasks": {"agent_owner": "code", "title": "t", "description": "d"},
        "/api/kill_switch": {"armed": True, "reason": "why"},
        "/api/tasks/next/route": {"role": "qa"},
        "/api/tasks/next/edit": {"title": "t"},
        "/api/roles/code/scale": {"workers": 2},
    }
    for route in api.ROUTES:
        path = route.path.format(ident="next", role="code")
        if route.method == "POST" and path != "/api/links":
            found = web.post(path, bodies.get(path, {}))
            assert found.status_code == 409 and "no supervisor is running" in found.json()["error"], path
    assert web.project.audit() == before
    page = web.get("/").text
    assert "read-only" in page and "Nobody is at work." in page


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "agent_owner"), ({"agent_owner": "code", "title": "t"}, "description"),
     ({"agent_owner": "nobody", "title": "t", "description": "d"}, "agent_owner"),
     ({"agent_owner": "code", "title": "", "description": "d"}, "title"),
     ({"agent_owner": "code", "title": 7, "description": "d"}, "title"),
     ({"agent_owner": "code", "title": "t", "description": "d", "priority": 6}, "priority"),
     ({"agent_owner": "code", "title": "t", "description": "d", "priority": True}, "priority"),
     ({"agent_owner": "code", "title": "t", "description": "d", "priority": "1"}, "priority"),
     ({"agent_owner": "code", "title": "t", "description": "d", "payload": []}, "payload"),
     ({"agent_owner": "code", "title": "t", "description": "d", "dependencies": "a"}, "dependencies"),
     ({"agent_owner": "code", "title": "t", "description": "d", "dependencies": ["../x"]}, "dependencies"),
     ({"agent_owner": "code", "title": "t", "description": "d", "task_id": "mine"}, "task_id")],
)  # fmt: skip
def test_a_new_task_that_is_wrong_names_its_field(web: Web, body: dict[str, Any], field: str) -> None:
    found = web.post("/api/tasks", body)
    assert found.status_code == 400 and found.json()["field"] == field


def test_without_a_ledger_it_says_so(project: Project) -> None:
    web = Web(project)
    for path in ("/api/state", "/api/tasks", "/api/audit", "/api/money"):
        assert web.get(path).status_code == 409
    assert web.get("/", accept="text/html").status_code == 409
    assert "does not exist" in web.get("/", accept="text/html").text


def test_a_ledger_that_is_damaged_gone_or_held_is_a_409_in_words(web: Web) -> None:
    ledger = web.project.state / "ledger.db"
    with closing(apsw.Connection(str(ledger))) as whole:
        whole.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    good = ledger.read_bytes()
    for bad in (good[:4096] + b"\xff" * (len(good) - 4096), good[:100], b""):
        ledger.write_bytes(bad)
        unreadable(web)
    ledger.unlink()
    unreadable(web)
    ledger.write_bytes(good)
    holder = apsw.Connection(str(ledger))
    with closing(holder):
        holder.execute("BEGIN IMMEDIATE")
        assert web.get("/").status_code == 200, "who writes does not keep a reader waiting"
        holder.execute("ROLLBACK")


def unreadable(web: Web) -> None:
    for path in ("/api/state", "/api/tasks", "/api/tasks/parser", "/api/money", "/api/flow", "/api/audit"):
        found = web.get(path)
        assert found.status_code == 409 and "ledger.db" in found.json()["error"], f"{path}: {found.text}"
    for path in ("/", "/tasks", "/tasks/parser", "/flow", "/money", "/audit", "/reports"):
        page = web.get(path, accept="text/html")
        assert page.status_code == 409 and "ledger.db" in page.text and "Traceback" not in page.text, path


def test_what_needs_a_person_stands_on_the_first_page(filled: Project) -> None:
    web = Web(filled)
    page = web.get("/").text
    needs = page[page.index('id="needs"') : page.index('id="fleet"')]
    assert "Ask somebody" in needs and "Careful" in needs and "waits for your approval" in needs
    assert "<button" not in needs, "nothing can be done without a supervisor"
    assert "2 waiting, 1 blocked, 2 tasks need you" in page


def test_what_an_agent_does_is_known_without_having_heard_it(web: Web) -> None:
    """A page that is opened while a tool runs: no event tells of it any more, the log does."""
    attempt = web.get("/api/tasks/under").json()["task"]["attempts"][0]["id"]
    ledger = Store(web.project.places.ledger, head_file=web.project.places.state / "audit.head")
    with closing(ledger) as store, store.transaction():
        for command in ("echo early", "sleep 600"):
            store.audit.append(
                "tool_call", "qa", task="under", attempt=attempt, tool="Bash", input={"command": command}
            )
    worker = {"id": "W", "state": "busy", "task": "under", "attempt": attempt, "activity": "Bash"}
    status = {"roles": {"qa": {"workers": [worker, {**worker, "task": "parser", "attempt": "other", "activity": ""}]}}}
    with web.desk.reader() as reader:
        assert model.doing(web.desk, reader, status) == {attempt: "Bash sleep 600", "other": "begins"}
        web.desk.doing[attempt] = "says: done"
        assert model.doing(web.desk, reader, status)[attempt] == "says: done", "what was heard is newer"


def test_the_document_names_every_route_with_its_errors(web: Web) -> None:
    found = web.get("/api/openapi.json").json()
    assert found == document(api.ROUTES)
    for route in api.ROUTES:
        operation = found["paths"][route.path][route.method.lower()]
        assert {int(status) for status in operation["responses"]} >= {route.status, 400, 401, 403, 404, 409}
        named = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert named == set(re.findall(r"{(\w+)}", route.path))
        if route.body:
            assert {"413", "415"} <= operation["responses"].keys()
            schema = found["components"]["schemas"][route.body.__name__]
            jsonschema.Draft202012Validator.check_schema(schema)
            assert schema["additionalProperties"] is False


def test_what_is_asked_is_done(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise().ready()
    web = Web(filled)

    def done(path: str, body: Any, status: int = 200) -> Any:
        found = web.post(path, body)
        assert found.status_code == status, f"{path}: {found.text}"
        return found.json()

    slow = done("/api/tasks", {"agent_owner": "code", "title": "Slow", "description": "d",
                               "payload": {"sleep_seconds": 60}, "priority": 0}, 201)["id"]  # fmt: skip
    supervisor.until_status(slow, "in_progress")
    assert web.get("/api/state").json()["producer"]["pid"] == supervisor.pid
    assert web.post(f"/api/tasks/{slow}/edit", {"title": "x"}).status_code == 400, "it runs"
    done(f"/api/tasks/{slow}/kill", {"reason": "enough"})
    assert filled.task(slow)["status"] == "killed"

    done("/api/kill_switch", {"armed": True, "reason": "tests"})
    assert web.get("/api/state").json()["kill_switch"]["armed"] is True
    assert "Halted." in web.get("/").text
    done("/api/tasks/ask/edit", {"title": "Ask <b>somebody</b> else", "priority": 2})
    done("/api/tasks/ask/route", {"role": "code"})
    done("/api/tasks/careful/approve", {})
    done("/api/tasks/replace/requeue", {"reason": "once more"})
    task = filled.task("ask")
    assert (task["status"], task["agent_owner"], task["priority"]) == ("pending", "code", 2)
    assert web.post("/api/tasks/nobody/kill", {}).status_code == 404
    assert web.post("/api/tasks/parser/kill", {}).status_code == 409, "it is done"
    assert web.post("/api/tasks/ask/route", {"role": "nobody"}).json()["field"] == "role"
    assert web.post("/api/kill_switch", {"armed": True, "reason": "  "}).json()["field"] == "reason"
    wrong = {"agent_owner": "code", "title": "t", "description": "d", "dependencies": ["nobody"]}
    assert web.post("/api/tasks", wrong).status_code in (400, 404)
    long = {"agent_owner": "code", "title": "t" * 300, "description": "d"}
    assert web.post("/api/tasks", long).json()["field"] == "title"
    assert done("/api/roles/qa/scale", {"workers": 3}) == {"role": "qa", "workers": 3}
    assert web.post("/api/roles/nobody/scale", {"workers": 3}).status_code == 404
    done("/api/roles/qa/reset", {})
    report = done("/api/morning_report", {})
    assert report["path"].endswith(".md")
    assert "Shipped overnight" in web.get("/reports").text
    assert web.post("/api/morning_report", {"date": "2026-02-31"}).json()["field"] == "date"
    done("/api/kill_switch", {"armed": False})
    supervisor.until_status("careful", "done")
    actors = {row["actor"] for row in filled.actions("task_routed")}
    assert all("(dashboard)" in actor for actor in actors), actors


def test_a_hung_supervisor_is_shown_as_silent(filled: Project, supervise: Callable[..., Supervisor]) -> None:
    import os
    import signal

    supervisor = supervise().ready()
    web = Web(filled)
    os.kill(supervisor.pid, signal.SIGSTOP)
    try:
        page = web.get("/")
        assert page.status_code == 200 and "The supervisor is silent." in page.text
    finally:
        os.kill(supervisor.pid, signal.SIGCONT)


def test_another_browser_gets_a_link(web: Web) -> None:
    path = web.post("/api/links", {}).json()["path"]
    assert web.ask("GET", path, headers={"cookie": None}).status_code == 200
