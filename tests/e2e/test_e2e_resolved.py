"""An escalation resolved by commands alone: what a person changed reaches the agent, whose session goes on."""

from __future__ import annotations

import pytest
from driving import Project
from rehearsing import LONG, rehearse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def test_an_agent_that_goes_on_is_told_what_a_person_changed(project: Project, supervise) -> None:
    project.configure({"code": {"allowed_tools": ["Read"]}})
    ask = {"name": "mcp__ledger__escalate", "input": {"reason": "there is no black"}}
    turns = [{"text": "I cannot.", "tools": [ask]}, {"text": "A person has to decide."}, {"text": "Now it is blue."}]
    task = project.file_task("Paint it", description="Paint it black")
    supervisor = rehearse(supervise, project, {"code": {"*": turns}})
    supervisor.until_status(task, "escalated", seconds=LONG)
    supervisor.until_action("attempt_ended", LONG)
    assert project.producerctl("task", "edit", task, "--description", "Paint it blue").returncode == 0
    assert project.producerctl("task", "requeue", task, "--reason", "black is sold out").returncode == 0
    done = supervisor.until_status(task, "done", seconds=LONG)
    assert [attempt["resumed"] for attempt in done["attempts"]] == [False, True]
    [transcript] = project.places.config_dir(task).glob("projects/*/*.jsonl")
    text = transcript.read_text()
    assert "black is sold out" in text and "Paint it blue" in text.split("black is sold out")[1]
