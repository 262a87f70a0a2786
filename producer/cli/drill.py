"""`producerctl kill --drill`: the brake, rehearsed on a scratch project in a temporary directory.

Every run starts an agent, which starts daemons that do not want to be found (drill_agent.py), and then asks a real
supervisor for `kill --now`. The time is from the question to the answer. Survivors are counted twice: by the
supervisor, and here, by the daemons' command lines, which the supervisor does not look at.
"""

from __future__ import annotations

import math
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from producer.cli import screen
from producer.errors import NoSupervisor, ProducerError, WireError

DAEMONS = 200
PATIENCE = 60.0
UNWANTED = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "PRODUCER_CONFIG")
CONFIG = """\
project_name: drill
budget:
  project_ceiling_usd: 1
  agents:
    drill: {daily_cap_usd: 1, allowed_tools: [Read], dispatch_reservation_usd: 0.001}
"""


def drill(runs: int, *, daemons: int = DAEMONS, as_json: bool = False) -> int:
    """Rehearse; prints p50, p99 and survivors. The exit code: 1 where a process survived."""
    scratch = tempfile.TemporaryDirectory(prefix="ap-drill-", ignore_cleanup_errors=True)
    with scratch as directory, _supervisor(Path(directory)) as ask:
        found = [_run(ask, Path(directory), number, daemons) for number in range(runs)]
    seconds = sorted(each["seconds"] for each in found)
    summary = {
        "runs": runs,
        "daemons": daemons,
        "survivors": sum(each["survivors"] for each in found),
        "p50_seconds": round(percentile(seconds, 50), 3),
        "p99_seconds": round(percentile(seconds, 99), 3),
        "worst_seconds": round(seconds[-1], 3),
    }
    if as_json:
        screen.show_json(summary)
    else:
        screen.say(f"kill --now, {runs} times, each against {daemons} daemons that ignore SIGTERM")
        screen.say("p50 {p50_seconds:.2f} s, p99 {p99_seconds:.2f} s, {survivors} survivors".format(**summary), "bold")
    return 1 if summary["survivors"] else 0


def percentile(ordered: list[float], percent: float) -> float:
    """The nearest-rank percentile of sorted values."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


Ask = Callable[..., Any]


def _run(ask: Ask, directory: Path, number: int, daemons: int) -> dict[str, Any]:
    token, ready = f"ap-drill-{secrets.token_hex(8)}", directory / f"ready-{number}"
    task = {
        "agent_owner": "drill", "title": f"run {number}", "description": "Start daemons.",
        "payload": {"daemons": daemons, "token": token, "ready": str(ready)},
    }  # fmt: skip
    (ident,) = ask("insert_tasks", tasks=[task])
    _until(lambda: ready.exists() and ready.read_text() == str(daemons), "the daemons")
    if len(_carriers(token)) < daemons:
        raise ProducerError("drill: the daemons ended by themselves")
    began = time.monotonic()
    answer = ask("kill", reason="drill", now=True)
    seconds = time.monotonic() - began
    left = _carriers(token)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    _until(lambda: ask("status")["queue"]["in_progress"] == 0, "the run to be settled")
    ask("kill_task", task_id=ident, reason="the drill's run is over")
    ask("resume", reason="next")
    screen.note(f"{number + 1}: {seconds:.2f} s, {len(left)} survivors")
    return {"seconds": seconds, "survivors": max(len(left), answer["survivors"])}


def _carriers(token: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[-1:] == [token] and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


@contextmanager
def _supervisor(directory: Path) -> Iterator[Ask]:
    """A supervisor of the scratch project, whose private places lie in the directory too."""
    from producer.ledger.client import rebuild
    from producer.places import Places
    from producer.wire.client import Control

    config = directory / "producer.yaml"
    config.write_text(CONFIG)
    env = _environment(directory)
    places = Places.of(directory / "agent-state" / "ledger.db", env)

    def ask(op: str, **arguments: Any) -> Any:
        control = Control(places)
        try:
            reply = control.ask(op, {**arguments, "actor": "drill"}, PATIENCE, lambda: process.poll() is None)
        finally:
            control.close()
        if not reply.ok:
            raise rebuild(reply.result, reply.error)
        return reply.result

    def there() -> bool:
        try:
            return bool(ask("status", brief=True))
        except (NoSupervisor, WireError):
            if process.poll() is not None:
                raise ProducerError(f"drill: {(directory / 'log').read_text()[-500:]}") from None
            return False

    words = ["--config", str(config), "run", "--invoker", "producer.cli.drill_agent:Agent"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "producer", *words], env=env, cwd=directory, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _until(lambda: (places.runtime / "control").exists() or process.poll() is not None, "the supervisor")
        _until(there, "the supervisor")
        yield ask
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(directory: Path) -> Mapping[str, str]:
    own = {"XDG_STATE_HOME": str(directory / "s"), "XDG_RUNTIME_DIR": str(directory / "r")}
    return {name: value for name, value in os.environ.items() if name not in UNWANTED} | own


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise ProducerError(f"drill: {what} did not come about in {PATIENCE:g} s")
        time.sleep(0.01)
