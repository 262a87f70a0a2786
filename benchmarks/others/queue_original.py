"""ai-producer 0.3.5: its Producer with an invoker that does nothing; one process, one task at a time, no fsync."""

import asyncio
import sqlite3
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import common
import yaml

from producer import InvocationResult, KillSwitchWatcher, LedgerClient, Producer, load_config

CONFIG = {
    "project_name": "benchmark",
    "budget": {
        "project_ceiling_usd": 1000000,
        "agents": {
            name: {"daily_cap_usd": 1000000, "allowed_tools": [], "dispatch_reservation_usd": 0.01}
            for name in ("producer", "work")
        },
    },
}


class Nothing:
    async def invoke(self, **asked):
        return InvocationResult(text="nothing", cost_usd=0.0001, actual_cost_usd=0.0001)


def settings():
    return f"ai-producer {version('ai-producer')}: as it comes (synchronous=NORMAL, one process, one task at a time)"


def config(scratch):
    return load_config(Path(scratch) / "producer.yaml")


@contextmanager
def prepare(scratch):
    (scratch / "producer.yaml").write_text(yaml.safe_dump(CONFIG))
    LedgerClient(config(scratch).ledger_db).close()
    yield


def fill(scratch, tasks):
    ledger = LedgerClient(config(scratch).ledger_db)
    for number in range(tasks):
        ledger.insert_task(agent_owner="work", title=f"task {number}", description="nothing")
    ledger.close()


def done(scratch):
    with sqlite3.connect(config(scratch).ledger_db, timeout=30) as connection:
        return connection.execute("SELECT count(*) FROM tasks WHERE status = 'done'").fetchone()[0]


def workers(scratch, number):
    return [[sys.executable, __file__, "serve", str(scratch), "1"]]


async def serve(scratch):
    """Ticks without its pause between them, which would be seconds: the better figure for it."""
    settings = config(scratch)
    ledger, switch = LedgerClient(settings.ledger_db), KillSwitchWatcher(settings.kill_switch)
    producer = Producer(config=settings, ledger=ledger, invoker=Nothing(), kill_switch=switch)
    while True:
        if not await producer._tick():
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    common.main(sys.modules["__main__"])
