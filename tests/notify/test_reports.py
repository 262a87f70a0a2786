"""When reports are written and stale prices told: over restarts, missed runs, changed settings and clocks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from driving import Project, Supervisor

from producer import pricing
from producer.errors import UsageError
from producer.ledger.store import Store
from producer.ledger.views import Reader
from producer.supervisor import notices
from producer.supervisor.prices import Prices
from producer.supervisor.reports import Reports, write_report
from producer.wire.messages import Reply

Supervise = Callable[..., Supervisor]
BERLIN = ZoneInfo("Europe/Berlin")
HOUR = 3600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()


class Ground:
    """What the parts use of a kernel, over a real ledger with a clock of the test's own."""

    def __init__(self, project: Project, now: float, **report: Any) -> None:
        self.project, self.now, self.sent = project, now, list[tuple[bytes, Reply]]()
        self.set(**report)
        self.places = project.places.make()
        self.config.ledger_db.parent.mkdir(exist_ok=True)
        self.store = Store(self.config.ledger_db, head_file=None, clock=lambda: self.now)

    def set(self, **report: Any) -> None:
        self.project.configure({"code": None}, report={"timezone": "Europe/Berlin", **report})
        self.config = self.project.config()

    def audit(self, action: str, *, actor: str = "producer", **detail: Any) -> None:
        self.store.audit.append(action, actor, **detail)

    def notify(self, event: str, title: str, body: str, push: str = "") -> None:
        notices.put(self.store, self.config, event, title, body, push)

    def send(self, socket: str, address: bytes, message: Reply) -> None:
        self.sent.append((address, message))

    def actions(self, action: str) -> list[dict[str, Any]]:
        rows = self.store.db.rows("SELECT CAST(body AS TEXT) FROM audit WHERE action = ? ORDER BY seq", action)
        return [json.loads(text) for (text,) in rows]

    def ordered(self) -> int:
        """How many reports were ordered since the last time."""
        with self.store.transaction():
            return self.store.db.run("DELETE FROM outbox WHERE kind = 'report'")

    def tend(self, part: Reports | Prices) -> None:
        with self.store.transaction():
            part.tend()


@pytest.fixture
def ground(project: Project) -> Iterator[Ground]:
    made = Ground(project, at("2026-05-06T12:00"))
    yield made
    made.store.close()


def reports(ground: Ground) -> Reports:
    return Reports(ground)  # type: ignore[arg-type]


def hours_with_a_report(ground: Ground, hours: int, restart: bool) -> list[str]:
    """Go on for some hours, looking every quarter of one; the local times at which a report was ordered."""
    found, part = [], reports(ground)
    for _ in range(hours * 4):
        part = reports(ground) if restart else part
        ground.tend(part)
        if ground.ordered():
            found.append(datetime.fromtimestamp(ground.now, BERLIN).strftime("%d %H:%M"))
        ground.now += HOUR / 4
    return found


@pytest.mark.parametrize("restart", [False, True])
def test_the_first_comes_at_once_then_every_six_hours_and_at_the_time_of_day(ground: Ground, restart: bool) -> None:
    assert hours_with_a_report(ground, 24, restart) == ["06 12:00", "06 18:00", "07 00:00", "07 06:00", "07 07:00"]


def test_what_was_missed_is_made_up_for_once(ground: Ground) -> None:
    ground.tend(reports(ground))
    ground.ordered()
    ground.now += 100 * HOUR
    ground.tend(reports(ground))
    assert ground.ordered() == 1
    ground.tend(reports(ground))
    assert ground.ordered() == 0


def test_without_a_time_and_without_an_interval_there_is_none(ground: Ground) -> None:
    ground.set(time=None, every_hours=0)
    assert hours_with_a_report(ground, 30, restart=False) == []


def test_only_at_a_time_of_day_over_the_change_of_the_clocks(ground: Ground) -> None:
    ground.set(time="02:30", every_hours=0)
    ground.now = at("2026-03-28T12:00")
    assert hours_with_a_report(ground, 48, restart=True) == ["29 03:30", "30 02:30"]


def test_a_changed_time_counts_at_once(ground: Ground) -> None:
    ground.set(time="07:00", every_hours=0)
    part = reports(ground)
    ground.tend(part)
    ground.set(time="13:00", every_hours=0)
    ground.tend(part)
    ground.now += HOUR
    ground.tend(part)
    assert ground.ordered() == 1


def test_a_clock_that_is_set_back_stops_no_report(ground: Ground) -> None:
    ground.tend(reports(ground))
    ground.ordered()
    ground.now -= timedelta(days=300).total_seconds()
    assert len(hours_with_a_report(ground, 24, restart=True)) >= 4


