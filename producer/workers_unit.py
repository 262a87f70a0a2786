"""The way into the workers' unit: where agents live in another systemd unit than the supervisor (docs/service.md).

The supervisor's unit may make no namespace and mount nothing; the workers' unit may, because bubblewrap must. VARIABLE
names the socket of that unit. systemd answers every connection with a process of the unit, producer/workers/porter.py,
which has the connection as its stdin. The first line says what is wanted:

    {"wants": "sandboxes"}
        it answers which work in there, {"bwrap": null or why not, "landlock": null or why not}
    {"wants": "nursery", "ledger": PATH, "proof": TEXT, "invoker": NAME, "env": {...}}
        it becomes a nursery for workers

The proof is made from a file that no agent in a sandbox can read: a process of the unit is in no sandbox, so an agent
that had one started would have left its own.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

VARIABLE = "AI_PRODUCER_WORKERS_UNIT"
CONNECT_SECONDS = 5.0
TRIALS_SECONDS = 40.0  # a start of Python, and of bubblewrap up to twice


def address() -> str | None:
    """The socket of the workers' unit; None where workers belong into the unit, or no unit, of this process."""
    return os.environ.get(VARIABLE)


def knock(where: str, request: Mapping[str, Any]) -> socket.socket:
    """A connection on which the request has been made. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_SECONDS)
        connection.connect(where)
        connection.sendall(json.dumps(request).encode() + b"\n")
    except BaseException:
        connection.close()
        raise
    return connection


def sandboxes(where: str) -> dict[str, str | None]:
    """For `bwrap` and `landlock` why they do not work in the workers' unit, None where they do. Raises OSError."""
    with knock(where, {"wants": "sandboxes"}) as connection, connection.makefile("rb") as answers:
        connection.settimeout(TRIALS_SECONDS)
        try:
            said = json.loads(answers.readline())
            return {way: None if said[way] is None else str(said[way]) for way in ("bwrap", "landlock")}
        except (ValueError, KeyError, TypeError) as error:
            raise OSError("it closed without an answer") from error


def proof(secret: bytes) -> str:
    """What shows that a request for a nursery comes from a process that can read the secret of the ledger."""
    return hmac.new(secret, b"nursery", "sha256").hexdigest()
