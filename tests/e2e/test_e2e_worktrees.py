"""Tasks in worktrees of their own, with the real CLI, real tools and a real git; only the model is scripted."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import Project, until
from rehearsing import LONG, rehearse

sys.path.insert(0, str(Path(__file__).parents[1] / "workspaces"))
from workspace_rig import git, merges

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROLE: dict[str, Any] = {
    "workspace": "worktree",
    "allowed_tools": ["Read", "Write", "Edit"],
    "workers": 4,
    "retry": {"base_seconds": 0.05, "cap_seconds": 0.2},
}
IGNORED = "agent-state/\n"


def begin(project: Project, roles: dict[str, Any], **more: Any) -> None:
    """A project in a repository of its own, with everything committed."""
    project.configure(roles, **more)
    (project.root / ".gitignore").write_text(IGNORED)
    (project.room / "shared.txt").write_text("one\ntwo\nthree\n")
    git(project.root, "init", "-q", "-b", "main")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "Begin")


def write(name: str, content: str, **turn: Any) -> dict[str, Any]:
    """A turn in which the model writes a file of its working directory."""
    return {
        "text": "Writing.",
        "tools": [{"name": "Write", "input": {"file_path": "{cwd}/room/" + name, "content": content}}],
    } | turn


def read(name: str) -> dict[str, Any]:
    return {"text": "Reading.", "tools": [{"name": "Read", "input": {"file_path": "{cwd}/room/" + name}}]}


def trailer(project: Project, commit: str, name: str) -> str:
    return git(project.root, "log", "-1", f"--format=%(trailers:key={name},valueonly)", commit)


def test_four_at_once_four_merged_branches_no_lost_change_and_one_conflict_solved(project: Project, supervise) -> None:
    begin(project, {"code": ROLE})
    scenarios = {
        f"Part {n}": [write(f"part-{n}.txt", f"part {n}\n"), read("shared.txt"),
                      write("shared.txt", f"one\n{side}\nthree\n" if side else "one\ntwo\nthree\n")]
        for n, side in enumerate(["", "left", "", "right"])
    }  # fmt: skip
    scenarios["Resolve the conflict of *"] = [read("shared.txt"), write("shared.txt", "one\nleft\nright\nthree\n")]
    tasks = [project.file_task(f"Part {n}") for n in range(4)]
    after = project.file_task("Use it all", dependencies=tasks)
    scenarios["Use it all"] = [
        {
            "text": "See.",
            "tools": [{"name": "Read", "input": {"file_path": f"{{cwd}}/room/part-{n}.txt"}} for n in range(4)],
        }
    ]
    (project.root / "note-of-the-operator").write_text("not committed")
    supervisor = rehearse(supervise, project, {"code": scenarios}, "--once")
    assert supervisor.exits(LONG) == 0, supervisor.log()

    root, room = project.root, project.room
    assert [(room / f"part-{n}.txt").read_text() for n in range(4)] == [f"part {n}\n" for n in range(4)]
    assert (room / "shared.txt").read_text() == "one\nleft\nright\nthree\n"
    assert git(root, "status", "--porcelain") == "?? note-of-the-operator", (
        "the checkout follows, the operator's file stays"
    )
    assert len(merges(root)) >= 4 and git(root, "branch", "--format=%(refname:short)") == "main"
    assert len(git(root, "worktree", "list").splitlines()) == 1

    [conflict] = project.actions("workspace_conflict")
    assert conflict["task"] in (tasks[1], tasks[3]) and conflict["detail"]["files"] == ["room/shared.txt"]
    merged = {row["task"]: row["detail"]["commit"] for row in project.actions("workspace_merged")}
    solved = conflict["detail"]["follow_up"]
    assert {*tasks, solved} - {conflict["task"]} <= merged.keys()
    for task in (tasks[0], solved):
        attempt = project.task(task)["attempts"][-1]
        told = [trailer(project, merged[task], f"Producer-{name}") for name in ("Task", "Attempt", "Role", "Cost-USD")]
        assert told == [task, attempt["id"], "code", project.task(task)["cost_usd"]]
        assert trailer(project, f"{merged[task]}^2", "Producer-Task") == task
    assert project.task(solved)["parent_task_id"] == conflict["task"]
    subjects = {f"Merge Part {number}" for number in range(4)}
    assert subjects <= set(merges(root)), "a solved conflict is merged under the name of the task that it was of"

    reads = [row for row in project.actions("tool_failed") if row["task"] == after]
    assert reads == [], "who depends on them begins when all is merged, the solved conflict too"
    assert solved in project.task(after)["dependencies"]
    project.books_balance()


def test_a_supervisor_that_dies_between_commit_and_merge_finishes_it_once(project: Project, supervise) -> None:
    begin(project, {"code": {**ROLE, "workers": 1}})
    task = project.file_task("Part 0")
    script = {"code": {"Part *": [write("part-0.txt", "part 0\n")]}}
    # A file in the way holds the merge back: the commit is made, the branch is not merged.
    (project.room / "part-0.txt").write_text("the operator's own")
    first = rehearse(supervise, project, script)
    stuck = first.until_action("workspace_stuck", LONG)
    assert "room/part-0.txt" in stuck["detail"]["error"] or "would be overwritten" in stuck["detail"]["error"]
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    assert (project.room / "part-0.txt").read_text() == "the operator's own" and merges(project.root) == []
    assert git(project.root, "show", f"producer/{task}:room/part-0.txt") == "part 0"

    (project.room / "part-0.txt").unlink()
    second = rehearse(supervise, project, script)
    second.until_action("workspace_merged", LONG)
    assert (project.room / "part-0.txt").read_text() == "part 0\n"
    assert len(merges(project.root)) == 1 and len(project.actions("workspace_merged")) == 1
    until(lambda: "a branch waits to be merged" in project.attention(), what="the notice of the first one")
    assert until(lambda: not (project.places.worktrees / task).exists())


def test_a_reviewer_gives_a_branch_back_and_then_has_it_merged(project: Project, supervise) -> None:
    reviewer = {"allowed_tools": ["Read"]}
    begin(project, {"code": {**ROLE, "workers": 1, "on_done": "review", "reviewer": "qa"}, "qa": reviewer})
    task = project.file_task("Part 0")

    def decide(text: str, why: str) -> dict[str, Any]:
        given = {"kind": "review", "decision_text": text, "rationale": why}
        return {"text": "So.", "tools": [{"name": "mcp__ledger__record_decision", "input": given}]}

    script = {
        "code": {
            "Part 0": [write("part-0.txt", "first\n")],
            "Revise *": [read("part-0.txt"), write("part-0.txt", "better\n")],
        },
        "qa": {
            "Review * (2)": [read("part-0.txt"), decide("approved", "it is better")],
            "Review *": [read("part-0.txt"), decide("reject", "it says first")],
        },
    }
    supervisor = rehearse(supervise, project, script, "--once")
    assert supervisor.exits(LONG) == 0, supervisor.log()
    assert (project.room / "part-0.txt").read_text() == "better\n" and len(merges(project.root)) == 1
    titles = [row[0] for row in project.rows("SELECT title FROM tasks ORDER BY seq")]
    assert titles == ["Part 0", "Review Part 0", "Revise Part 0", "Review Part 0 (2)"]
    [revision] = project.actions("workspace_revision")
    assert "it says first" in project.task(revision["detail"]["follow_up"])["description"]
    assert project.task(task)["children"]


def test_a_resumed_attempt_works_in_the_same_directory(project: Project, supervise) -> None:
    begin(project, {"code": {**ROLE, "workers": 1, "on_done": "branch"}})
    failing = {"status": 500, "message": "a passing trouble", "times": 1}
    project.configure({"code": {**ROLE, "workers": 1, "on_done": "branch", "env": {"CLAUDE_CODE_MAX_RETRIES": "0"}}})
    script = {"code": {"*": [write("one.txt", "1\n"), write("two.txt", "2\n", error=failing)]}}
    task = project.file_task("In two goes")
    supervisor = rehearse(supervise, project, script, "--once")
    assert supervisor.exits(LONG) == 0, supervisor.log()
    assert [(a["state"], a["resumed"]) for a in project.task(task)["attempts"]] == [
        ("failed", False),
        ("succeeded", True),
    ]
    branch = f"producer/{task}"
    assert [git(project.root, "show", f"{branch}:room/{name}") for name in ("one.txt", "two.txt")] == ["1", "2"]
    assert not (project.room / "one.txt").exists() and not (project.places.worktrees / task).exists()


def test_a_project_without_a_repository_is_refused_in_one_line(project: Project) -> None:
    project.configure({"code": {"workspace": "worktree"}})
    ran = project.producerctl("run", "--once", "--invoker", "echo")
    [refusal] = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    lines = project.file.read_text().splitlines()
    [number] = [number for number, line in enumerate(lines, 1) if line.strip().startswith("workspace:")]
    assert ran.returncode == 2 and refusal == (
        f"error: {project.file}:{number}: budget.agents.code.workspace: worktree is not possible: "
        f"{project.root} is not in a git repository: run `git init` and commit"
    )
    assert not (project.state / "ledger.db").exists()
