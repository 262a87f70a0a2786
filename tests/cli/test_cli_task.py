from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_rig import Project

from producer.ids import is_id

ADD = ("task", "add", "--agent", "code", "--title", "Parser", "--description", "Write it")


def test_add_prints_the_id_alone(project: Project) -> None:
    ident = project.out(*ADD, "--priority", "1", "--payload", '{"a": [1]}', "--sprint", "s1")
    assert is_id(ident)
    with project.reader() as reader:
        task = reader.task(ident)
    assert (task["agent_owner"], task["title"], task["priority"], task["sprint_id"]) == ("code", "Parser", 1, "s1")
    assert task["payload"] == {"a": [1]}


def test_a_description_may_come_from_stdin(project: Project) -> None:
    words = ("task", "add", "--agent", "code", "--title", "t", "--description", "-")
    ident = project.out(*words, stdin="line 1\nline 2\n")
    with project.reader() as reader:
        assert reader.task(ident)["description"] == "line 1\nline 2\n"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--agent", "nobody"], "nobody"),
        (["--payload", "{"], "--payload"),
        (["--payload", "[1]"], "--payload"),
        (["--payload", '{"a": NaN}'], "--payload"),
        (["--payload", '{"a": 1, "a": 2}'], "--payload"),
        (["--priority", "6"], "priority"),
        (["--priority", "-1"], "priority"),
        (["--priority", "high"], "high"),
        (["--title", " "], "title"),
        (["--title", "x" * 300], "title"),
        (["--description", ""], "description"),
        (["--dependencies", "01K3NOSUCHTASK"], "01K3NOSUCHTASK"),
        (["--dependencies", "../../etc"], "../../etc"),
        (["--parent", "01K3NOSUCHTASK"], "01K3NOSUCHTASK"),
    ],
)
def test_a_task_that_cannot_be_is_refused_and_nothing_is_filed(project: Project, more: list[str], named: str) -> None:
    project.add("the only one")
    assert named in project.refused(*ADD, *more)
    with project.reader() as reader:
        assert [task["title"] for task in reader.list()] == ["the only one"]


def test_list_prints_the_line_that_scripts_read(project: Project) -> None:
    late, soon = project.add("Later", priority=4), project.add("Soon", role="qa", priority=0)
    assert project.out("task", "list") == f"{soon}  p0  [qa]  Soon\n{late}  p4  [code]  Later"


def test_list_filters(project: Project) -> None:
    first = project.add("Write the parser", sprint_id="s1")
    second = project.add("Check it", role="qa", dependencies=[first])
    for words, expected in (
        ((), [first, second]),
        (("--status", "blocked"), [second]),
        (("--status", "done"), []),
        (("--agent", "qa"), [second]),
        (("--role", "qa"), [second]),
        (("--sprint", "s1"), [first]),
        (("--text", "PARSER"), [first]),
        (("--status", "all", "--limit", "1"), [first]),
    ):
        rows: list[dict[str, Any]] = json.loads(project.out("task", "list", "--json", *words))
        assert [row["id"] for row in rows] == expected, words
    assert project.run("task", "list", "--status", "done").stdout == ""


def test_a_role_that_does_not_exist_is_no_empty_list(project: Project) -> None:
    project.add("one", role="code")
    assert "no role 'cod': use one of code" in project.refused("task", "list", "--role", "cod")
    assert project.out("task", "list", "--role", "qa") == "", "one without tasks is"


def test_show_has_the_promised_shape(project: Project) -> None:
    needed = project.add("First")
    ident = project.add("Second", dependencies=[needed], parent_task_id=needed)
    child = project.add("Third", parent_task_id=ident)
    with project.client() as ledger:
        ledger.claim_task(needed, "code")
        ledger.complete_task(needed, cost_usd=0.25)
        ledger.claim_task(ident, "code")
        ledger.record_decision(task_id=ident, agent_owner="code", kind="k", decision_text="so", rationale="why")
    shown = json.loads(project.out("task", "show", ident, "--json"))
    assert shown["status"] == "in_progress" and shown["dependencies"] == [needed]
    assert {"id", "worker", "state", "session_id", "started_at", "finished_at", "cost_usd", "error"} <= set(
        shown["attempts"][0]
    )
    assert [row["id"] for row in shown["children"]] == [child]
    assert json.loads(project.out("task", "show", needed, "--json"))["cost_usd"] == "0.25"
    text = project.out("task", "show", ident)
    assert "Second" in text and "in_progress" in text and f"filed {child}" in text and "decided (k): so" in text


def test_a_blocked_task_says_by_what(project: Project) -> None:
    needed = project.add("First")
    ident = project.add("Second", dependencies=[needed])
    project.run("task", "kill", needed, "--reason", "unwanted")
    shown = json.loads(project.out("task", "show", ident, "--json"))
    assert shown["blocked_by"][0]["id"] == needed and "killed" in shown["blocked_by"][0]["reason"]
    assert re.search(rf"waits for {needed}  killed .*was killed", project.out("task", "show", ident))


