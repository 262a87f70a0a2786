"""What a clean stop leaves on the disk."""

from __future__ import annotations

from driving import Project


def test_after_a_clean_stop_the_newest_commits_lay_in_the_wal_alone(project: Project, supervise) -> None:
    """A view that nobody closed kept the WAL: whoever copied ledger.db alone had an older ledger."""
    supervisor = supervise().ready()
    task = project.file_task("done")
    supervisor.until_status(task, "done")
    assert supervisor.stop() == 0
    assert not (project.state / "ledger.db-wal").exists()
