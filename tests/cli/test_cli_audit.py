from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cli_rig import Project
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from producer.core.checkpoint import Key, Signed
from producer.core.merkle import Frontier, leaf
from producer.ledger import checkpoints, export
from producer.ledger.signing import KeyRing, Signer


@pytest.fixture
def written(project: Project) -> Project:
    for number in range(5):
        project.add(f"task {number}")
    return project


@pytest.mark.parametrize("missing", ["config", "ledger"])
def test_what_is_not_there_is_said_once(written: Project, missing: str) -> None:
    getattr(written, missing).unlink()
    told = written.run("audit", "head", code=2)
    assert told.stdout == "" and len(told.stderr.splitlines()) == 1 and told.stderr.startswith("error: ")


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
    assert (found["checkpoints"], found["signed"]) == (0, 0)
    first, *more = written.out("audit", "verify").splitlines()
    assert first == f"ok: 6 rows, head {found['head']}" and "--head" in more[-1]


def test_the_head_is_signed_where_it_is_asked_for(written: Project) -> None:
    note = written.out("audit", "head") + "\n"
    signed, (key,) = Signed.parse(note), map(Key.parse, written.out("audit", "key").splitlines())
    assert signed.size == 6 and signed.checkpoint.origin == key.name
    Ed25519PublicKey.from_public_bytes(key.raw).verify(signed.signature, signed.checkpoint.text())
    assert written.out("audit", "head") + "\n" == note, "nothing new, nothing signed"
    found = json.loads(written.out("audit", "head", "--json"))
    verdict = json.loads(written.out("audit", "verify", "--json"))
    assert (found["seq"], found["rows"], found["note"]) == (6, 6, note) and found["head"] == verdict["head"]
    assert (verdict["checkpoints"], verdict["signed"]) == (1, 6)
    written.add("one more")
    assert Signed.parse(written.out("audit", "head") + "\n").size == 7
    state = written.places.state
    assert (state / "audit.key").stat().st_mode & 0o777 == 0o600 and written.path not in state.parents


def test_a_log_that_cannot_be_signed_now_gives_the_newest_checkpoint_and_says_so(written: Project) -> None:
    note = written.out("audit", "head")
    (written.places.state / "audit.key").write_text("nonsense")
    written.add("one more")
    told = written.run("audit", "head")
    assert told.stdout.rstrip("\n") == note and "audit.key" in told.stderr


def test_without_any_checkpoint_there_is_no_head_and_no_key(written: Project) -> None:
    written.places.state.joinpath("audit.key").write_text("nonsense")
    assert "audit.key" in written.run("audit", "head", code=1).stderr
    assert written.refused("audit", "key", code=1)


def test_a_new_key_is_one_for_load_credential(written: Project, tmp_path: Path) -> None:
    secret = written.out("audit", "key", "--new")
    assert secret.startswith("PRIVATE+KEY+ai-producer/") and secret != written.out("audit", "key", "--new")
    (tmp_path / "audit.key").write_text(secret + "\n")
    note = written.out("audit", "head", CREDENTIALS_DIRECTORY=str(tmp_path))
    assert Signed.parse(note + "\n").checkpoint.origin == secret.split("+")[2]
    assert not (written.places.state / "audit.key").exists()
    written.out("audit", "verify")


def test_only_the_key_from_elsewhere_counts_where_one_is_named(written: Project) -> None:
    written.out("audit", "head")
    key = written.out("audit", "key")
    assert written.out("audit", "verify", "--key", f"{key}\n{written.out('audit', 'key')}").startswith("ok")
    state = written.places.state
    for name in ("audit.key", "audit.pub"):
        (state / name).unlink()
    written.add("a row of the new key")
    written.out("audit", "head")
    assert written.out("audit", "key") != key
    assert "row 6" in written.run("audit", "verify", code=1).stdout, "the old key is not known any more"
    assert "row 7" in written.run("audit", "verify", "--key", key, code=1).stdout
    assert "--key" in written.refused("audit", "verify", "--key", "PeterNeumann")


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


