"""A project with something in its ledger, and its dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from driving import Project
from web_rig import OPEN, Web


@pytest.fixture
def filled(project: Project) -> Project:
    """Two roles; tasks of every state, one of them with a lineage, a blocked one and one that waits for approval."""
    project.configure({"code": None, "qa": None})
    first = project.file_task("Write the parser", task_id="parser", payload={"deep": {"er": 1}})
    with project.client() as client:
        client.claim_task(first, "code")
        client.perform("complete_task", task_id=first, cost_usd="0.25", actual_cost_usd="0.24")
        client.claim_task(project.file_task("Replace it", task_id="replace", parent_task_id=first), "code")
        client.fail_task("replace", "it would not be replaced")
        project.file_task("Ask somebody", role="qa", task_id="ask")
        client.escalate_task("ask", "nobody knows")
        project.file_task("Not wanted", task_id="unwanted")
        client.kill_task("unwanted", "changed my mind")
        project.file_task("Follows", role="qa", task_id="follows", dependencies=["ask"])
        project.file_task("Careful", task_id="careful", requires_approval=True)
        project.file_task("Next", task_id="next", priority=1)
        client.claim_task(project.file_task("Under way", role="qa", task_id="under"), "qa")
    return project


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Afterwards no desk keeps its line to a supervisor."""
    yield
    while OPEN:
        OPEN.pop().close()


@pytest.fixture
def web(filled: Project) -> Web:
    """The dashboard of ``filled``; no supervisor runs."""
    return Web(filled)
