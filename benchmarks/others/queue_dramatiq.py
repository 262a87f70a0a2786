"""Dramatiq on a Redis of its own: append-only file, appendfsync always, so that a task survives a power loss."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import common
import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

SOCKET = os.environ.get("BENCH_SCRATCH", ".") + "/redis.sock"
dramatiq.set_broker(RedisBroker(url=f"unix://{SOCKET}"))
filed = 0


@dramatiq.actor(max_retries=0)
def nothing():
    return None


def settings():
    return f"Dramatiq {version('dramatiq')} on Redis: appendonly, appendfsync always; one thread a worker process"


@contextmanager
def prepare(scratch):
    words = ["--port", "0", "--unixsocket", SOCKET, "--dir", str(scratch), "--save", ""]
    words += ["--appendonly", "yes", "--appendfsync", "always"]
    with (scratch / "redis.log").open("wb") as log:
        server = subprocess.Popen([os.environ["BENCH_REDIS"], *words], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while not Path(SOCKET).exists():
            assert time.monotonic() < deadline and server.poll() is None, "redis-server did not come up"
            time.sleep(0.05)
        yield
    finally:
        common.end(server)


def fill(scratch, tasks):
    for _ in range(tasks):
        nothing.send()
    if sys.argv[1] == "fill":
        redis.Redis(unix_socket_path=SOCKET).incrby("filed", tasks)
    else:
        globals()["filed"] += tasks


def done(scratch):
    """Filed less those whose message is still kept: it goes when the task is acknowledged. None may have failed."""
    with redis.Redis(unix_socket_path=SOCKET) as server, server.pipeline() as together:
        together.hlen("dramatiq:default.msgs").hlen("dramatiq:default.XQ.msgs").get("filed")
        kept, dead, elsewhere = together.execute()
    assert dead == 0, f"{dead} messages failed"
    return globals()["filed"] + int(elsewhere or 0) - kept


def workers(scratch, number):
    program = [sys.executable, "-m", "dramatiq", "queue_dramatiq"]
    return [[*program, "--processes", str(number), "--threads", "1"]]


if __name__ == "__main__":
    os.environ["BENCH_SCRATCH"] = sys.argv[2]
    import queue_dramatiq  # by the name under which the workers find the task

    common.main(queue_dramatiq)
