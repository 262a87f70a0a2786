"""Without a gateway (auth.mode inherit) the SDK's own fence and the token counts that it streams are what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import Project
from rehearsing import LONG, shell, with_shell, write_script

from producer.gateway import bill as model_bill

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

DEAR = {"output_tokens": 4_000}
ANSWER = 60_000  # micro-dollars; more than any one answer of these tests costs
CAP = 110_000


@pytest.fixture
def bill(project: Project) -> Iterator[Path]:
    """A scripted model that the host's own ~/.claude points to; where it writes its bill."""
    turns = [
        shell("true", **DEAR),
        shell("true", **DEAR),
        shell("touch room/third; sleep 1", **DEAR),
        shell("sleep 200"),
    ]
    script, path = (
        write_script(project, {"code": {"*": [*turns, {"text": "Done."}]}}),
        project.root.parent / "bill.jsonl",
    )
    command = [sys.executable, "-m", "producer.gateway.rehearsal", str(script), "--bill", str(path)]
    model = subprocess.Popen(command, env=project.env, stdout=subprocess.PIPE, text=True)
    assert model.stdout is not None
    home = Path(project.env["HOME"]) / ".claude"
    home.mkdir()
    settings = {"env": {"ANTHROPIC_BASE_URL": model.stdout.readline().strip(), "ANTHROPIC_API_KEY": "none"}}
    (home / "settings.json").write_text(json.dumps(settings))
    yield path
    model.kill()
    model.wait()


def test_a_cap_is_passed_by_one_answer_at_most(project: Project, supervise, bill: Path) -> None:
    project.configure({"code": with_shell(daily_cap_usd=CAP / 1e6)}, auth={"mode": "inherit"})
    supervisor = supervise(invoker=None).ready(seconds=LONG)
    task = project.file_task("expensive")
    supervisor.until(lambda: supervisor.status()["roles"]["code"]["state"] == "capped", LONG, "a capped role")
    shown = project.task(task)
    assert (shown["status"], shown["retry_count"], shown["attempts"][0]["outcome"]) == ("pending", 0, "budget")
    assert CAP < model_bill.total(bill) < CAP + ANSWER
    assert project.books_balance() == model_bill.total(bill)
    assert len(project.actions("budget_breach")) == 1, "a cap that was passed is said"


def test_a_run_that_was_cut_costs_what_it_had_streamed(project: Project, supervise, bill: Path) -> None:
    project.configure({"code": with_shell()}, auth={"mode": "inherit"})
    supervisor = supervise(invoker=None).ready(seconds=LONG)
    task = project.file_task("cut")
    supervisor.until((project.room / "third").exists, LONG, "the third answer")
    supervisor.until(lambda: len(model_bill.lines(bill)) == 4, LONG, "the fourth answer")
    supervisor.until(lambda: float(supervisor.workers()[0]["cost_usd"]) > 0.13, LONG, "its cost in status")
    assert supervisor.ask("kill", seconds=LONG, reason="enough", now=True)["survivors"] == 0
    supervisor.until_status(task, "pending")
    assert project.books_balance() == model_bill.total(bill)
    assert project.task(task)["retry_count"] == 0
