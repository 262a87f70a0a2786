"""A whole project with the real claude CLI, the real gateway and real tools; only the model is scripted."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from driving import Project, Supervisor, carriers, until

from producer.gateway import bill
from producer.reaper import ATTEMPT_MARKER, Family, end, find, marked

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

HASTE = {"CLAUDE_CODE_MAX_RETRIES": "0"}  # the CLI's own retries of a failed request; ours are what is tested
ROLE = {"env": HASTE, "retry": {"base_seconds": 0.05, "cap_seconds": 0.2}, "daily_cap_usd": 5}

WHOLE = """
defaults: {tokens_per_second: 4000}
roles:
  design:
    - turns:
        - text: A specification first.
          tools:
            - {name: Write, input: {file_path: "{cwd}/room/spec.md", content: "Say hello."}}
            - {name: Bash, input: {command: "touch {cwd}/room/not-granted", description: try}}
            - {name: Write, input: {file_path: "{cwd}/../outside.md", content: "not here"}}
          output_tokens: 150
          cache_write_5m_tokens: 700
        - text: Now it is code's turn.
          tools:
            - name: mcp__ledger__record_decision
              input: {kind: design, decision_text: "It says hello.", rationale: "Short.", artifact: room/spec.md}
            - name: mcp__ledger__insert_task
              input: {agent_owner: code, title: Build it, description: "Build room/spec.md", priority: 1}
          output_tokens: 90
          cache_read_tokens: 700
        - {text: Specified., output_tokens: 12, cache_read_tokens: 1200}
  code:
    - title: Hopeless
      turns:
        - {text: never, error: {status: 500, message: broken on purpose, times: 1000}}
    - turns:
        - text: The specification.
          tools: [{name: Read, input: {file_path: "{cwd}/room/spec.md"}}]
          output_tokens: 41
        - text: The program.
          tools:
            - {name: Write, input: {file_path: "{cwd}/room/hello.py", content: "open('room/said.txt', 'w').write('hello')"}}
          error: {status: 500, message: a passing trouble, times: 1}
          output_tokens: 333
        - text: And its test.
          tools:
            - name: mcp__ledger__insert_task
              input: {agent_owner: qa, title: Test it, description: "Run room/hello.py"}
          output_tokens: 57
          cache_write_1h_tokens: 111
        - {text: Built., output_tokens: 9}
  qa:
    - turns:
        - text: Does it run?
          tools: [{name: Bash, input: {command: "python3 {cwd}/room/hello.py", description: run it}}]
          output_tokens: 77
        - text: It does.
          tools:
            - {name: mcp__ledger__record_asset, input: {asset_type: other, path: room/hello.py, disposition: shipped}}
          output_tokens: 23
        - {text: Tested., output_tokens: 5}
"""


def rehearse(project: Project, supervise, script: str, *options: str) -> Supervisor:
    """A supervisor whose model plays ``script``."""
    path = project.root.parent / "script.yaml"
    path.write_text(script)
    return supervise("--rehearse", str(path), *options, invoker=None)


def bill_lines(project: Project) -> list[dict]:
    """The scripted model's own bill: by its own prices, from its own count of what it sent."""
    return bill.lines(project.places.state / "rehearsal-bill.jsonl")


def accounts_agree(project: Project) -> int:
    """The ledger, the gateway and the model name the same amount, request by request; that amount."""
    billed = Counter(line["cost_micros"] for line in bill_lines(project) if line["cost_micros"])
    metered = project.rows("SELECT cost_micros FROM meter WHERE source = 'gateway' AND cost_micros > 0")
    assert billed == Counter(row[0] for row in metered)
    total = project.books_balance()
    assert total == sum(cost * times for cost, times in billed.items()) > 0
    assert list(project.places.journal.iterdir()) == [], "what is booked is not kept"
    return total