def test_a_written_report_is_audited_and_answered(ground: Ground) -> None:
    with ground.store.transaction():
        reports(ground).ask(b"\x00peer", "C1", {"date": "2026-05-05"}, "alice")
    told = write(ground)
    assert told == [("done", {"path": str(ground.project.state / "morning-report-20260505.md"), "date": "2026-05-05"})]
    assert Path(told[0][1]["path"]).read_text().startswith("# testbed: morning report 2026-05-05")
    (row,) = ground.actions("morning_report")
    assert (row["actor"], row["detail"]) == ("alice", {"date": "2026-05-05", "file": "morning-report-20260505.md"})


def test_a_report_that_cannot_be_written_is_answered_with_the_reason(ground: Ground) -> None:
    (ground.project.state / "morning-report-20260505.md").mkdir()
    with ground.store.transaction():
        reports(ground).ask(b"\x00peer", "C1", {"date": "2026-05-05"}, "alice")
    ((what, answer),) = write(ground)
    assert what == "done" and "not written" in answer
    assert ground.actions("morning_report") == []


def test_a_date_that_is_none_is_refused_and_orders_nothing(ground: Ground) -> None:
    with pytest.raises(UsageError, match="is not a date"), ground.store.transaction():
        reports(ground).ask(b"peer", "C1", {"date": "yesterday"}, "alice")
    assert ground.ordered() == 0


def write(ground: Ground) -> list[tuple[str, Any]]:
    """Do what the courier and the loop do with the reports in the outbox; what became of each, and the answers."""
    found = []
    with Reader(ground.config.ledger_db) as reader:
        for entry in ground.store.outbox.due(ground.now, lane="files"):
            told = write_report(ground.config, ground.places, entry, reader)
            with ground.store.transaction():
                assert told.then
                told.then(ground)  # type: ignore[arg-type]
            address, reply = ground.sent[-1]
            assert address == b"\x00peer" and reply.call == "C1"
            found.append((told.what, reply.result if reply.ok else reply.error))
    return found


# ---- prices


def prices(ground: Ground, last_updated: str | None = None) -> Prices:
    if last_updated:
        table = {**pricing.bundled(), "last_updated": last_updated}
        (ground.places.state / "pricing.json").write_text(json.dumps(table, default=float))
    return Prices(ground)  # type: ignore[arg-type]


def test_stale_prices_are_told_once_a_day(ground: Ground) -> None:
    for hour in range(0, 72, 6):
        ground.now = at("2026-05-06T12:00") + hour * HOUR
        ground.tend(prices(ground, "2026-02-01"))
    assert [row["detail"]["age_days"] for row in ground.actions("pricing_stale")] == [94, 95, 96, 97]
    assert {row["detail"]["event"] for row in ground.actions("notify_human")} == {"pricing"}


@pytest.mark.parametrize(("days", "rows"), [(90, 0), (91, 1)])
def test_prices_are_stale_after_ninety_days(ground: Ground, days: int, rows: int) -> None:
    ground.tend(prices(ground, f"{datetime.fromtimestamp(ground.now) - timedelta(days=days):%Y-%m-%d}"))
    assert len(ground.actions("pricing_stale")) == rows


def test_prices_that_cannot_be_read_are_told_of(ground: Ground) -> None:
    (ground.places.state / "pricing.json").write_text("{")
    ground.tend(prices(ground))
    assert ground.actions("pricing_stale") == []
    (row,) = ground.actions("notify_human")
    assert row["detail"]["title"] == "the price table cannot be read"


# ---- the process


def test_a_run_writes_the_report_tells_of_stale_prices_and_a_restart_repeats_neither(
    project: Project, supervise: Supervise
) -> None:
    project.configure({"code": None}, report={"timezone": "UTC"})
    table = {**pricing.bundled(), "last_updated": "2020-01-01"}
    (project.places.make().state / "pricing.json").write_text(json.dumps(table, default=float))
    supervisor = supervise().ready()
    row = supervisor.until_action("morning_report")
    text = (project.state / row["detail"]["file"]).read_text()
    assert "days old" in text, "the banner"
    supervisor.until_action("pricing_stale")
    supervisor.until(lambda: "the price table is out of date" in project.attention())
    supervisor.stop()
    again = supervise().ready()
    found = again.ask("morning_report", actor="alice")
    assert Path(found["path"]).exists()
    again.until(lambda: len(project.actions("morning_report")) > 1)
    assert [row["actor"] for row in project.actions("morning_report")] == ["producer", "alice"]
    assert len(project.actions("pricing_stale")) == 1
    with pytest.raises(UsageError, match="is not a date"):
        again.ask("morning_report", date="2026-13-01")
    assert again.ask("morning_report", date="2026-05-05")["date"] == "2026-05-05"
