"""A supervisor's audit log: signed while it runs, at a kill and at the end; its heads leave; damage is told at a start."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from driving import Project, Supervisor, until

from producer.core import checkpoint
from producer.core.checkpoint import Signed
from producer.ledger import export, signing
from producer.ledger.checkpoints import every, kept
from producer.ledger.signing import KeyRing
from producer.ledger.trust import ANCHOR

Supervise = Callable[..., Supervisor]
EAGER = "from producer.supervisor import witness; witness.ROWS, witness.SECONDS = 10, 0.2"
NEVER = "from producer.supervisor import witness; witness.ROWS, witness.SECONDS = 10**9, 1e9"


def sizes(project: Project) -> list[int]:
    with project.reader() as reader:
        return [one.size for one in every(reader.db)]


def rows(project: Project) -> int:
    return int(project.rows("SELECT max(seq) FROM audit")[0][0])


def heads(path: Path) -> list[Signed]:
    return list(checkpoint.find(path.read_text())) if path.exists() else []


def proven(project: Project, *outside: Signed) -> int:
    """Everything verifies, these heads included; up to which row they prove it."""
    state = project.places.state
    with project.reader() as reader:
        verdict = export.check(reader, outside, KeyRing.read(state))
    assert verdict.ok, verdict.problem
    return verdict.proven


def anchored(project: Project, kept_at: Path, command: str | None = None, **more: object) -> None:
    command = command or f"cat >> {kept_at}"
    project.configure({"code": None}, audit={"anchor_command": command, **more})


def test_the_log_is_signed_by_rows_and_by_time_and_whole_at_the_end(project: Project, supervise: Supervise) -> None:
    supervisor = supervise(prelude=EAGER).ready()
    for number in range(12):
        project.file_task(f"task {number}")
    supervisor.until_count("done", 12)
    supervisor.until(lambda: sizes(project) and sizes(project)[-1] == rows(project), what="a checkpoint of all rows")
    assert len(sizes(project)) > 1
    assert supervisor.status()["audit"]["checkpoint"]["size"] == rows(project)
    assert supervisor.stop() == 0
    assert project.audit()[-1]["action"] == "producer_shutdown" and sizes(project)[-1] == rows(project)
    logged = heads(supervisor.output)
    assert logged[-1].size == rows(project) == proven(project, *logged), "the last words are in the journal"
    assert signing.load(project.places.state, {}).public.text() in supervisor.output.read_text()
    project.books_balance()


def test_a_kill_and_a_restart_sign_at_once(project: Project, supervise: Supervise, tmp_path: Path) -> None:
    anchored(project, tmp_path / "anchor")
    supervisor = supervise(prelude=NEVER).ready()
    assert project.producerctl("kill", "stop it").returncode == 0
    observed = supervisor.until_action("kill_switch_observed")["seq"]
    supervisor.until(lambda: sizes(project), what="a checkpoint")
    assert len(sizes(project)) == 1 and sizes(project)[0] >= observed
    supervisor.until(lambda: heads(tmp_path / "anchor"), what="the head at the anchor")
    assert heads(supervisor.output)[-1] == heads(tmp_path / "anchor")[-1] == kept(project.places.state)
    project.producerctl("resume")
    before = rows(project)
    assert project.producerctl("restart").returncode == 0
    supervisor.until(lambda: len(sizes(project)) == 2 and sizes(project)[-1] >= before, what="the checkpoint")
    supervisor.ready()
    supervisor.stop()
    assert proven(project, *heads(tmp_path / "anchor")) == rows(project)


def test_after_a_crash_the_next_one_goes_on_with_the_same_tree(project: Project, supervise: Supervise) -> None:
    for _ in range(3):
        supervisor = supervise(prelude=EAGER).ready()
        project.file_task()
        supervisor.until(lambda: project.counts()["done"] and not project.counts()["pending"])
        supervisor.kill()
    supervisor = supervise(prelude=EAGER).ready()
    assert project.actions("audit_broken") == [] and supervisor.status()["audit"]["alarm"] is None
    supervisor.stop()
    assert project.books_balance() == 0
    assert len({Signed.parse(row[0]).checkpoint.origin for row in project.rows("SELECT note FROM checkpoints")}) == 1


def test_a_key_from_the_service_manager_signs(project: Project, supervise: Supervise, tmp_path: Path) -> None:
    (tmp_path / "audit.key").write_text(signing.fresh())
    supervisor = supervise(env={"CREDENTIALS_DIRECTORY": str(tmp_path)}).ready()
    supervisor.stop()
    assert not (project.places.state / "audit.key").exists()
    assert json.loads(project.producerctl("audit", "verify", "--json").stdout)["checkpoints"] > 0


def test_a_key_that_cannot_be_used_is_no_start(project: Project, supervise: Supervise) -> None:
    project.places.make()
    (project.places.state / "audit.key").write_text("not a key")
    supervisor = supervise()
    assert supervisor.exits() == 1
    assert "audit.key" in supervisor.output.read_text() and "Traceback" not in supervisor.output.read_text()


# ---- the anchor command


def test_the_last_head_of_a_run_is_at_the_anchor_when_it_has_ended(
    project: Project, supervise: Supervise, tmp_path: Path
) -> None:
    anchored(
        project, tmp_path / "anchor", f"cat >> {tmp_path}/anchor; echo $AUDIT_SIZE $AUDIT_ORIGIN >> {tmp_path}/named"
    )
    project.file_task()
    supervisor = supervise("--once")
    assert supervisor.exits() == 0
    found = heads(tmp_path / "anchor")
    assert found[-1].size == rows(project) == proven(project, *found)
    assert (tmp_path / "named").read_text().splitlines()[-1] == f"{rows(project)} {found[-1].checkpoint.origin}"
    assert project.rows("SELECT * FROM outbox") == []


def test_a_head_leaves_no_more_often_than_is_said(project: Project, supervise: Supervise, tmp_path: Path) -> None:
    anchored(project, tmp_path / "anchor", anchor_every_seconds=3600)
    supervisor = supervise(prelude=EAGER).ready()
    for number in range(20):
        project.file_task(f"task {number}")
        supervisor.until_count("done", number + 1)
    supervisor.until(lambda: len(sizes(project)) > 3)
    supervisor.until(lambda: project.rows("SELECT * FROM outbox WHERE kind = 'anchor'") == [])
    assert len(heads(tmp_path / "anchor")) == 1


def test_a_command_that_fails_is_told_once_and_tried_again(
    project: Project, supervise: Supervise, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    script = f"echo tried >> {tmp_path}/tries; test ! -e {broken} || {{ echo no space >&2; exit 3; }}; cat >> {tmp_path}/anchor"
    anchored(project, tmp_path / "anchor", script, anchor_every_seconds=1)
    supervisor = supervise(prelude=EAGER).ready()
    supervisor.until(lambda: (tmp_path / "tries").exists() and (tmp_path / "tries").read_text().count("tried") >= 3)
    supervisor.until_status(project.file_task("goes on"), "done")
    told = [row for row in project.actions("notify_human") if "anchor_command" in row["detail"]["title"]]
    assert len(told) == 1
    supervisor.until(lambda: "exit 3: no space" in project.attention())
    assert json.loads(project.rows("SELECT value FROM meta WHERE key = ?", ANCHOR)[0][0])["ok"] is False
    doctor = json.loads(project.producerctl("doctor", "--json").stdout)["checks"]
    assert [one["status"] for one in doctor if one["name"] == "audit heads"] == ["fail"]
    broken.unlink()
    supervisor.until(lambda: heads(tmp_path / "anchor"), what="the head, at last")
    supervisor.until(lambda: supervisor.status()["audit"]["anchored"]["ok"])


def test_a_command_that_hangs_is_ended_and_holds_up_nothing(
    project: Project, supervise: Supervise, tmp_path: Path
) -> None:
    """With all that it started, and without its secrets."""
    anchored(
        project,
        tmp_path,
        f"env > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/env; sleep 300 & echo $! > {tmp_path}/pid; wait",
        anchor_every_seconds=1,
    )
    quick = f"{EAGER}; from producer.supervisor import anchor; anchor.SECONDS = 1; anchor.run.__defaults__ = (1.0,)"
    supervisor = supervise(prelude=quick, env={"CLAUDE_CODE_OAUTH_TOKEN": "secret", "AUDIT_TEST": "here"}).ready()
    supervisor.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), what="the command")
    pid = int((tmp_path / "pid").read_text())
    supervisor.until_status(project.file_task("goes on meanwhile"), "done")
    until(lambda: not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text())
    supervisor.until(lambda: "took longer than 1 s" in project.attention())
    env = (tmp_path / "env").read_text()
    assert "AUDIT_TEST=here" in env and "secret" not in env


# ---- a log that was damaged


@pytest.mark.parametrize(("statement", "problem"), [
    ("DELETE FROM audit WHERE seq = (SELECT max(seq) - 1 FROM audit)", "is missing"),
    ("UPDATE checkpoints SET note = replace(note, 'ai-producer', 'ai-produced')", "a key that is not known here"),
])  # fmt: skip
def test_a_log_that_does_not_hold_is_told_at_the_start_and_the_fleet_works(
    project: Project, supervise: Supervise, statement: str, problem: str
) -> None:
    supervisor = supervise(prelude=EAGER).ready()
    supervisor.until_status(project.file_task(), "done")
    supervisor.until(lambda: sizes(project))
    supervisor.kill()
    with project.client() as client:
        client.append_audit(agent_owner="me", action="one", detail={})
        client.append_audit(agent_owner="me", action="two", detail={})
    with closing(sqlite3.connect(project.state / "ledger.db")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)
    supervisor = supervise(prelude=NEVER).ready()
    assert problem in supervisor.until_action("audit_broken")["detail"]["problem"]
    assert re.search(r"error +the audit log does not hold", supervisor.output.read_text())
    assert problem in supervisor.status()["audit"]["alarm"]["problem"]
    supervisor.until(lambda: problem in project.attention())
    supervisor.until_status(project.file_task("works on"), "done")
    shown = project.producerctl("status").stdout
    assert "ALARM" in shown
    assert project.producerctl("audit", "verify").returncode == 1
    assert os.path.exists(f"/proc/{supervisor.pid}")