@pytest.mark.parametrize("form", ["note", "line", "hash"])
def test_a_head_kept_elsewhere_finds_a_log_that_was_rewritten(written: Project, tmp_path: Path, form: str) -> None:
    kept = tmp_path / "head.txt"
    note = written.out("audit", "head") + "\n"
    verdict = json.loads(written.out("audit", "verify", "--json"))
    line = f"Nov 28 producerctl[1]: 12:00:01  info  audit checkpoint  head={Signed.parse(note).line()}\n"
    kept.write_text({"note": note, "line": line * 3, "hash": f"6 {verdict['head']}\n"}[form])
    assert "proven up to row 6" in written.out("audit", "verify", "--head", str(kept))
    tamper(written, "DELETE FROM audit WHERE seq > 3", "DROP TABLE checkpoints")
    for name in ("audit.head", "audit.checkpoint"):
        (written.places.state / name).unlink()
    assert json.loads(written.out("audit", "verify", "--json"))["ok"] is True, "a shorter chain is valid by itself"
    found = json.loads(written.run("audit", "verify", "--head", str(kept), "--json", code=1).stdout)
    assert found["first_bad_seq"] == 4


def test_the_checkpoint_beside_the_ledger_is_held_against_it(written: Project) -> None:
    written.out("audit", "head")
    tamper(written, "DELETE FROM audit WHERE seq > 3", "DROP TABLE checkpoints")
    (written.places.state / "audit.head").unlink()
    assert json.loads(written.run("audit", "verify", "--json", code=1).stdout)["first_bad_seq"] == 4
    ill = [
        one for one in json.loads(written.run("doctor", "--json", code=1).stdout)["checks"] if one["status"] == "fail"
    ]
    assert any(one["name"] == "audit log" and "row 6" in one["detail"] for one in ill)


def test_an_alarm_stays_until_somebody_has_looked_into_it(written: Project) -> None:
    kept = (written.places.state / "audit.head").read_text()
    (written.places.state / "audit.head").write_text(kept.replace(kept.split()[1], "ab" * 32))
    written.add("whoever opens the ledger next notices")
    assert "ALARM" in written.out("status") and "lacks row 6" in written.out("status")
    assert json.loads(written.out("status", "--json"))["audit"]["alarm"]["problem"]
    assert "lacks row 6" in Path(written.out("report").splitlines()[-1]).read_text()
    written.out("audit", "acknowledge", "it was me")
    assert (
        "ALARM" not in written.out("status") and json.loads(written.out("status", "--json"))["audit"]["alarm"] is None
    )


@pytest.mark.parametrize("text", ["", "6", "six abc", "6 xyz"])
def test_a_file_without_a_head_is_refused(written: Project, tmp_path: Path, text: str) -> None:
    (tmp_path / "head.txt").write_text(text)
    assert "audit head" in written.refused("audit", "verify", "--head", str(tmp_path / "head.txt"))


@pytest.fixture
def exported(written: Project) -> Path:
    """An export of a log with two checkpoints; beside it head.txt and key.txt, as they were kept elsewhere."""

    def sign() -> str:
        with written.client() as client, written.reader() as reader:
            client.perform("sign_audit")
            newest = checkpoints.newest(reader.db)
        return newest.note if newest else ""

    sign()
    written.add("later")
    (written.path / "head.txt").write_text(sign())
    ring = KeyRing.read(written.places.state)
    (written.path / "key.txt").write_text(ring.keys[0].text())
    written.add("not signed")
    (written.path / "exported").mkdir()
    with written.reader() as reader:
        assert export.write(reader, ring, written.path / "exported") == (8, 2)
    return written.path / "exported"


