"""Eight roles at once against one ceiling, with the real CLI and answers that cost more than there is."""

from __future__ import annotations

import pytest
from driving import Project
from rehearsing import LONG, equal_bills, rehearse, requests, shell, with_shell

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

ROLES = [f"role{number}" for number in range(8)]
DEAR = {"output_tokens": 6_000}  # $0.06 an answer; four of them a run: eight runs want almost two dollars
TURNS = [shell("true", **DEAR), shell("true", **DEAR), shell("true", **DEAR), {"text": "Done.", **DEAR}]
CEILING = 600_000


def configure(project: Project, ceiling: float) -> None:
    project.configure({role: with_shell() for role in ROLES}, project_ceiling_usd=ceiling, gateway={"record": True})


def test_no_ceiling_is_passed_nobody_is_locked_out_and_the_bills_are_equal(project: Project, supervise) -> None:
    configure(project, 0.60)
    tasks = {role: project.file_task(f"expensive work of {role}", role) for role in ROLES}
    supervisor = rehearse(supervise, project, {"*": {"*": TURNS}})

    def settled() -> bool:
        rows = dict(project.rows("SELECT task_id, count(*) FROM attempts WHERE state != 'running' GROUP BY 1"))
        return len(rows) == 8 and project.rows("SELECT count(*) FROM attempts WHERE state = 'running'") == [(0,)]

    supervisor.until(settled, 2 * LONG, "eight runs that ended")
    spent = equal_bills(project)
    print(f"${spent / 1e6:.6f} of ${CEILING / 1e6:.2f} spent by eight roles at once, three bills equal")
    assert spent <= CEILING
    assert spent > CEILING * 0.6, "the money was there and was not used"
    outcomes = {role: [a["outcome"] for a in project.task(task)["attempts"]] for role, task in tasks.items()}
    assert {outcome for found in outcomes.values() for outcome in found} <= {"succeeded", "budget"}
    assert all(requests(project, task) for task in tasks.values()), f"a role was locked out: {outcomes}"
    waiting = [task for task in tasks.values() if project.task(task)["status"] == "pending"]
    assert waiting and all(project.task(task)["retry_count"] == 0 for task in waiting)
    status = supervisor.status()
    assert {role["state"] for role in status["roles"].values()} == {"capped"}
    before = {task: len(requests(project, task)) for task in waiting}

    configure(project, 10)
    supervisor.ask("reload")
    supervisor.until(lambda: project.counts()["done"] == 8, LONG, "all of them, with a higher ceiling")
    equal_bills(project)
    for task in waiting:  # nothing that was paid is paid again: four answers are four requests, whatever came between
        assert len(requests(project, task)) == 4, (before[task], requests(project, task))
        assert project.task(task)["attempts"][-1]["resumed"]
    assert supervisor.stop() == 0
