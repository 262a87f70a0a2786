"""Which task runs next, on which worker, and when a run of the queue is over."""

from __future__ import annotations

from driving import Project, Supervisor

QUICK = {"base_seconds": 0.05, "cap_seconds": 0.2}


def order(project: Project) -> list[str]:
    """Titles in the order of their claims."""
    titles = dict(project.rows("SELECT id, title FROM tasks"))
    return [titles[row["task"]] for row in project.actions("dispatch")]


def test_priority_then_age_decides_at_every_claim(project: Project, supervise) -> None:
    urgent = {"agent_owner": "code", "title": "found on the way", "description": "d", "priority": 0}
    project.file_task("holder", priority=0, payload={"sleep_seconds": 0.6})
    supervisor: Supervisor = supervise().ready()
    supervisor.until(lambda: order(project) == ["holder"])
    for title, priority in (("c", 3), ("d", 3), ("e", 5), ("b", 2)):
        project.file_task(title, priority=priority, payload={"insert": [urgent]} if title == "b" else {})
    project.file_task("a", priority=1)
    supervisor.until_count("done", 7)
    assert order(project) == ["holder", "a", "b", "found on the way", "c", "d", "e"]
    (filed,) = project.rows("SELECT parent_task_id, filed_by_attempt FROM tasks WHERE title = 'found on the way'")
    (found,) = project.rows(
        "SELECT task_id, a.id FROM attempts AS a JOIN tasks AS t ON t.id = task_id WHERE title = 'b'"
    )
    assert filed == found
    assert supervisor.stop() == 0
    project.books_balance()


def test_a_dependency_is_waited_for(project: Project, supervise) -> None:
    with project.client() as client:
        first = client.insert_task(agent_owner="code", title="first", description="d", priority=5)
        client.insert_task(agent_owner="code", title="second", description="d", priority=0, dependencies=[first])
        doomed = client.insert_task(agent_owner="code", title="doomed", description="d", payload={"fail": "permanent"})
        never = client.insert_task(agent_owner="code", title="never", description="d", dependencies=[doomed])
    assert supervise("--once").exits() == 1
    titles = order(project)
    assert titles.index("first") < titles.index("second") and "never" not in titles
    shown = project.task(never)
    assert shown["status"] == "pending" and shown["blocked_by"][0]["reason"] == "is escalated and waits for a human"


def test_a_worker_is_given_as_many_tasks_as_it_may_prefetch_and_no_more(project: Project, supervise) -> None:
    project.configure({"code": {"prefetch": 3}})
    for title in "abcdef":
        project.file_task(title, payload={"sleep_seconds": 0.5 if title == "a" else 0.02})
    supervisor = supervise().ready()
    supervisor.until(lambda: len(order(project)) >= 3)
    assert [project.counts()[state] for state in ("in_progress", "pending")] == [3, 3]
    supervisor.until_count("done", 6)
    assert order(project) == list("abcdef")
    assert project.rows("SELECT count(*) FROM attempts") == [(6,)]


def test_once_ends_when_nothing_is_ready_and_says_whether_something_escalated(project: Project, supervise) -> None:
    project.configure({"code": {"retry": QUICK}})
    project.file_task("fails once", payload={"fail": 1, "cost_usd": "0.125"})
    assert supervise("--once").exits() == 0
    assert project.counts()["done"] == 1
    fails = project.file_task("fails", payload={"fail": True, "cost_usd": "0.125"})
    assert supervise("--once").exits() == 1
    assert project.counts()["escalated"] == 1
    assert [path.name for path in project.state.glob("escalations/*")] == [f"{fails}.md"]
    assert supervise("--once").exits() == 0, "what escalated before does not count"
    assert {"producer_boot_once", "producer_shutdown"} <= {row["action"] for row in project.audit()}
    assert project.books_balance() == 5 * 125_000


INVOKERS = """
import time
from producer import InvocationResult

class Plain:
    def invoke(self, agent_role, prompt, *, system_prompt, max_turns, allowed_tools, model):
        open("ran.txt", "a").write(f"{agent_role} {model} {max_turns} {','.join(allowed_tools)} {system_prompt}\\n")
        return InvocationResult(text="a text", cost_usd=0.25)

class Async:
    async def invoke(self, agent_role, prompt, *, system_prompt=None, max_turns=16, allowed_tools=None, model=None):
        return InvocationResult(text="", sdk_error="API Error: 400 nonsense", cost_usd=0.5)
"""


def test_an_invoker_of_the_users_own_runs_on_the_same_path(project: Project, supervise) -> None:
    (project.root / "mine.py").write_text(INVOKERS)
    prompt = project.root / "agents/code/system_prompt.md"
    prompt.parent.mkdir(parents=True)
    prompt.write_text("Be brief.")
    project.configure({"code": {"max_turns": 7, "prompt": "agents/code/system_prompt.md"}})
    done = project.file_task()
    assert supervise("--once", invoker="mine:Plain").exits() == 0
    shown = project.task(done)
    assert (shown["status"], shown["cost_usd"]) == ("done", "0.25")
    assert project.rows("SELECT result FROM tasks") == [("a text",)]
    assert (project.root / "ran.txt").read_text() == "code claude-sonnet-5-5 7 Read Be brief.\n"
    project.configure({"code": {"retry": {"max": 1}}})
    failed = project.file_task("another")
    assert supervise("--once", invoker="mine:Async").exits() == 1
    shown = project.task(failed)
    assert (shown["status"], shown["cost_usd"], len(shown["attempts"])) == ("escalated", "0.50", 1)
    project.books_balance()


def test_wrong_options_are_refused_before_anything_starts(project: Project, supervise) -> None:
    refused = supervise("--workers", "nobody=2", invoker="no colon"), supervise("--workers", "nobody=2")
    for supervisor, word in zip(refused, ("no colon", "nobody"), strict=True):
        assert supervisor.exits() == 2 and word in supervisor.output.read_text()
    assert project.actions("producer_boot") == []
