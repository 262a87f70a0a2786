"""The worker process: python -m producer.workers --ledger PATH --role ROLE --slot N --worker ULID --invoker NAME"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from producer.errors import ProducerError
from producer.places import Places
from producer.wire.outbox import Outbox
from producer.wire.sockets import AsyncPeer, AsyncPush
from producer.workers.invokers import make_runner
from producer.workers.isolation import become_subreaper
from producer.workers.register import Register
from producer.workers.runner import Runner
from producer.workers.session import Session, Settings

log = logging.getLogger("producer.worker")


def main(arguments: list[str] | None = None, runner: Runner | None = None) -> int:
    """Run a worker to its end. Exit code 0: it left in good order; 2: it could not start; 3: something hung in it.

    ``runner`` takes the place of the one that --invoker names.
    """
    given = _parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("claude_agent_sdk").setLevel(logging.WARNING)
    os.umask(0o077)
    _take_name(f"worker {given.role}-{given.slot}")
    become_subreaper()
    try:
        asyncio.run(_serve(given, runner))
    except ProducerError as problem:
        log.error("%s", problem)
        return 2
    return 0


def _take_name(name: str) -> None:
    """What ps -o comm and top show: a forked worker's command line is the nursery's. The kernel keeps 15 bytes."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name)


async def _serve(given: argparse.Namespace, runner: Runner | None) -> None:
    places = Places.of(given.ledger)
    places.make()
    settings = Settings(
        places=places,
        worker=given.worker,
        role=given.role,
        slot=given.slot,
        kill_switch=given.kill_switch or places.ledger.parent / "kill_switch",
        prefetch=given.prefetch,
        orphan_seconds=given.orphan_seconds,
        term_grace=given.term_grace,
    )
    register = Register(places, given.worker, given.role, given.slot)
    register.write(None)
    outbox = Outbox(places.outboxes / given.worker, given.role)
    stuck = False
    try:
        stuck = await _converse(given, settings, outbox, register, runner)
    finally:
        outbox.close()
        register.remove()
    if stuck:  # asyncio and the interpreter would both wait for the thread that hangs
        logging.shutdown()
        os._exit(3)


async def _converse(
    given: argparse.Namespace, settings: Settings, outbox: Outbox, register: Register, runner: Runner | None
) -> bool:
    if ":" in given.invoker and given.project_root:
        os.chdir(given.project_root)  # as in 0.3.x: the relative paths of an invoker are the project's
    runner = runner or make_runner(given.invoker, settings.places.key, given.project_root)
    peer = await AsyncPeer.connect(settings.places, given.worker)
    push = await AsyncPush.connect(settings.places, given.worker)
    session = Session(settings, runner, outbox, peer, push, register)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, session.terminate, f"the worker got {signal.Signals(number).name}")
    try:
        reason = await session.serve()
        log.info("leaving: %s", reason)
    finally:
        await runner.leave()
        push.close()
        peer.close()
    return session.stuck


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m producer.workers", description=__doc__)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--role", required=True)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--worker", required=True, help="the ULID of this process start; its key must exist")
    parser.add_argument("--invoker", required=True, help="claude, echo or MODULE:NAME")
    parser.add_argument("--project-root", type=Path, help="where MODULE is looked for first")
    parser.add_argument("--kill-switch", type=Path, help="default: kill_switch beside the ledger")
    parser.add_argument("--prefetch", type=int, default=1, help="tasks taken at a time; one runs")
    parser.add_argument("--orphan-seconds", type=float, default=600.0, help="an idle worker without supervisor leaves")
    parser.add_argument("--term-grace", type=float, default=5.0, help="seconds between TERM and KILL on SIGTERM")
    return parser


if __name__ == "__main__":
    sys.exit(main())
