"""A task that does not fit into a message is a person's, and ends nothing else."""

from __future__ import annotations

from driving import Project


def test_a_task_too_large_for_a_message_used_to_end_the_supervisor(project: Project, supervise) -> None:
    project.configure({"code": None}, limits={"payload_bytes": 1_000_000})
    supervisor = supervise().ready()
    large = project.file_task("large", payload={"text": "x" * 700_000})
    escalated = supervisor.until_status(large, "escalated")
    assert "over the limit" in escalated["escalation_reason"]
    supervisor.until_status(project.file_task("small"), "done")
    assert supervisor.stop() == 0
