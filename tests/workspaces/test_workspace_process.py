"""Worktrees under a living supervisor, without a model: what is kept, what is removed, what waits for the brake."""

from __future__ import annotations

import os
import signal
from typing import Any

from driving import Project, until
from workspace_rig import git, merges

INVOKER = '''
import os
from pathlib import Path
from types import SimpleNamespace

class Writer:
    """Writes what the title says into a file of the task's worktree."""
    def invoke(self, agent_role, prompt, **more):
        task = prompt.split("Task: ")[1].split("\\n")[0]
        title = prompt.split("Title: ")[1].split("\\n")[0]
        here = Path(os.environ["WORKTREES"]) / task
        (here / title).write_text(title)
        if title == "spoil":
            (here / ".git").unlink()
        if title == "crash":
            os._exit(3)
        return SimpleNamespace(text="written", tool_calls=[], cost_usd=0)
'''


def begin(project: Project, **role: Any) -> None:
    project.configure({"code": {"workspace": "worktree", "retry": {"max": 1}, **role}})
    (project.root / ".gitignore").write_text("agent-state/\n__pycache__/\n")
    (project.root / "writer.py").write_text(INVOKER)
    git(project.root, "init", "-q", "-b", "main")
    git(project.root, "add", "-A")
    git(project.root, "commit", "-q", "-m", "Begin")
    project.env["PYTHONPATH"] += os.pathsep + str(project.root)


def start(project: Project, supervise, *options: str):
    prelude = f"import os; os.environ['WORKTREES'] = {str(project.places.worktrees)!r}\n" + (
        "from producer.supervisor import workers\nworkers.KEPT_VARIABLES += ('WORKTREES',)"
    )
    return supervise(*options, invoker="writer:Writer", prelude=prelude)


def test_an_armed_switch_holds_a_merge_back_and_resume_lets_it_go_on(project: Project, supervise) -> None:
    begin(project)
    (project.root / "a").write_text("in the way")
    task = project.file_task("a")
    supervisor = start(project, supervise).ready()
    supervisor.until_action("workspace_stuck")
    assert project.producerctl("kill", "look at it").returncode == 0
    supervisor.until_action("kill_switch_observed")
    (project.root / "a").unlink()
    held = "SELECT not_before FROM outbox WHERE kind = 'workspace'"
    first = project.rows(held)
    supervisor.until(lambda: project.rows(held) != first, what="another look at the order")
    assert merges(project.root) == []
    assert project.producerctl("resume").returncode == 0
    supervisor.until_action("workspace_merged")
    assert (project.root / "a").read_text() == "a" and project.task(task)["status"] == "done"


def test_a_dependent_does_not_begin_before_the_branch_is_merged(project: Project, supervise) -> None:
    begin(project)
    (project.root / "a").write_text("in the way")
    first = project.file_task("a")
    second = project.file_task("b", dependencies=[first])
    supervisor = start(project, supervise).ready()
    supervisor.until_action("workspace_stuck")
    supervisor.until(lambda: project.task(second)["not_before"], what="the dependent put back")
    assert project.task(second)["attempts"] == []
    (project.root / "a").unlink()
    supervisor.until_status(second, "done")
    order = [row["action"] for row in project.audit() if row["action"] in ("workspace_merged", "dispatch")]
    assert order[:3] == ["dispatch", "workspace_merged", "dispatch"]


def test_uncommitted_work_of_a_task_that_was_killed_is_kept_and_told(project: Project, supervise) -> None:
    begin(project, workers=1)
    task = project.file_task("crash")
    supervisor = start(project, supervise).ready()
    supervisor.until_status(task, "escalated")
    supervisor.ask("kill_task", task_id=task, reason="not wanted")
    assert supervisor.ask("stop") == {"leaving": "stop"}
    supervisor.exits()
    again = start(project, supervise)
    again.until_action("workspace_kept")
    assert (project.places.worktrees / task / "crash").read_text() == "crash"
    until(lambda: "a worktree was kept" in project.attention(), what="the notice")
    told = project.producerctl("doctor")
    assert f"{task}: {project.places.worktrees / task} holds uncommitted work" in " ".join(told.stdout.split()), (
        told.stdout
    )


def test_a_worktree_that_an_agent_spoilt_is_kept_and_holds_up_nobody(project: Project, supervise) -> None:
    begin(project, workers=1)
    first = project.file_task("spoil")
    second = project.file_task("after", dependencies=[first])
    supervisor = start(project, supervise).ready()
    supervisor.until_status(second, "done")
    assert len(project.actions("workspace_merged")) >= 1 and (project.root / "spoil").exists()
    assert [row["task"] for row in project.actions("workspace_kept")] == [first]
    assert (project.places.worktrees / first).exists()


def test_a_branch_with_a_configuration_of_the_agents_own_waits_for_a_person(project: Project, supervise) -> None:
    begin(project, workers=1)
    before = (project.root / "producer.yaml").read_text()
    first = project.file_task("producer.yaml")
    second = project.file_task("after", dependencies=[first])
    supervisor = start(project, supervise).ready()
    supervisor.until_status(second, "done")
    [told] = project.actions("workspace_needs_you")
    assert told["task"] == first and "it changes producer.yaml, which only you may" in told["detail"]["reason"]
    assert (project.root / "producer.yaml").read_text() == before
    assert git(project.root, "show", f"producer/{first}:producer.yaml") == "producer.yaml", "to be looked at"
    supervisor.until(lambda: (project.root / "after").exists(), what="the honest branch merged")
    assert not (project.places.worktrees / first).exists()


def test_ten_kills_in_a_row_lose_no_branch_and_merge_none_twice(project: Project, supervise) -> None:
    begin(project, workers=2)
    names = [f"file-{number}" for number in range(8)]
    for name in names:
        project.file_task(name)
    for _ in range(10):
        supervisor = start(project, supervise)
        before = len(project.actions("workspace_merged"))
        supervisor.until(
            lambda before=before: (
                len(project.actions("workspace_merged")) > before or project.counts()["done"] == len(names)
            ),
            what="something merged",
        )
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.process.wait()
    last = start(project, supervise)
    last.until(lambda: len(project.actions("workspace_merged")) == len(names), what="all of them merged")
    assert [(project.root / name).read_text() for name in names] == names
    assert len(merges(project.root)) == len(names) and git(project.root, "status", "--porcelain") == ""
    last.until(lambda: not [p for p in project.places.worktrees.iterdir() if p.is_dir()], what="no worktree left")


def test_a_reload_that_asks_for_what_cannot_be_is_refused(project: Project, supervise) -> None:
    begin(project)
    supervisor = start(project, supervise).ready()
    text = project.file.read_text()
    project.configure({"code": {"workspace": "worktree", "merge_into": "nowhere"}})
    ran = project.producerctl("reload")
    assert ran.returncode == 2 and "merge_into: nowhere is not allowed: it must be a branch of" in ran.stderr
    project.file.write_text(text)
    assert supervisor.status()["roles"]["code"]["state"] == "ok"
