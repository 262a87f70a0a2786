"""What the supervisor tells systemd besides READY: rows about tasks in the journal, and the line of its status."""

from __future__ import annotations

import socket
from pathlib import Path

from producer.supervisor.journal import Journal
from producer.supervisor.systemd import status_line

ROW = {"action": "task_claimed", "actor": "code", "task": "T1", "attempt": "A1\nTASK=forged", "detail": {}}


def test_a_row_about_a_task_has_its_fields_and_cannot_forge_another(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(path)
        journald.settimeout(5)
        assert Journal({"JOURNAL_STREAM": "1:2"}, path).send(ROW)
        content, fields = journald.recv(65536), {}
    while content:
        name, _, rest = content.partition(b"\n")
        size = int.from_bytes(rest[:8], "little")
        assert name.decode() not in fields
        fields[name.decode()] = rest[8 : 8 + size].decode()
        content = rest[8 + size + 1 :]
    assert (fields["TASK"], fields["ATTEMPT"], fields["ROLE"]) == ("T1", "A1\nTASK=forged", "code")


def test_nothing_is_sent_outside_systemd_about_no_task_or_into_a_journal_that_is_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    assert not Journal({"JOURNAL_STREAM": "1:2"}, path).send(ROW)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(path)
        assert not Journal({}, path).send(ROW)
        assert not Journal({"JOURNAL_STREAM": "1:2"}, path).send({**ROW, "task": None})


def test_the_status_line_says_queue_runs_money_and_switch() -> None:
    found = {
        "project": "game",
        "roles": {"code": {"workers": [{"attempt": "A"}, {"attempt": None}]}},
        "budget": {"project": {"spent_usd": "1.25"}},
        "kill_switch": {"armed": True},
    }
    assert status_line(found, "7") == "STATUS=game: 7 waiting, 1 running, 1.25 USD spent, kill switch ARMED"
