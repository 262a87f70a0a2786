"""huey's SqliteHuey: WAL with synchronous=FULL, results kept, so that a completion can be verified."""

import os
import sqlite3
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import common
from huey import SqliteHuey

huey = SqliteHuey("bench", filename=os.environ.get("BENCH_SCRATCH", ".") + "/huey.db", journal_mode="wal", fsync=True)


@huey.task()
def nothing():
    return 1


def settings():
    return f"SqliteHuey {version('huey')}: WAL, fsync=True, worker processes, results kept"


@contextmanager
def prepare(scratch):
    yield


def fill(scratch, tasks):
    for _ in range(tasks):
        nothing()


def done(scratch):
    with sqlite3.connect(scratch / "huey.db", timeout=30) as connection:
        return connection.execute("SELECT count(*) FROM kv").fetchone()[0]


def workers(scratch, number):
    consumer = str(Path(sys.executable).parent / "huey_consumer")
    consumer = consumer if Path(consumer).exists() else consumer + ".py"
    return [[consumer, "queue_huey.huey", "-w", str(number), "-k", "process", "-n", "-d", "0.01", "-m", "0.05"]]


if __name__ == "__main__":
    os.environ["BENCH_SCRATCH"] = sys.argv[2]
    huey.storage.close()
    import queue_huey  # by the name under which the consumer finds the task

    common.main(queue_huey)
