"""Runs inside an environment in which ai-producer 0.3.5 is installed, and uses it as its users do.

python old_producer.py fill CONFIG      tasks in all states, decisions, assets, budget and audit rows
python old_producer.py read LEDGER      what 0.3.5 reads there, as JSON
python old_producer.py hold LEDGER      keep a client open until stdin ends
"""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from producer import (
    BudgetTracker,
    InvocationResult,
    KillSwitchWatcher,
    LedgerClient,
    Producer,
    load_config,
)


class Invoker:
    """Answers as the title of the task says, without a model."""

    async def invoke(self, **asked):
        prompt = asked["prompt"]
        if "Title: fails" in prompt:
            raise RuntimeError("the model | said no\n")
        return InvocationResult(text="made out.py", cost_usd=0.1234567, actual_cost_usd=0.1)


def fill(config_file):
    config = load_config(Path(config_file))
    ledger = LedgerClient(config.ledger_db)
    done = ledger.insert_task(agent_owner="code", title="works", description="d", payload={"ключ": [1, None, "π"]})
    ledger.insert_task(
        agent_owner="qa", title="follows", description="multi\nline | pipe", dependencies=[done], parent_task_id=done,
        sprint_id="s1", priority=1, caused_by_task_id=done,
    )  # fmt: skip
    ledger.insert_task(agent_owner="code", title="fails", description="d", task_id="FAILS-1")
    ledger.insert_task(agent_owner="nobody", title="has no role", description="d")
    switch = KillSwitchWatcher(config.kill_switch)
    producer = Producer(config=config, ledger=ledger, invoker=Invoker(), kill_switch=switch)
    for _ in range(4):  # the third failure escalates
        asyncio.run(producer.run_once())
    ledger.insert_task(agent_owner="code", title="left in progress", description="d", task_id="LEFT-1")
    ledger.claim_task("LEFT-1", "code")
    ledger.insert_task(agent_owner="code", title="failed by a script", description="d", task_id="FAILED-1")
    ledger.claim_task("FAILED-1", "code")
    ledger.fail_task("FAILED-1", "no luck")
    ledger.insert_task(agent_owner="code", title="killed", description="d", task_id="KILLED-1")
    ledger.kill_task("KILLED-1", "not wanted")
    ledger.insert_task(agent_owner="qa", title="waits for the dead", description="d", dependencies=["KILLED-1"])
    ledger.insert_task(
        agent_owner="qa", title="waits for nobody", description="d", dependencies=["NOT-THERE"], task_id="W"
    )
    ledger.insert_task(agent_owner="qa", title="this", description="d", dependencies=["THAT"], task_id="THIS")
    ledger.insert_task(agent_owner="qa", title="that", description="d", dependencies=["THIS"], task_id="THAT")
    ledger.insert_task(agent_owner="qa", title="evil", description="d", task_id="../../evil", priority=17)
    ledger.record_decision(
        task_id="../../evil", agent_owner="qa", kind="choice", decision_text="это", rationale="r", artifact="a.md"
    )
    for number in range(3):
        ledger.record_asset(
            asset_type="art", path=f"a{number}.png", agent_id="qa", cost_usd=0.1 * number, wall_clock_seconds=1.25,
            prompt="p", seed="7", api="x", model="m", model_version="1", critic_verdicts=[{"ok": True}], sha256="00",
            task_id=done, disposition="pending_qa",
        )  # fmt: skip
    tracker = BudgetTracker(ledger, role_caps=config.role_caps_dict(), project_ceiling_usd=200.0)
    for _ in range(7):
        tracker.record_spend("qa", 0.1, task_id=done, api="fal.ai")
    ledger.append_audit(agent_owner="qa", action="note", detail={"text": 'пайп | и "кавычки"\n'}, cost_usd=1e-7)
    ledger.seed_from_json(Path(config_file).with_name("seed_tasks.example.json"))
    ledger.close()


def few(path):
    ledger = LedgerClient(path)
    first = ledger.insert_task(agent_owner="code", title="first", description="d")
    ledger.insert_task(agent_owner="code", title="second", description="d", task_id="T-1", dependencies=[first])
    ledger.insert_task(agent_owner="qa", title="third", description="d", dependencies=["T-1"])
    ledger.close()


def read(path):
    ledger = LedgerClient(path)
    ids = [row["id"] for row in ledger.conn.execute("SELECT id FROM tasks ORDER BY rowid")]
    found = {
        "tasks": [asdict(ledger.get_task(ident)) for ident in ids],
        "ready": [task.id for task in ledger.list_ready_tasks()],
        "spent": ledger.total_spend_today(),
        "head": ledger.latest_audit_hash(),
        "inserted": ledger.count_audit_events(action="task_inserted"),
    }
    print(json.dumps(found))


def hold(path):
    ledger = LedgerClient(path)
    print("ready", flush=True)
    sys.stdin.read()
    ledger.close()


if __name__ == "__main__":
    {"fill": fill, "few": few, "read": read, "hold": hold}[sys.argv[1]](sys.argv[2])
