"""ai-producer 0.3.5: its Producer with an invoker that does nothing; one process, one task at a time.

BENCH_FSYNC: with synchronous=FULL, as durable as ours. By itself it has NORMAL: a power loss takes what was committed.
BENCH_PAUSE: its poll_interval_seconds, between ticks of at most 50 tasks; by its own default they are 10.
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
FSYNC, PAUSE = os.environ.get("BENCH_FSYNC", ""), os.environ.get("BENCH_PAUSE", "")
if PAUSE:
    CONFIG |= {"poll_interval_seconds": float(PAUSE), "idle_threshold_polls": 10**9}  # it must not wake itself up


class Nothing:
    async def invoke(self, **asked):
        return InvocationResult(text="nothing", cost_usd=0.0001, actual_cost_usd=0.0001)


def settings():
    pause = f"poll_interval_seconds cut to {PAUSE}" if PAUSE else "its pause of 10 s between ticks of 50 tasks"
    how = "synchronous=FULL set from outside" if FSYNC else "synchronous=NORMAL"
    return f"ai-producer {version('ai-producer')}: {how}, one process, one task at a time, {pause}"


def config(scratch):
    return load_config(Path(scratch) / "producer.yaml")


def opened(scratch):
    ledger = LedgerClient(config(scratch).ledger_db)
    if FSYNC:
        ledger.conn.execute("PRAGMA synchronous = FULL")
    return ledger


@contextmanager
def prepare(scratch):
    (scratch / "producer.yaml").write_text(yaml.safe_dump(CONFIG))
    opened(scratch).close()
    yield


def fill(scratch, tasks):
    ledger = opened(scratch)
    for number in range(tasks):
        ledger.insert_task(agent_owner="work", title=f"task {number}", description="nothing")
    ledger.close()


def done(scratch):
    with sqlite3.connect(config(scratch).ledger_db, timeout=30) as connection:
        return connection.execute("SELECT count(*) FROM tasks WHERE status = 'done'").fetchone()[0]


def workers(scratch, number):
    return [[sys.executable, __file__, "serve", str(scratch), "1"]]


async def serve(scratch):
    settings = config(scratch)
    switch = KillSwitchWatcher(settings.kill_switch)
    await Producer(config=settings, ledger=opened(scratch), invoker=Nothing(), kill_switch=switch).run()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(sys.argv[2]))
    common.main(sys.modules["__main__"])
