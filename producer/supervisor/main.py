"""From a configuration to a running supervisor: the lock, the private directories, the ledger, the sockets, signals.

A ledger that cannot be written for a while (a full disk, an I/O error) does not end the supervisor: the loop is built
anew from the ledger, with a growing pause, as if it had crashed. The workers notice no more than a new supervisor.
Nor does a message that breaks the loop, which is tried once more and then dropped (suspects.py).
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from producer.config import ProducerConfig
from producer.config.environment import project_env
from producer.errors import LedgerError, LedgerUnusable, SupervisorRunning, UsageError
from producer.ledger.lock import Holder, Lock
from producer.ledger.store import Store
from producer.places import IPC, Places
from producer.prctl import become_subreaper
from producer.supervisor.auth import Auth, decide
from producer.supervisor.kernel import Kernel, RunOptions
from producer.supervisor.loop import Loop
from producer.supervisor.prices import check_models
from producer.supervisor.sandboxes import check as check_sandboxes
from producer.supervisor.suspects import Suspects
from producer.supervisor.systemd import Notifier
from producer.supervisor.workspaces import check as check_workspaces
from producer.version import __version__
from producer.wire.auth import Keys
from producer.wire.server import Server

LOCK_PATIENCE = 3.0
FILES = 8192
RESTARTED = "AI_PRODUCER_RESTARTED"  # set across the exec of a restart: how many workers the roles named
LONGEST_PAUSE = 30.0
log = logging.getLogger("producer.supervisor")


def run(config: ProducerConfig, options: RunOptions) -> int:
    """Serve one project until told to stop; the exit code. Call it in the main thread.

    Raises SupervisorRunning, LedgerUnusable, AuthError, ConfigError, PricingError, UsageError, PathTooLong,
    CannotListen: nothing was started.
    """
    if (before := os.environ.pop(RESTARTED, None)) is not None:
        options = replace(options, workers={}, before=json.loads(before))
    unknown = set(options.workers) - set(config.roles)
    if unknown:
        raise UsageError(f"--workers: no role {min(unknown)!r}: use one of {', '.join(config.roles)}")
    env = project_env(config)
    auth = decide(config, options, env)
    places = Places.of(config.ledger_db, env)
    if config.sockets == IPC:
        places.socket_path("control")  # the longest of them
    check_models(config, places, auth)
    check_sandboxes(config, auth)
    check_workspaces(config)
    config.ledger_db.parent.mkdir(parents=True, exist_ok=True)
    places.make()
    lock = Lock(places.lock)
    _take(lock, places)
    os.umask(0o077)
    become_subreaper()
    _more_files()
    try:
        with _signals() as (pending, wake_fd):
            how, code = _serve(config, options, env, auth, places, pending, wake_fd)
    finally:
        lock.release()
    if how == "restart":
        os.environ[RESTARTED] = json.dumps({name: role.workers for name, role in config.roles.items()})
        os.execv(sys.executable, [sys.executable, "-P", "-m", "producer", *sys.argv[1:]])
    return code


def _more_files() -> None:
    """Every worker and every command costs a few open files, and 1,024 is all that many systems give at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _take(lock: Lock, places: Places) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while not lock.acquire(Holder("supervisor", os.getpid(), time.time(), __version__)):
        holder = lock.holder()
        if (holder and holder.kind == "supervisor" and holder.pid) or time.monotonic() > deadline:
            raise SupervisorRunning(places.ledger, str(holder))
        time.sleep(0.02)


def _serve(
    config: ProducerConfig,
    options: RunOptions,
    env: Mapping[str, str],
    auth: Auth,
    places: Places,
    pending: deque[int],
    wake_fd: int,
) -> tuple[str, int]:
    pause = 0.5
    keys = Keys(places)
    keys.ensure()
    notifier, suspects = Notifier(env), Suspects()
    while True:
        store: Store | None = None
        server: Server | None = None
        loop: Loop | None = None
        began = time.monotonic()
        try:
            store = Store(places.ledger, head_file=places.state / "audit.head")
            store.db.fold_beside()
            server = Server(places, keys, config.sockets)
            kernel = Kernel(config, options, env, places, keys, store, server)
            loop = Loop(kernel, auth, pending, wake_fd, notifier, suspects)
            how = loop.run()
            survivors = loop.dismiss() if how == "stop" else 0
            loop.seal(how)
            return how, int(bool(survivors or (options.once and loop.escalations())))
        except LedgerUnusable:
            raise
        except Exception as error:
            if broken := suspects.news():
                more = {"broken": broken, "seconds": pause}
                log.exception("a message broke the loop; beginning anew", extra=more)
            elif isinstance(error, LedgerError):
                more = {"error": error, "seconds": pause}
                log.error("the ledger cannot be written; trying again", extra=more)
            else:
                raise
            pause = 0.5 if time.monotonic() - began > 60 else min(LONGEST_PAUSE, pause * 2)
            options = replace(options, workers={}, before={name: role.workers for name, role in config.roles.items()})
        finally:
            if loop:
                loop.let_go()
            if server:
                server.close()
            if store:
                store.close()
        time.sleep(pause)
        if signal.SIGTERM in pending or signal.SIGINT in pending:
            return "stop", 1


@contextmanager
def _signals() -> Iterator[tuple[deque[int], int]]:
    """Signals only enqueue: a number into the deque, a byte into the pipe that the poller watches."""
    pending: deque[int] = deque()
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, frame: pending.append(number)) for number in wanted}
    old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield pending, reader
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