def check(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The program of the export with nothing but the standard library."""
    command = [sys.executable, "-I", "-S", "verify_audit.py", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_an_export_is_checked_by_the_standard_library_alone(written: Project, exported: Path) -> None:
    verdict = json.loads(written.out("audit", "verify", "--json"))
    words = ("--head", "../head.txt", "--key", (written.path / "key.txt").read_text())
    assert check(exported).returncode == 0 and "keys are those of the export" in check(exported).stdout
    assert check(exported, *words).stdout == f"ok: 8 rows, head 8 {verdict['head']}, signed up to row 7\n"
    (written.path / "hash.txt").write_text(f"8 {verdict['head']}\n")
    assert check(exported, "--head", "../hash.txt").returncode == 0
    rows = (exported / "audit.jsonl").read_text()
    assert rows == written.run("audit", "export").stdout, "both forms are the same"
    assert "not empty" in written.refused("audit", "export", "--output", "exported", code=1)
    written.run("audit", "export", "--output", "again")
    for file in exported.iterdir():
        assert (written.path / "again" / file.name).read_text() == file.read_text(), "by command as by function"


@pytest.mark.parametrize(("name", "old", "new", "problem"), [
    ("audit.jsonl", "{", "[", "cannot be read"),
    ("audit.pub", "+", "-", "cannot be read"),
    ("audit.jsonl", "task 2", "task X", "row 4 does not match"),
    ("audit.jsonl", '{"seq": 3,', '{"seq": 4,', "row 3 is missing"),
    ("checkpoints.jsonl", "\\n7\\n", "\\n6\\n", "not those of a checkpoint"),
    ("checkpoints.jsonl", "ai-producer", "ai-produced", "a key that is not known"),
    ("checkpoints.jsonl", " ai-producer", " other", "cannot be read"),
    ("audit.pub", "ai-producer", "ai-produced", "a key that is not known"),
])  # fmt: skip
def test_an_export_that_was_changed_is_found_out(exported: Path, name: str, old: str, new: str, problem: str) -> None:
    text = (exported / name).read_text()
    assert old in text
    (exported / name).write_text(text.replace(old, new))
    done = check(exported)
    assert done.returncode == 1 and done.stdout.startswith("NOT OK") and problem in done.stdout, done.stdout


def test_an_export_that_lost_its_end_is_found_out_by_its_checkpoints_and_by_a_head(exported: Path) -> None:
    rows = (exported / "audit.jsonl").read_text().splitlines(keepends=True)
    (exported / "audit.jsonl").write_text("".join(rows[:-2]))
    assert "the last 1 rows are gone" in check(exported).stdout
    (exported / "checkpoints.jsonl").write_text("")
    assert check(exported).returncode == 0, "nothing in it tells any more"
    assert "the last 1 rows are gone" in check(exported, "--head", "../head.txt").stdout


def test_an_export_that_somebody_signed_anew_is_found_out_by_the_key_from_elsewhere(
    written: Project, exported: Path
) -> None:
    key = (written.path / "key.txt").read_text()
    forger = Signer(Key(Key.parse(key).name, bytes(32)))
    frontier = Frontier()
    frontier.extend(leaf(json.loads(row)["body"].encode()) for row in (exported / "audit.jsonl").open())
    note = forger.sign(frontier.size, frontier.root()).note()
    (exported / "checkpoints.jsonl").write_text(json.dumps({"size": frontier.size, "note": note}) + "\n")
    (exported / "audit.pub").write_text(forger.public.text() + "\n")
    assert check(exported).returncode == 0
    assert "a key that is not known" in check(exported, "--key", key).stdout


def test_rows_that_are_no_text_are_exported_and_found_out(written: Project) -> None:
    tamper(written, "UPDATE audit SET body = x'7b22616374696f6e223a2278ff227d' WHERE seq = 6")
    assert len(written.run("audit", "export").stdout.splitlines()) == 6
    assert json.loads(written.run("audit", "verify", "--json", code=1).stdout)["first_bad_seq"] == 6
