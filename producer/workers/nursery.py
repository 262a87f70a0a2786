"""Starts workers by fork: what a worker imports is imported once, here, and shared by all of them.

    python -m producer.workers.nursery INVOKER        with one end of a socket pair as its stdin

1. It says `ready` once everything is imported, and known which sandboxes work here. A line
   `{"arguments": [...], "log": PATH}` is answered by the pid of a new worker, which is a process of its own: session,
   output, keys and sockets; nothing is opened before the fork.
2. It holds no key and no socket but that one, runs no thread, and leaves when the supervisor closes it or dies. The
   workers stay: they are no more to it than its children.
3. A worker sees the environment that the nursery was started with, so that its marks are found in /proc as ever.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> int:
    """Serve until the other end closes; in a worker, its whole life."""
    control = socket.socket(fileno=os.dup(0))
    worker: Any = import_module("producer.workers.__main__")
    if sys.argv[1] == "claude":
        import_module("producer.workers.claude").survey()
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them; who wants to know has a pidfd
    control.sendall(b"ready\n")
    request = _serve(control)
    return 0 if request is None else int(worker.main(request))


def _serve(control: socket.socket) -> list[str] | None:
    """Fork for every request. Returns a worker's arguments in the worker, None in the nursery at its end."""
    with control, control.makefile("rb") as lines:
        for line in lines:
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                return _begin(request)
            control.sendall(b"%d\n" % pid)
    return None


def _begin(request: dict[str, Any]) -> list[str]:
    """Become a process of its own, as a fresh one would be."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    log = Path(request["log"])
    os.chdir(log.parent)
    for descriptor, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, log, os.O_WRONLY | os.O_APPEND),
    ):
        fresh = os.open(path, flags | os.O_CLOEXEC, 0o600)
        os.dup2(fresh, descriptor)
        os.close(fresh)
    sys.argv[1:] = arguments = [str(argument) for argument in request["arguments"]]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
