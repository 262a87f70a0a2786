from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_rig import Project

from producer import killswitch
from producer.core.money import parse_usd
from producer.errors import UsageError
from producer.ids import from_iso, utc_date, utc_today
from producer.ledger.report import Caps, Report, build, parse_date, write
from producer.ledger.report_text import as_json, render
from producer.ledger.store import Store

CAPS = Caps("testbed", parse_usd(10), 0.8, {"code": parse_usd(2), "qa": parse_usd(3)})
NOON = from_iso("2026-05-06T12:00:00Z")
HOUR = 3600.0


class Ledger:
    """A ledger whose clock the test sets."""

    def __init__(self, path: Path) -> None:
        self.now = NOON
        self.path = path
        self.store = Store(path, head_file=None, clock=lambda: self.now)

    def do(self, operation: str, at: float | None = None, **arguments: object) -> object:
        from producer.ledger.operations import Context, perform

        self.now = NOON if at is None else at
        with self.store.transaction():
            return perform(self.store, operation, arguments, Context())

    def add(self, title: str, role: str = "code", **more: object) -> str:
        draft = {"agent_owner": role, "title": title, "description": "d", **more}
        ids = self.do("insert_tasks", tasks=[draft])
        assert isinstance(ids, list)
        return str(ids[0])

    def finish(
        self, title: str, *, role: str = "code", cost: object = 0, at: float | None = None, **more: object
    ) -> str:
        ident = self.add(title, role)
        self.do("claim_task", at, task_id=ident, agent_owner=role)
        self.do("complete_task", at, task_id=ident, cost_usd=cost, **more)
        return ident

    def report(self, date: str | None = None, now: float = NOON, **more: object) -> Report:
        from producer.ledger import Reader

        with Reader(self.path) as reader:
            return build(reader, CAPS, date, now=now, **more)  # type: ignore[arg-type]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def test_counts_are_true_beyond_what_is_listed(ledger: Ledger) -> None:
    for number in range(60):
        ledger.finish(f"task {number}", role="code" if number % 3 else "qa")
    text = render(ledger.report())
    assert "## Shipped overnight (60 tasks)" in text and "- and 10 more" in text
    assert "By role: code 40, qa 20" in text
    assert text.count("- **task") == 50


def test_an_empty_day_has_every_section(ledger: Ledger) -> None:
    text = render(ledger.report())
    for section in (
        "Shipped overnight (0 tasks)",
        "Awaiting your sign-off",
        "Spend",
        "Assets registered today",
        "Anomalies",
    ):
        assert f"## {section}" in text
    assert "Hard-failed" not in text and "Pricing drift" not in text


def test_a_night_is_in_the_report_whatever_the_time_zone(ledger: Ledger) -> None:
    ledger.finish("last evening", at=NOON - 20 * HOUR)
    ledger.finish("the evening before", at=NOON - 30 * HOUR)
    today = render(ledger.report())
    assert "last evening" in today and "the evening before" not in today
    yesterday = render(ledger.report("2026-05-05"))
    assert "last evening" in yesterday and "the evening before" in yesterday


def test_caps_are_marked(ledger: Ledger) -> None:
    ledger.finish("dear", role="code", cost="2")
    ledger.finish("nearly", role="qa", cost="2.4")
    rows = {row.role: row for row in ledger.report().spend}
    assert rows["code"].mark == "CAP HIT" and rows["qa"].mark == "soft cap"
    text = render(ledger.report())
    assert "| code | $2.00 | $0.00 | $2.00 | **[CAP HIT]** |" in text
    assert "| qa | $2.40 | $0.00 | $3.00 | (soft cap) |" in text
    assert "| project | $4.40 | $0.00 | $10.00 |  |" in text
    ledger.finish("more", role="qa", cost="3.6")
    assert any("of the project's ceiling" in text for text in ledger.report().anomalies)


def test_the_spend_is_that_of_the_day(ledger: Ledger) -> None:
    ledger.finish("yesterday's", cost="1.5", at=NOON - 24 * HOUR)
    assert ledger.report().total.spent == 0
    assert ledger.report("2026-05-05").total.spent == 1_500_000


def test_what_waits_for_a_person_is_listed_with_its_reason(ledger: Ledger) -> None:
    escalated = ledger.add("Unclear")
    ledger.do("escalate_task", task_id=escalated, reason="two specs disagree")
    approval = ledger.add("Deploy", requires_approval=True)
    blocked = ledger.add("Later", role="qa", dependencies=[escalated])
    ledger.add("Much later", role="qa", dependencies=[blocked])
    text = render(ledger.report())
    assert f"**Unclear** by code: two specs disagree `{escalated}`" in text
    assert "Awaiting your sign-off (2)" in text and f"**Deploy** by code `{approval}`" in text
    assert "## Blocked (1 task)" in text, "a task that only waits its turn is not blocked"
    assert f"**Later** by qa: needs {escalated} is escalated `{blocked}`" in text


