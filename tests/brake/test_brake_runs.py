"""The kill switch and a run of the real CLI: `kill` lets the call end, `--now` cuts it; nothing is paid twice."""

from __future__ import annotations

import pytest
from driving import Project, Supervisor, until
from rehearsing import LONG, billed, equal_bills, requests, shell, with_shell, write_script

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
SLOW = {"output_tokens": 400, "tokens_per_second": 100}  # an answer of four seconds
TURNS = [shell("true"), shell("true", **SLOW), shell("true"), {"text": "All done."}]


class Run:
    """Starts a supervisor and a task, and returns once the task is in its second, slow answer."""

    def __init__(self, project: Project, supervise) -> None:
        project.configure({"code": with_shell(env={"CLAUDE_CODE_MAX_RETRIES": "2"})}, gateway={"record": True})
        self.project, self.supervise = project, supervise
        self.script = str(write_script(project, {"code": {"*": TURNS}}))

    def again(self) -> Supervisor:
        return self.supervise("--rehearse", self.script, invoker=None)

    def __call__(self) -> tuple[Supervisor, str]:
        supervisor = self.again().ready(seconds=LONG)
        task = self.project.file_task("slow work")
        supervisor.until(lambda: len(open_requests(self.project)) == 2, LONG, "the second request")
        return supervisor, task


@pytest.fixture
def run(project: Project, supervise) -> Run:
    return Run(project, supervise)


def open_requests(project: Project) -> list[tuple[object, ...]]:
    """Requests that were granted or are booked."""
    return project.rows("SELECT request FROM reservations UNION SELECT request FROM meter")


def test_a_kill_lets_the_call_end_and_the_session_goes_on_after_the_resume(project: Project, run) -> None:
    supervisor, task = run()
    assert project.producerctl("kill", "deploy in progress").returncode == 0
    supervisor.until_status(task, "pending")
    assert [line["share"] for line in requests(project, task)] == [1.0, 1.0], "the open call was cut, or another left"
    (attempt,) = project.task(task)["attempts"]
    assert (attempt["state"], project.task(task)["retry_count"]) == ("cancelled", 0)
    assert "deploy in progress" in attempt["error"]
    assert project.producerctl("resume", "deployed").returncode == 0
    supervisor.until_status(task, "done", seconds=LONG)
    assert len(requests(project, task)) == 4, "an answer was paid twice"
    assert project.task(task)["attempts"][-1]["resumed"]
    equal_bills(project)
    rows = {row["action"]: row for row in project.audit() if row["action"].startswith("kill_switch")}
    for action, reason in (("kill_switch_armed", "deploy in progress"), ("kill_switch_disarmed", "deployed")):
        assert rows[action]["actor"].startswith("operator:") and rows[action]["detail"]["reason"] == reason


def test_a_kill_now_cuts_the_stream_and_the_cut_is_booked_as_the_most_it_can_have_cost(project: Project, run) -> None:
    supervisor, task = run()
    told = project.producerctl("kill", "--now", "fire")
    assert told.returncode == 0 and "1 stopped, 0 survivors" in told.stdout
    supervisor.until_status(task, "pending")
    assert project.task(task)["retry_count"] == 0
    cut = billed(project)[-1]
    assert cut["share"] is not None and cut["share"] < 1.0, "the stream was not cut"
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(task, "done", seconds=LONG)
    assert project.task(task)["attempts"][-1]["resumed"]
    whole = [line for line in requests(project, task) if line["share"] == 1.0]
    # The CLI sometimes keeps the beginning of the answer that was cut; then it goes on from there and asks for no other.
    assert [line["turn"] for line in whole] in ([0, 1, 2, 3], [0, 2, 3]), "only the answer that was cut is paid again"
    (inexact,) = project.rows("SELECT sum(cost_micros) FROM meter WHERE exact = 0")
    exact = sum(line["cost_micros"] for line in whole)
    assert project.books_balance() == exact + inexact[0] and inexact[0] >= cut["cost_micros"]


@pytest.mark.parametrize("content", ["", "now\n"], ids=["touch", "now"])
def test_a_file_is_enough_when_the_supervisor_is_dead(project: Project, run, content: str) -> None:
    supervisor, task = run()
    supervisor.kill()
    (project.state / "kill_switch").write_text(content)
    (worker,) = project.places.workers.glob("*.json")
    until(lambda: '"attempt": null' in worker.read_text(), LONG, "the end of the run")
    assert len(billed(project)) == 2, "a model request left under an armed switch"
    assert (billed(project)[-1]["share"] == 1.0) == (content == "")
    supervisor = run.again().ready(1, seconds=LONG)
    supervisor.until_status(task, "pending")
    (attempt,) = project.task(task)["attempts"]
    assert (attempt["state"], project.task(task)["retry_count"]) == ("cancelled", 0)
    assert project.producerctl("resume").returncode == 0
    supervisor.until_status(task, "done", seconds=LONG)
    whole = [line["turn"] for line in requests(project, task) if line["share"] == 1.0]
    assert whole == [0, 1, 2, 3] and project.task(task)["attempts"][-1]["resumed"]
    if not content:
        equal_bills(project)
