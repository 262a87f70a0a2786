"""ai-producer 0.3.5: its Producer with an invoker that does nothing; one process, one task at a time, no fsync.

BENCH_PAUSE: seconds between its ticks, each of at most 50 tasks; by its own default they are 10.
"""

import asyncio
import os
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
PAUSE = os.environ.get("BENCH_PAUSE", "")


class Nothing:
    async def invoke(self, **asked):
        return InvocationResult(text="nothing", cost_usd=0.0001, actual_cost_usd=0.0001)


def settings():
    how = "synchronous=NORMAL, one process, one task at a time"
    pause = f"its pause between ticks cut to {PAUSE} s" if PAUSE else "its pause of 10 s between ticks of 50 tasks"
    return f"ai-producer {version('ai-producer')}: as it comes ({how}), {pause}"


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
    """Its own loop; with another pause its ticks, and the pause only where there was nothing to do."""
    settings = config(scratch)
    ledger, switch = LedgerClient(settings.ledger_db), KillSwitchWatcher(settings.kill_switch)
    producer = Producer(config=settings, ledger=ledger, invoker=Nothing(), kill_switch=switch)
    if not PAUSE:
        await producer.run()
    while True:
        if not await producer._tick():
            await asyncio.sleep(float(PAUSE))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    common.main(sys.modules["__main__"])
