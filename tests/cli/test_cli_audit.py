from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cli_rig import Project


@pytest.fixture
def written(project: Project) -> Project:
    for number in range(5):
        project.add(f"task {number}")
    return project


def tamper(project: Project, *statements: str) -> None:
    """What somebody does who can write the file."""
    with sqlite3.connect(project.ledger) as connection:
        for name in ("audit_is_append_only", "audit_is_never_updated", "audit_is_never_deleted"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for name in ("audit_action", "audit_task"):  # they read the bodies
            connection.execute(f"DROP INDEX IF EXISTS {name}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_whole_log_is_ok(written: Project) -> None:
    found = json.loads(written.out("audit", "verify", "--json"))
    assert found["ok"] is True and found["rows"] == 6 and found["first_bad_seq"] is None and found["problem"] is None
    assert written.out("audit", "verify") == f"ok: 6 rows, head {found['head']}"
    assert written.out("audit", "head") == f"6 {found['head']}"
    assert json.loads(written.out("audit", "head", "--json")) == {"seq": 6, "head": found["head"]}


@pytest.mark.parametrize(
    ("statement", "bad"),
    [
        ("UPDATE audit SET body = CAST(replace(CAST(body AS TEXT), 'task 2', 'task X') AS BLOB) WHERE seq = 4", 4),
        ("UPDATE audit SET chain = zeroblob(32) WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 6", 6),
        ("DELETE FROM audit WHERE seq > 2", 3),
        ("DELETE FROM audit", 1),
    ],
)
def test_a_log_that_was_changed_is_found_out(written: Project, statement: str, bad: int) -> None:
    tamper(written, statement)
    done = written.run("audit", "verify", "--json", code=1)
    found = json.loads(done.stdout)
    assert found["ok"] is False and found["first_bad_seq"] == bad and found["problem"]
    assert written.run("audit", "verify", code=1).stdout.startswith("NOT OK")


def test_a_head_kept_elsewhere_finds_a_log_that_was_rewritten(written: Project, tmp_path: Path) -> None:
    kept = tmp_path / "head.txt"
    kept.write_text(written.out("audit", "head") + "\n")
    assert written.out("audit", "verify", "--head", str(kept)).startswith("ok")
    tamper(written, "DELETE FROM audit WHERE seq > 3")
    (written.places.state / "audit.head").unlink()
    assert json.loads(written.out("audit", "verify", "--json"))["ok"] is True, "a shorter chain is valid by itself"
    found = json.loads(written.run("audit", "verify", "--head", str(kept), "--json", code=1).stdout)
    assert found["first_bad_seq"] == 4


@pytest.mark.parametrize("text", ["", "6", "six abc", "6 xyz"])
def test_a_file_without_a_head_is_refused(written: Project, tmp_path: Path, text: str) -> None:
    (tmp_path / "head.txt").write_text(text)
    assert "audit head" in written.refused("audit", "verify", "--head", str(tmp_path / "head.txt"))


def test_an_export_is_checked_by_the_standard_library_alone(written: Project, tmp_path: Path) -> None:
    head = written.out("audit", "head")
    written.run("audit", "export", "--output", "exported")
    folder = written.path / "exported"

    def check(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "verify_audit.py", "audit.jsonl", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)

    assert check().returncode == 0 and head in check().stdout
    assert check(head).returncode == 0
    rows = (folder / "audit.jsonl").read_text()
    assert rows == written.run("audit", "export").stdout, "both forms are the same"
    for changed in (
        rows.replace("task 2", "task X"),
        "\n".join(rows.splitlines()[:-1]),
        "\n".join(rows.splitlines()[1:]),
    ):
        (folder / "audit.jsonl").write_text(changed)
        assert check(head).returncode == 1
    assert "not empty" in written.refused("audit", "export", "--output", "exported", code=1)


def test_rows_that_are_no_text_are_exported_and_found_out(written: Project) -> None:
    tamper(written, "UPDATE audit SET body = x'7b22616374696f6e223a2278ff227d' WHERE seq = 6")
    assert len(written.run("audit", "export").stdout.splitlines()) == 6
    assert json.loads(written.run("audit", "verify", "--json", code=1).stdout)["first_bad_seq"] == 6
