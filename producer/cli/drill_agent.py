"""The agent of `kill --drill`: it starts daemons that do everything a process can do to outlive its run.

Each daemon forks twice, leaves its session, has an empty environment and ignores TERM and HUP. Whatever goes wrong, it
ends by itself after LIFE seconds; and there are only as many as the task's payload says, MOST at most.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LIFE = 180
MOST = 1000
SPAWN = """
import os, signal, sys
count, ready, life = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
for _ in range(count):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.alarm(life)
            os.write(ready, b"x")
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
"""


def start_daemons(count: int, token: str) -> int:
    """Start daemons whose command lines end in ``token``; how many say that they are there."""
    reader, writer = os.pipe()
    command = [sys.executable, "-S", "-E", "-c", SPAWN, str(min(count, MOST)), str(writer), str(LIFE), token]
    subprocess.run(command, env={}, pass_fds=[writer], check=True, timeout=60)
    os.close(writer)
    there = 0
    while there < min(count, MOST) and (said := os.read(reader, MOST)):
        there += len(said)
    os.close(reader)
    return there


class Agent:
    """An invoker. The payload's ``daemons``, ``token`` and ``ready``: how many, their mark, the file that says so."""

    async def invoke(self, agent_role: str, prompt: str, **given: Any) -> Any:
        """Start the daemons, say so, and then do nothing at all."""
        line = next(line for line in prompt.splitlines() if line.startswith("Payload: "))
        payload = json.loads(line.removeprefix("Payload: "))
        await asyncio.to_thread(_begin, payload)
        await asyncio.sleep(LIFE)


def _begin(payload: dict[str, Any]) -> None:
    there = start_daemons(int(payload["daemons"]), str(payload["token"]))
    Path(payload["ready"]).write_text(str(there))
