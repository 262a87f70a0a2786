"""What systemd starts in the workers' unit for every connection to its socket; see producer/workers_unit.py.

    python -P -m producer.workers.porter        with the connection as its stdin

A nursery takes its place, so that workers carry the environment that the supervisor sent, where /proc shows it.
"""

from __future__ import annotations

import hmac
import json
import os
import socket
import sys
import time
from typing import Any

from producer import workers_unit
from producer.errors import ProducerError
from producer.places import Places
from producer.sandbox import choice
from producer.wire import tokens

LONGEST = 1 << 20
SECONDS = 10.0


def main() -> int:
    """Do what the first line wants. Exit code 1: it was not heard, or refused."""
    control = socket.socket(fileno=os.dup(0))
    try:
        request = json.loads(_line(control))
        control.settimeout(None)
        wants = request["wants"]
        if wants == "sandboxes":
            found = {"bwrap": choice.bwrap_problem(), "landlock": choice.landlock_problem()}
            control.sendall(json.dumps(found).encode() + b"\n")
            return 0
        if wants == "nursery" and _is_the_supervisors(request):
            _become_nursery(request)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ProducerError) as error:
        sys.stderr.write(f"a request that cannot be answered: {error!r}\n")
        return 1
    sys.stderr.write("a request without the supervisor's proof was refused\n")
    return 1


def _line(control: socket.socket) -> bytes:
    heard, deadline = b"", time.monotonic() + SECONDS
    while not heard.endswith(b"\n"):
        control.settimeout(max(0.001, deadline - time.monotonic()))
        more = control.recv(65536)
        if not more or len(heard) > LONGEST:
            raise ValueError("no line")
        heard += more
    return heard


def _is_the_supervisors(request: dict[str, Any]) -> bool:
    """The places are found as this unit finds them: what the request names only chooses among directories of ours."""
    places = Places.of(str(request["ledger"]))
    if not (places.keys / tokens.FILE).is_file():
        return False
    return hmac.compare_digest(workers_unit.proof(tokens.secret(places)), str(request["proof"]))


def _become_nursery(request: dict[str, Any]) -> None:
    env = {str(name): str(value) for name, value in request["env"].items()}
    os.chdir(Places.of(str(request["ledger"])).workers)
    os.execve(sys.executable, [sys.executable, "-P", "-m", "producer.workers.nursery", str(request["invoker"])], env)


if __name__ == "__main__":
    sys.exit(main())
