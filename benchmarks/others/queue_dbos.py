"""DBOS on SQLite: durable workflows in a queue, one process with as many workers as told; its defaults otherwise."""

import os
import sqlite3
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version

import common


def settings():
    return f"DBOS {version('dbos')} on SQLite: its defaults, queue polled every 10 ms, one executor process"


def url(scratch):
    return f"sqlite:///{scratch}/dbos.db"


@contextmanager
def prepare(scratch):
    serve(scratch, 1, for_good=False)
    yield


def fill(scratch, tasks):
    from dbos import DBOSClient

    client = DBOSClient(system_database_url=url(scratch))
    for _ in range(tasks):
        client.enqueue({"queue_name": "bench", "workflow_name": "nothing"})
    client.destroy()


def done(scratch):
    with sqlite3.connect(scratch / "dbos.db", timeout=30) as connection:
        return connection.execute("SELECT count(*) FROM workflow_status WHERE status = 'SUCCESS'").fetchone()[0]


def workers(scratch, number):
    return [[sys.executable, __file__, "serve", str(scratch), str(number)]]


def serve(scratch, number, for_good=True):
    from dbos import DBOS

    DBOS(config={"name": "bench", "system_database_url": url(scratch), "run_admin_server": False})

    @DBOS.workflow(name="nothing")
    def nothing():
        return 1

    DBOS.launch()
    DBOS.register_queue("bench", worker_concurrency=number, polling_interval_sec=0.01)
    while for_good:
        time.sleep(1)
    DBOS.destroy()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    os.environ["BENCH_SCRATCH"] = sys.argv[2]
    common.main(sys.modules["__main__"])