def test_an_id_may_be_cut_to_what_is_unique(project: Project) -> None:
    ident = project.add()
    assert json.loads(project.out("task", "show", ident[:15], "--json"))["id"] == ident
    with project.client() as ledger:
        draft = {"agent_owner": "code", "title": "x", "description": "d"}
        ledger.insert_tasks([{**draft, "task_id": "twin-1"}, {**draft, "task_id": "twin-2"}])
    assert "several" in project.refused("task", "show", "twin")
    for text in ("twin-3", "*", "?", "[0-9]*", "", "' OR 1=1", "../x"):
        assert "no such task" in project.refused("task", "show", text)


def test_tree_shows_children_below_their_parents(project: Project) -> None:
    root = project.add("Root")
    child = project.add("Child", parent_task_id=root)
    grandchild = project.add("Grandchild", parent_task_id=child)
    other = project.add("Other child", parent_task_id=root)
    lines = project.out("task", "tree", grandchild).splitlines()
    assert [line.split()[0] for line in lines] == [root, child, grandchild, other]
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 2]
    assert lines[2].endswith("<")
    rows = json.loads(project.out("task", "tree", child, "--json"))
    assert {row["id"]: row["depth"] for row in rows} == {root: 0, child: 1, grandchild: 2, other: 1}


def test_an_escalation_is_resolved_with_commands_alone(project: Project) -> None:
    ident = project.add()
    with project.client() as ledger:
        ledger.escalate_task(ident, "it is unclear")
    assert ident in project.out("task", "list", "--status", "escalated")
    assert project.out("task", "edit", ident, "--description", "clearer", "--priority", "0") == f"{ident} edited"
    project.run("task", "edit", ident, "--payload", '{"k": 1}', "--sprint", "s2", "--title", "New")
    assert json.loads(project.out("task", "requeue", ident[:18], "--reason", "now clear", "--json")) == [
        {"id": ident, "status": "pending"}
    ]
    with project.reader() as reader:
        task = reader.task(ident)
        rows = reader.audit_tail(10, ident)
    assert (task["description"], task["priority"], task["payload"]) == ("clearer", 0, {"k": 1})
    assert (task["title"], task["sprint_id"]) == ("New", "s2")
    requeued = next(row for row in rows if row["action"] == "task_requeued")
    assert requeued["actor"].startswith("operator:") and requeued["detail"]["reason"] == "now clear"


def test_route_hands_an_ended_task_to_another_role(project: Project) -> None:
    ident = project.add()
    project.run("task", "kill", ident)
    project.run("task", "route", ident, "qa")
    with project.reader() as reader:
        task = reader.task(ident)
    assert (task["agent_owner"], task["status"]) == ("qa", "pending")
    assert "nobody" in project.refused("task", "route", ident, "nobody")


def test_approve_lets_a_task_run_once(project: Project) -> None:
    ident = project.out(*ADD, "--requires-approval")
    assert "task approve" in project.out("task", "show", ident)
    project.run("task", "approve", ident)
    assert "does not wait" in project.refused("task", "approve", ident)


def test_a_change_that_is_not_possible_is_refused(project: Project) -> None:
    ident = project.add()
    assert "nothing to change" in project.refused("task", "edit", ident)
    assert "priority" in project.refused("task", "edit", ident, "--priority", "7")
    assert "--payload" in project.refused("task", "edit", ident, "--payload", "7")
    assert "requeued" in project.refused("task", "requeue", ident, code=1)


def test_dependencies_that_close_a_cycle_are_refused(project: Project) -> None:
    first = project.add("First")
    second = project.add("Second", dependencies=[first])
    assert "cycle" in project.refused("task", "edit", first, "--dependencies", second)
    assert "itself" in project.refused("task", "edit", first, "--dependencies", first)
    project.run("task", "edit", second, "--dependencies", "")
    with project.reader() as reader:
        assert reader.task(second)["dependencies"] == []


def test_all_ids_are_looked_up_before_the_first_change(project: Project) -> None:
    ident = project.add()
    project.refused("task", "kill", ident, "01K3NOSUCHTASK")
    with project.reader() as reader:
        assert reader.task(ident)["status"] == "pending"


def test_import_files_what_is_new(project: Project, tmp_path: Path) -> None:
    seed = tmp_path / "seed.json"
    tasks = [
        {"id": "seed-1", "agent_owner": "code", "title": "One", "description": "d", "status": "pending"},
        {"id": "seed-2", "agent_owner": "qa", "title": "Two", "description": "d", "dependencies": ["seed-1"]},
    ]
    seed.write_text(json.dumps(tasks))
    assert project.out("task", "import", str(seed)) == "2 tasks filed"
    assert json.loads(project.out("task", "import", str(seed), "--json")) == {"filed": 0}


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", '[{"agent_owner": "nobody", "title": "t", "description": "d"}]',
     '[{"agent_owner": "code", "title": "t", "description": "d", "colour": "red"}]',
     '[{"agent_owner": "code", "title": "t", "description": "d"}, {"agent_owner": "code", "title": ""}]',
     '[{"agent_owner": "code", "title": "t", "description": "d", "status": "done"}]'],
)  # fmt: skip
def test_a_bad_seed_file_files_nothing(project: Project, tmp_path: Path, text: str) -> None:
    project.add("the only one")
    seed = tmp_path / "seed.json"
    seed.write_text(text)
    project.refused("task", "import", str(seed))
    with project.reader() as reader:
        assert len(reader.list()) == 1