def test_three_roles_from_one_task_to_a_tested_program(project: Project, supervise) -> None:
    tools = {"design": ["Read", "Write"], "code": ["Read", "Write", "Edit"], "qa": ["Read", "Bash(python3 *)"]}
    project.configure({name: {**ROLE, "allowed_tools": granted} for name, granted in tools.items()})
    first = project.file_task("Specify it", "design")
    hopeless = project.file_task("Hopeless", "code")
    supervisor = rehearse(project, supervise, WHOLE, "--once")
    assert supervisor.exits(100) == 1, supervisor.log()

    tasks = {row[1]: project.task(row[0]) for row in project.rows("SELECT id, title FROM tasks")}
    assert {title: task["status"] for title, task in tasks.items()} == {
        "Specify it": "done", "Hopeless": "escalated", "Build it": "done", "Test it": "done",
    }  # fmt: skip
    lineage = [(tasks[t]["parent_task_id"], tasks[t]["root_task_id"]) for t in ("Build it", "Test it")]
    assert lineage == [(first, first), (tasks["Build it"]["id"], first)]
    assert tasks["Specify it"]["decisions"][0]["decision_text"] == "It says hello."

    read = {path: (project.room / path).read_text() for path in ("spec.md", "said.txt")}
    assert read == {"spec.md": "Say hello.", "said.txt": "hello"}, "the program was written, and run"
    assert not (project.room / "not-granted").exists() and not (project.root.parent / "outside.md").exists()
    called = [row["detail"]["tool"] for row in project.actions("tool_call") if row["task"] == first]
    assert called.count("Write") == 2 and "mcp__ledger__insert_task" in called
    failed = [row["detail"]["tool"] for row in project.actions("tool_failed") if row["task"] == first]
    assert sorted(failed) == ["Bash", "Write"]

    built = tasks["Build it"]
    assert [(a["state"], a["resumed"]) for a in built["attempts"]] == [("failed", False), ("succeeded", True)]
    assert built["retry_count"] == 1 and "a passing trouble" in built["attempts"][0]["error"]
    paid = Counter(line["turn"] for line in bill_lines(project) if line["task"] == built["id"] and line["cost_micros"])
    assert paid == dict.fromkeys(range(4), 1), "the second attempt went on where the first one broke off"

    bills = {title: (task["cost_usd"], task["actual_cost_usd"]) for title, task in tasks.items()}
    assert all(ours == theirs for ours, theirs in bills.values()), f"what the CLI reports is what was metered: {bills}"
    assert [a["state"] for a in tasks["Hopeless"]["attempts"]] == ["failed"] * 3
    assert "broken on purpose" in tasks["Hopeless"]["escalation_reason"]
    assert "broken on purpose" in (project.state / "escalations" / f"{hopeless}.md").read_text()

    accounts_agree(project)
    assert all(project.rows("SELECT exact FROM meter"))
    assert marked(ATTEMPT_MARKER).keys().isdisjoint({a["id"] for task in tasks.values() for a in task["attempts"]})


LONG = """
roles:
  code:
    - turns:
        - {text: one, tools: [{name: Write, input: {file_path: "{cwd}/room/one.txt", content: "1"}}], output_tokens: 50}
        - text: two
          tools:
            - name: Bash
              input:
                command: |
                  setsid nohup sleep 90 >/dev/null 2>&1 &
                  python3 -c "import time; open('room/there', 'w'); time.sleep(90)"
                description: take long
          output_tokens: 60
        - {text: three, tools: [{name: Write, input: {file_path: "{cwd}/room/three.txt", content: "3"}}], output_tokens: 70}
        - {text: Done at last., output_tokens: 8}
"""


def in_the_middle(project: Project, supervise) -> tuple[Supervisor, str, str]:
    """A supervisor whose only agent sits in the tool call of its second turn; the task and the attempt."""
    project.configure({"code": {**ROLE, "allowed_tools": ["Read", "Write", "Bash"]}})
    task = project.file_task("Long")
    supervisor = rehearse(project, supervise, LONG)
    supervisor.until((project.room / "there").exists, 60, "the long tool call")
    return supervisor, task, project.task(task)["attempts"][0]["id"]


