from __future__ import annotations

import json

from cli_rig import Project

from producer.ids import utc_today


def test_spent_held_and_caps_by_role_and_by_day(project: Project) -> None:
    ident = project.add()
    with project.client() as ledger:
        ledger.claim_task(ident, "code")
        ledger.complete_task(ident, cost_usd=0.5)
        ledger.update_budget("qa", 0.25, hard_cap_usd=3, soft_cap_ratio=0.8)
    found = json.loads(project.out("budget", "--json"))
    assert found["date"] == utc_today()
    assert found["project"] == {"spent_usd": "0.75", "held_usd": "0.00", "cap_usd": "10.00"}
    assert found["roles"]["code"] == {"spent_usd": "0.50", "held_usd": "0.00", "cap_usd": "2.00"}
    assert {(row["role"], row["spent_usd"]) for row in found["days"]} == {("code", "0.50"), ("qa", "0.25")}
    text = project.out("budget")
    assert "$0.75" in text and "$10.00" in text and utc_today() in text


def test_a_bad_number_of_days_is_refused(project: Project) -> None:
    assert "--days" in project.refused("budget", "--days", "0")
