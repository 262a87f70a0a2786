"""A rehearsal for a test: the real CLI, the real gateway, a scripted model, and the three bills that must be equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from driving import Project, Supervisor

from producer.gateway import bill as model_bill

Turn = Mapping[str, Any]
LONG = 120.0  # seconds to wait for something that takes five on a machine with nothing else to do


def with_shell(**more: Any) -> dict[str, Any]:
    """A role's settings with the shell as its one tool."""
    return {"allowed_tools": ["Bash"], **more}


def shell(command: str, **turn: Any) -> dict[str, Any]:
    """A turn in which the model calls the shell."""
    return {"text": "Working.", "tools": [{"name": "Bash", "input": {"command": command}}], **turn}


def ledger(tool: str, *calls: Mapping[str, Any], **turn: Any) -> dict[str, Any]:
    """A turn in which the model calls a ledger tool, as often as there are arguments."""
    tools = [{"name": f"mcp__ledger__{tool}", "input": dict(call)} for call in calls]
    return {"text": "Filing.", "tools": tools, **turn}


def write_script(project: Project, roles: Mapping[str, Mapping[str, Sequence[Turn]]], **defaults: Any) -> Path:
    """A script beside the project: role -> title's glob -> turns."""
    document = {
        "defaults": {"output_tokens": 40, **defaults},
        "roles": {
            role: [{"title": title, "turns": list(turns)} for title, turns in scenarios.items()]
            for role, scenarios in roles.items()
        },
    }
    path = project.root.parent / "script.yaml"
    path.write_text(json.dumps(document))  # JSON is YAML, without anchors
    return path


def billed(project: Project) -> list[dict[str, Any]]:
    """The lines of the scripted model's own bill."""
    return model_bill.lines(project.places.state / "rehearsal-bill.jsonl")


def requests(project: Project, task: str | None = None) -> list[dict[str, Any]]:
    """The answers that the model gave (faults and empty ones left out), all or those for one task."""
    return [line for line in billed(project) if line["usage"] and (task is None or line["task"] == task)]


def equal_bills(project: Project) -> int:
    """The ledger's, the gateway's and the model's bill are one amount, in micro-dollars; returns it.

    The gateway's comes from its own recordings (``gateway: {record: true}``), not from the ledger.
    """
    spent = project.books_balance()
    metered: dict[str, int] = {}
    for path in (project.places.state / "recordings").glob("*.jsonl"):
        for line in path.read_text().splitlines():
            record = json.loads(line)["metered"]
            metered[record["request"]] = record["cost"]
    gateway = sum(metered.values())
    bill = model_bill.total(project.places.state / "rehearsal-bill.jsonl")
    assert spent == gateway == bill, f"ledger {spent}, gateway {gateway}, model {bill}"
    assert list(project.places.journal.glob("*.jsonl")) == [], "the gateway's journal is not booked"
    return spent


def report(project: Project) -> str:
    """The morning report's text."""
    ran = project.producerctl("report")
    assert ran.returncode == 0, ran.stderr
    return Path(ran.stdout.strip()).read_text()


def rehearse(supervise: Callable[..., Supervisor], project: Project, roles: Any, *options: str) -> Supervisor:
    """A supervisor whose agents are the real CLI and whose model plays ``roles`` (see write_script), once it is up."""
    script = write_script(project, roles)
    return supervise("--rehearse", str(script), *options, invoker=None).ready(seconds=LONG)
