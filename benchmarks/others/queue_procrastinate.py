"""Procrastinate on a PostgreSQL of its own: initdb's settings, so fsync and synchronous_commit are on."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import common
import procrastinate
import psycopg

SCRATCH = os.environ.get("BENCH_SCRATCH", ".")
WHERE = f"host={SCRATCH} port=5432 user=postgres dbname=postgres"
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=WHERE))


@app.task(name="nothing")
async def nothing():
    return None


def settings():
    return f"Procrastinate {version('procrastinate')} on PostgreSQL: as initdb sets it; one job at a time a process"


@contextmanager
def prepare(scratch):
    bin_dir, data = Path(os.environ["BENCH_POSTGRES"]), scratch / "data"
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.geteuid() == 0 else []
    if as_user:
        subprocess.run(["chown", "postgres", str(scratch)], check=True)
        scratch.chmod(0o755)
    log = (scratch / "postgres.log").open("wb")
    given = {"stdout": log, "stderr": log, "cwd": scratch}
    subprocess.run([*as_user, bin_dir / "initdb", "-D", data, "-U", "postgres", "-A", "trust"], check=True, **given)
    words = [bin_dir / "postgres", "-D", data, "-k", scratch, "-c", "listen_addresses="]
    server = subprocess.Popen([*as_user, *words], **given)
    try:
        for attempt in range(200):
            try:
                psycopg.connect(WHERE).close()
                break
            except psycopg.OperationalError:
                assert attempt < 199 and server.poll() is None, "PostgreSQL did not come up"
                time.sleep(0.1)
        with procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=WHERE)).open() as sync:
            sync.schema_manager.apply_schema()
        yield
    finally:
        server.send_signal(2)  # a fast shutdown
        common.end(server)


def fill(scratch, tasks):
    with app.replace_connector(procrastinate.SyncPsycopgConnector(conninfo=WHERE)) as sync, sync.open():
        for _ in range(tasks):
            sync.configure_task("nothing").defer()


def done(scratch):
    with psycopg.connect(WHERE) as connection:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        return connection.execute(query).fetchone()[0]


def workers(scratch, number):
    return [[sys.executable, __file__, "serve", str(scratch), "1"]] * number


async def serve():
    async with app.open_async():
        await app.run_worker_async(concurrency=1, delete_jobs="never", update_heartbeat_interval=10)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve())
        sys.exit()
    if "BENCH_SCRATCH" not in os.environ or os.environ["BENCH_SCRATCH"] != sys.argv[2]:
        os.environ["BENCH_SCRATCH"] = sys.argv[2]
        os.execv(sys.executable, [sys.executable, *sys.argv])
    common.main(sys.modules["__main__"])
