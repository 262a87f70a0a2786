"""What another process does in the ledger's tests. Each verb prints `ready` once it can be observed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from producer.core.guards import Limits
from producer.errors import ProducerError
from producer.ledger import LedgerClient, Store
from producer.ledger.lock import Holder, Lock
from producer.ledger.operations import Context, perform
from producer.places import Places
from producer.wire.auth import Keys
from producer.wire.messages import Reply, Request
from producer.wire.server import Incoming, Server


def say(text: object) -> None:
    print(text, flush=True)


def hold_lock(ledger: str, kind: Any) -> None:
    """Hold the lock until killed."""
    assert Lock(Places.of(ledger).lock).acquire(Holder(kind, os.getpid(), time.time(), "test"))
    say("ready")
    sys.stdin.read()


def write(ledger: str, name: str, count: str) -> None:
    """File tasks one by one, once a line comes on stdin; the creation of the ledger is part of the race."""
    say("ready")
    sys.stdin.readline()
    with LedgerClient(ledger) as client:
        for number in range(int(count)):
            say(client.insert_task(agent_owner="code", title=f"{name} {number}", description="d"))


def commit_for_ever(ledger: str, head: str) -> None:
    """Commit one audit row after the other, saying the number of each only once it is committed."""
    store = Store(ledger, head_file=Path(head))
    say("ready")
    while True:
        with store.transaction():
            store.audit.append("tick", "test", filler="x" * 500)
        say(store.audit.head().seq)


def open_transaction(ledger: str) -> None:
    """Hold SQLite's own write lock until killed, as a person with a sqlite3 shell can."""
    import sqlite3

    connection = sqlite3.connect(ledger, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("ready")
    sys.stdin.read()


def serve(ledger: str, behaviour: str = "answer") -> None:
    """Stand in for a supervisor: answer the operations of LedgerClient after the commit."""
    places = Places.of(ledger).make()
    assert Lock(places.lock).acquire(Holder("supervisor", os.getpid(), time.time(), "test"))
    if behaviour == "late":
        say("ready")
        time.sleep(0.3)
    keys = Keys(places)
    keys.ensure()
    store = Store(ledger, head_file=places.state / "audit.head")
    server = Server(places, keys)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    if behaviour != "late":
        say("ready")
    while not stopped:
        server.wait(0.1)
        replies: list[tuple[bytes, Reply]] = []
        with store.transaction():
            for item in server.receive():
                if isinstance(item, Incoming) and isinstance(item.message, Request):
                    replies.append((item.address, _answer(store, item.message)))
        if replies and behaviour == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        for address, reply in replies:
            server.send("control", address, reply)
    server.close()
    store.close()


def _answer(store: Store, request: Request) -> Reply:
    arguments = dict(request.arguments)
    context = Context(str(arguments.pop("actor")), Limits())
    try:
        return Reply(call=request.call, ok=True, result=perform(store, request.op, arguments, context))
    except ProducerError as error:
        return Reply(call=request.call, ok=False, result=type(error).__name__, error=str(error))


if __name__ == "__main__":
    verbs = {
        "hold": hold_lock, "write": write, "commit": commit_for_ever, "begin": open_transaction, "serve": serve,
    }  # fmt: skip
    verbs[sys.argv[1]](*sys.argv[2:])
