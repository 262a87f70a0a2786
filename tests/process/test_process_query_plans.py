"""No query of the supervisor or of the command line reads a table that grows from end to end.

The statements are those that are really executed: every connection of a supervisor and of every command below is
listened to, so that a new query is looked at by itself. The dashboard's have tests/web/test_web_plans.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
from driving import Project

EARS = """
import apsw, json, os
heard = set()
file = open(os.environ["HEARD"], "a", buffering=1)
def hear(cursor, sql, values):
    if sql not in heard:
        heard.add(sql)
        file.write(json.dumps([sql, len(values or ())]) + "\\n")
    return True
def listen(connection):
    connection.exec_trace = hear
apsw.connection_hooks.append(listen)
"""
TABLES = "tasks|audit|attempts|meter|audit_0_3"
PARTIAL = ("attempts_running", "tasks_due")  # indexes of what runs and of what waits for a time, whatever is finished
WHOLE = {
    "SELECT status, count(*) FROM tasks GROUP BY status": "exact counts, from a covering index: for who looks at them, and once an idle spell",
    "SELECT id FROM attempts WHERE role != ? ORDER BY id DESC LIMIT 1": "newest first; ends at the first of another role",
    "SELECT count(*) FROM meter WHERE exact = 0 AND at BETWEEN ? AND ?": "for a report, when one is written",
}
COMMANDS = (
    ("status",), ("status", "--json"), ("budget",), ("budget", "--json"), ("schedule",), ("logs",), ("audit", "head"),
    ("task", "list"), ("task", "list", "--json"), ("task", "list", "--status", "done"), ("task", "list", "--role", "code"),
    ("task", "show", "first"), ("task", "tree", "first"), ("task", "approve", "careful"), ("task", "kill", "careful"),
    ("task", "edit", "next", "--priority", "1"), ("task", "route", "next", "qa"), ("task", "requeue", "gone"),
    ("doctor",),
)  # fmt: skip


def plan(ledger: Path, sql: str, values: int) -> list[str]:
    connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    try:
        return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * values)]
    finally:
        connection.close()


def scans(sql: str, steps: list[str]) -> list[str]:
    """The steps that read all of a table that grows, by its name or by the one that it has in the statement."""
    names = set(TABLES.split("|"))
    names |= set(re.findall(rf"\b(?:{TABLES})\s+AS\s+(\w+)", sql))
    found = [step for step in steps if re.match(rf"SCAN (?:{'|'.join(sorted(names))})\b", step)]
    found = [step for step in found if not step.endswith(tuple(f"INDEX {name}" for name in PARTIAL))]
    # the first rows in an index's own order: it stops at LIMIT
    stops = "LIMIT" in sql and "WHERE" not in sql and not any("TEMP B-TREE" in step for step in steps)
    return [] if stops else found


def bad(ledger: Path, heard: dict[str, int]) -> list[str]:
    """What is wrong, a line each."""
    found = []
    for sql, values in heard.items():
        if re.match(r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|REPLACE)\b", sql, re.I) and "sqlite_" not in sql:
            steps = plan(ledger, sql, values)
            if sql not in WHOLE and scans(sql, steps):
                found.append(f"{sql}\n    {steps}")
    return found


def heard(file: Path) -> dict[str, int]:
    return dict(json.loads(line) for line in file.read_text().splitlines())


def test_a_scan_would_be_seen(project: Project) -> None:
    project.file_task("one")
    ledger = project.state / "ledger.db"
    for sql in (
        "SELECT * FROM tasks WHERE title = 'x'",
        "SELECT t.id FROM tasks AS t WHERE t.title = 'x' LIMIT 1",
        "SELECT agent_owner, count(*) FROM tasks GROUP BY agent_owner",
        "UPDATE tasks SET title = 'y' WHERE title = 'x'",
        "SELECT sum(cost_micros) FROM meter",
        "SELECT * FROM audit ORDER BY body LIMIT 5",
    ):
        assert bad(ledger, {sql: 0}), sql
    assert not bad(
        ledger, {"SELECT * FROM tasks WHERE id = ?": 1, "SELECT seq FROM audit ORDER BY seq DESC LIMIT 1": 0}
    )


def test_the_supervisor_scans_no_table_that_grows(
    project: Project, supervise: Callable[..., Any], tmp_path: Path
) -> None:
    project.configure({"code": None, "qa": None})
    file = tmp_path / "heard"
    first = project.file_task("first", payload={"cost_usd": "0.01"})
    project.file_task("after it", role="qa", dependencies=[first])
    project.file_task("fails", payload={"fail": True})
    project.file_task("files another", payload={"insert": [{"agent_owner": "qa", "title": "t", "description": "d"}]})
    project.file_task("waits for a person", requires_approval=True, task_id="CAREFUL")
    running = supervise(env={"HEARD": str(file)}, prelude=EARS).ready()
    running.until_count("done", 4)
    late = project.file_task("long", payload={"sleep_seconds": 600})
    running.until_status(late, "in_progress")
    running.ask("status")
    with project.client() as client:
        client.kill_task(late, "changed my mind")
    running.until_status(late, "killed")
    for words in (("scale", "code=2"), ("drain", "qa"), ("reload",), ("role", "reset", "qa"), ("report",)):
        project.producerctl(*words)
    running.stop()
    found = heard(file)
    assert sum("tasks" in sql for sql in found) > 10 and sum("audit" in sql for sql in found) > 3, list(found)
    wrong = bad(project.state / "ledger.db", found)
    assert not wrong, "\n".join(wrong)


def test_no_command_scans_a_table_that_grows(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "heard"
    project.file_task("first", task_id="first")
    project.file_task("careful", task_id="careful", requires_approval=True)
    project.file_task("next", task_id="next", dependencies=["first"])
    project.configure({"code": None, "qa": None})
    with project.client() as client:
        client.kill_task(project.file_task("gone", task_id="gone"), "not wanted")
    env = {**project.env, "HEARD": str(file)}
    for words in COMMANDS:
        program = [sys.executable, "-P", "-c", f"{EARS}\nimport sys; from producer.cli import main; sys.exit(main())"]
        command = [*program, "--config", str(project.file), *words]
        found = subprocess.run(command, env=env, cwd=project.root, capture_output=True, text=True, timeout=60)
        assert found.returncode == 0 or words[0] == "doctor", f"{words}: {found.stderr}"
    statements = heard(file)
    assert len(statements) > 30
    wrong = bad(project.state / "ledger.db", statements)
    assert not wrong, "\n".join(wrong)