def processes(attempt: str) -> list[str]:
    """The names of the processes of an attempt."""
    return sorted(process.name() for process in find(Family.of_attempt(attempt)))


def goes_on_without_paying_twice(project: Project, supervisor: Supervisor, task: str) -> list[dict]:
    """The task ends by playing only the turns that were left; its attempts."""
    after = supervisor.until_status(task, "done", "escalated", seconds=60)
    assert (after["status"], after["session_id"]) == ("done", after["attempts"][0]["session_id"])
    assert (project.room / "three.txt").read_text() == "3"
    assert after["attempts"][-1]["resumed"] and len(after["attempts"]) == 2
    assert supervisor.stop() == 0
    turns = Counter(line["turn"] for line in bill_lines(project))
    assert turns == dict.fromkeys(range(4), 1)
    accounts_agree(project)
    return after["attempts"]


def test_when_everything_is_killed_the_session_goes_on_from_its_turn(project: Project, supervise) -> None:
    supervisor, task, attempt = in_the_middle(project, supervise)
    (worker,) = supervisor.workers()
    supervisor.kill()
    os.kill(worker["pid"], signal.SIGKILL)
    end(Family.of_attempt(attempt))
    assert processes(attempt) == []
    supervisor = rehearse(project, supervise, LONG)
    first, _ = goes_on_without_paying_twice(project, supervisor, task)
    assert (first["state"], project.task(task)["retry_count"]) == ("lost", 1)


def test_a_killed_worker_takes_its_agent_along_and_the_next_one_goes_on(project: Project, supervise) -> None:
    supervisor, task, attempt = in_the_middle(project, supervise)
    assert {"claude", "sleep"} <= set(processes(attempt)) or len(processes(attempt)) >= 3
    (worker,) = supervisor.workers()
    os.kill(worker["pid"], signal.SIGKILL)
    until(lambda: processes(attempt) == [], 15, "the end of the agent's processes", supervisor.log)
    goes_on_without_paying_twice(project, supervisor, task)


def test_kill_now_ends_daemons_too_and_resume_pays_nothing_twice(project: Project, supervise) -> None:
    supervisor, task, attempt = in_the_middle(project, supervise)
    answer = supervisor.ask("kill", 20, reason="enough", now=True)
    assert (answer["stopped"], answer["survivors"]) == (1, 0)
    assert processes(attempt) == []
    assert supervisor.until_status(task, "pending")["retry_count"] == 0
    supervisor.ask("resume")
    first, _ = goes_on_without_paying_twice(project, supervisor, task)
    assert (first["state"], project.task(task)["retry_count"]) == ("cancelled", 0)


def test_a_usage_limit_is_no_failure_and_the_role_waits(project: Project, supervise) -> None:
    project.configure({"code": {**ROLE}})
    task = project.file_task("Limited")
    error = "error: {status: 429, type: rate_limit_error, message: slow down, retry_after: 3600}"
    supervisor = rehearse(project, supervise, f"roles: {{code: [{{turns: [{{text: x, {error}}}]}}]}}", "--once")
    assert supervisor.exits(60) == 0
    after = project.task(task)
    assert (after["status"], after["retry_count"], after["attempts"][0]["state"]) == ("pending", 0, "throttled")
    (role,) = project.rows("SELECT state, until FROM roles WHERE role = 'code'")
    at = float(project.rows("SELECT strftime('%s', max(finished_at)) FROM attempts")[0][0])
    assert role[0] == "throttled" and 3400 < role[1] - at < 3700
    assert project.books_balance() == 0
    assert carriers(project.places.key) == []


def test_a_gateway_that_hangs_does_not_outlive_its_supervisor(project: Project, supervise) -> None:
    project.configure({"code": {**ROLE}})
    supervisor = rehearse(project, supervise, "roles: {code: [{turns: [{text: x}]}]}")
    supervisor.until_status(project.file_task("One"), "done")
    os.kill(supervisor.ask("status")["gateway"]["pid"], signal.SIGSTOP)
    assert supervisor.stop() == 0
    assert carriers(project.places.key) == []
