"""What the README of 0.3.x promises under "Why this exists", "Mental model" and "Limitations"."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from driving import Project
from rehearsing import LONG, ledger, with_shell, write_script

from producer import LedgerClient, TaskClaimRace

COLUMNS = {
    "tasks": "id, agent_owner, status, title, description, parent_task_id, dependencies, payload, output_refs, priority,"
    " sprint_id, created_at, started_at, finished_at, retry_count, escalation_reason, cost_usd, actual_cost_usd",
    "decisions": "id, task_id, agent_owner, kind, decision_text, rationale, artifact",
    "asset_registry": "id, asset_type, path, agent_id, cost_usd, prompt, seed, api, model, sha256, disposition",
    "budget": "agent_owner, date, spent_usd, soft_cap_usd, hard_cap_usd",
    "audit_log": "id, agent_owner, task_id, action, detail, cost_usd, timestamp, prev_hash, row_hash",
    "prompts": "hash",
}


def test_why_this_exists_the_bus_is_raced_on_by_eight_agents_and_nothing_is_done_twice(project: Project) -> None:
    project.configure({"code": None})
    with project.client() as client:
        tasks = client.insert_tasks({"agent_owner": "code", "title": f"t{n}", "description": "d"} for n in range(40))
    won, errors = [], []

    def race() -> None:
        with closing(LedgerClient(project.state / "ledger.db")) as client:
            for task in tasks:
                try:
                    won.append(client.claim_task(task, "code").id)
                except TaskClaimRace:
                    errors.append(task)

    agents = [threading.Thread(target=race) for _ in range(8)]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join(60)
    assert sorted(won) == sorted(tasks) and len(errors) == 7 * len(tasks)


def test_why_this_exists_the_budget_refuses_a_call_before_it_is_made(project: Project, supervise) -> None:
    project.configure({"code": {"daily_cap_usd": 0.05, "dispatch_reservation_usd": 0.02}})
    for number in range(5):
        project.file_task(f"t{number}", payload={"cost_usd": 0.02})
    supervisor = supervise().ready()
    supervisor.until(lambda: supervisor.status()["roles"]["code"]["state"] == "capped", what="the cap")
    assert project.counts() | {"done": 2, "pending": 3} == project.counts()
    assert supervisor.status()["budget"]["roles"]["code"]["spent_usd"] == "0.04"


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_mental_model_an_agent_files_what_follows_from_its_task(project: Project, supervise) -> None:
    project.configure({"code": with_shell(), "qa": with_shell()})
    follows = {"agent_owner": "qa", "title": "Test the feature", "description": "It greets."}
    turns = {"code": {"*": [ledger("insert_task", follows), {"text": "Filed."}]}, "qa": {"*": [{"text": "It does."}]}}
    first = project.file_task("Write the feature")
    script = write_script(project, turns)
    assert supervise("--once", "--rehearse", str(script), invoker=None).exits(LONG) == 0
    [second] = project.rows("SELECT id, agent_owner, status FROM tasks WHERE title = 'Test the feature'")
    assert second[1:] == ("qa", "done")
    tree = project.producerctl("task", "tree", first).stdout
    assert second[0] in tree, "the lineage is known"


def test_limitations_the_ledger_is_read_with_sqlite3(project: Project) -> None:
    project.configure({"code": None})
    task = project.file_task("for every reader", payload={"a": 1})
    with closing(sqlite3.connect(project.state / "ledger.db")) as db:
        for table, columns in COLUMNS.items():
            db.execute(f"SELECT {columns} FROM {table}").fetchall()
        assert db.execute("SELECT id, status, payload FROM tasks").fetchall() == [(task, "pending", '{"a":1}')]


def test_limitations_one_producer_serves_a_project(project: Project, supervise) -> None:
    project.configure({"code": None})
    supervise().ready()
    words = [sys.executable, "-P", "-m", "producer", "--config", str(project.file), "run", "--invoker", "echo"]
    second = subprocess.run(words, env=project.env, cwd=project.root, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "already served" in second.stderr.splitlines()[-1]
