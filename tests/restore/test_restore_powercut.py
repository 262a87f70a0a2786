"""A machine that goes down in the middle of a model request: what nobody wrote down is paid for all the same."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import apsw
import pytest
from driving import Project, carriers, until
from rehearsing import LONG, rehearse, with_shell

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
UNDER_WAY = {"code": {"*": [{"text": "At last.", "delay_seconds": 600}]}}
QUICK = {"code": {"*": [{"text": "Done."}]}}


def cut(project: Project) -> None:
    """Everything is gone at once."""
    for _ in range(50):
        left = carriers(project.places.key)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not left:
            return
    raise AssertionError("something cannot be killed")


def set_boot(project: Project, value: str) -> None:
    ledger = apsw.Connection(str(project.state / "ledger.db"))
    ledger.execute("UPDATE meta SET value = ? WHERE key = 'boot'", (value,))
    ledger.close()


@pytest.mark.parametrize(
    ("rebooted", "written", "charged"),
    [(True, False, True), (False, False, False), (True, True, True), (False, True, True)],
)
def test_a_request_under_way_is_charged_once(
    project: Project, supervise, rebooted: bool, written: bool, charged: bool
) -> None:
    project.configure({"code": with_shell()})
    supervisor = rehearse(supervise, project, UNDER_WAY)
    task = project.file_task("wait")
    journal = project.places.journal
    supervisor.until(lambda: [f for f in journal.glob("*.jsonl") if b"Opened" in f.read_bytes()], LONG, "a request")
    ((request, grant),) = project.rows("SELECT request, amount FROM reservations")
    supervisor.kill()
    cut(project)
    if not written:  # the page cache went with the machine
        for file in journal.glob("*.jsonl"):
            file.unlink()
    if rebooted:
        set_boot(project, "another")
    again = rehearse(supervise, project, QUICK)
    again.until_status(task, "done")
    booked = project.rows(f"SELECT cost_micros, exact FROM meter WHERE request = '{request}'")
    assert [(0 < cost <= grant, exact) for cost, exact in booked] == [(True, 0)] * charged
    if charged and not written:
        assert booked[0][0] == grant
    assert len(project.actions("grant_without_a_line")) == (rebooted and not written)
    until(lambda: project.rows("SELECT 1 FROM attempts WHERE held_micros > 0") == [], what="nothing held")
    assert again.stop() == 0
    project.books_balance()