def test_failures_and_held_roles_are_told(ledger: Ledger) -> None:
    failed = ledger.add("Broken")
    ledger.do("claim_task", task_id=failed, agent_owner="code")
    ledger.do("fail_task", task_id=failed, error_summary="it broke")
    with ledger.store.transaction():
        ledger.store.roles.declare({"code": 1, "qa": 1})
        ledger.store.roles.set_state("qa", "throttled", until=NOON + HOUR, reason="usage limit")
    report = ledger.report()
    text = render(report)
    assert f"## Hard-failed (1)\n\n- **Broken** by code: it broke `{failed}`" in text
    assert "Role qa is throttled: usage limit until 2026-05-06T13:00:00.000Z" in text
    assert "## Usage limits met\n\n- qa: 1 time" in text
    assert any("1 attempt ended as failed" in text for text in report.anomalies)


def test_computed_and_reported_cost_are_compared(ledger: Ledger) -> None:
    ledger.finish("a", cost="1.1", actual_cost_usd="1.0")
    ledger.finish("b", cost="5")  # reported by nobody: not compared
    assert "- code: computed $1.10, reported $1.00 (+10.0 %)" in render(ledger.report())


def test_runs_that_hang_and_an_armed_switch_are_anomalies(ledger: Ledger) -> None:
    ledger.do("claim_task", at=NOON - 2 * HOUR, task_id=ledger.add("slow"), agent_owner="code")
    ledger.do("claim_task", task_id=ledger.add("quick"), agent_owner="code")
    switch = killswitch.SwitchState(True, reason="look first")
    found = ledger.report(switch=switch).anomalies
    assert found[0] == "The kill switch is ARMED: look first"
    assert "in progress at report time: 2 tasks, 1 for more than an hour" in found


def test_a_stale_price_table_is_a_banner(ledger: Ledger) -> None:
    lines = render(ledger.report(pricing_note="The price table is 91 days old")).splitlines()
    assert lines[2] == "> **The price table is 91 days old**"


def test_text_of_agents_cannot_shape_the_report(ledger: Ledger) -> None:
    ledger.finish("# Head\n## Spend\n| x | **bold** <script> `code` \x1b[31m\u202e")
    text = render(ledger.report())
    assert text.count("\n## Spend\n") == 1 and "<script>" not in text.replace(r"\<script\>", "")
    assert "\x1b" not in text and "\u202e" not in text


def test_the_json_holds_exact_money_as_text(ledger: Ledger) -> None:
    ledger.finish("one", cost="0.1234567")
    ledger.do("record_asset", asset_type="art", path="a.png", agent_id="code", task_id=None, cost_usd="0.05")
    data = json.loads(json.dumps(as_json(ledger.report())))
    assert data["total"]["spent_usd"] == "0.123457" and data["total"]["cap_usd"] == "10.00"
    assert data["shipped"]["total"] == 1 and data["shipped"]["tasks"][0]["cost_usd"] == "0.123457"
    assert data["assets"] == [{"type": "art", "count": 1, "cost_usd": "0.05"}]


def test_a_report_is_replaced_whole(ledger: Ledger, tmp_path: Path) -> None:
    path = write(ledger.report(), tmp_path / "reports")
    ledger.finish("new")
    assert write(ledger.report(), tmp_path / "reports") == path
    assert path.name == "morning-report-20260506.md" and "new" in path.read_text()
    assert [item.name for item in path.parent.iterdir()] == [path.name], "something was left beside it"


@pytest.mark.parametrize(
    "text", ["", "2026-5-6", "2026-02-30", "06.05.2026", "2026-05-06T00:00", "20260506", "２０２６-05-06"]
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a date"):
        parse_date(text)
    assert parse_date("2026-05-06") == "2026-05-06"


def test_the_command_prints_the_path(project: Project) -> None:
    project.add()
    path = Path(project.out("report"))
    assert path == project.path / "agent-state" / f"morning-report-{utc_today().replace('-', '')}.md"
    assert path.read_text().startswith("# testbed: morning report")
    assert Path(project.out("report", "--date", "2026-05-06")).name == "morning-report-20260506.md"
    data = json.loads(project.out("report", "--json"))
    assert data["date"] == utc_today() and Path(data["path"]) == path
    with project.reader() as reader:
        row = reader.audit_tail(1)[0]
    assert row["action"] == "morning_report" and row["detail"]["file"] == path.name


def test_the_day_of_a_report_is_utc() -> None:
    assert utc_date(from_iso("2026-05-06T23:59:59+00:00")) == "2026-05-06"
