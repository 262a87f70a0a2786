"""The one function that puts an attempt into its sandbox: the command to begin the claude process with."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from producer.sandbox import bwrap, confine, relay, walls
from producer.sandbox.choice import Way, choose
from producer.sandbox.plan import Ground, plan
from producer.sandbox.wishes import Wishes

__all__ = ["Ground", "enclose"]

ISOLATED = (sys.executable, "-I", "-S")


def enclose(
    wishes: Wishes, ground: Ground, port: int | None = None, outlet: Path | None = None
) -> tuple[Way, list[str]]:
    """How the process is held, and the words to put before its own. Raises SandboxMissing.

    ``port``: the gateway's on loopback, ``outlet``: the directory of the socket that leads to it; both are needed where
    the role has no other network.
    """
    way = choose(wishes.mode, wishes.network)
    if way is Way.NONE:
        return way, []
    found = plan(wishes, ground)
    if way is Way.LANDLOCK:
        rules = ground.task / "landlock.json"
        _write(rules, json.dumps(walls.rules(found)))
        return way, [*ISOLATED, str(confine.__file__), str(rules), "--"]
    empty = ground.task / "empty"
    _write(empty, "")
    cwd = Path(os.path.realpath(ground.cwd))
    if wishes.network == "full":
        return way, bwrap.words(found, cwd, empty)
    command = bwrap.words(found, cwd, empty, outlet=outlet, relay=Path(str(relay.__file__)))
    inner = [str(bwrap.INSIDE / "relay.py"), str(port), str(bwrap.INSIDE / "outlet" / relay.SOCKET), "--"]
    return way, [*command, *ISOLATED, *inner]


def _write(path: Path, text: str) -> None:
    """Replace a file at once: an earlier process of the same task may be reading it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o400)
    fresh.replace(path)
