"""The gateway as a process: `python -m producer.gateway --ledger PATH --kill-switch PATH [...]`.

1. The real key is taken from ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN) and out of the
   environment, or read from Claude Code's login file; the process is not dumpable, so that another process of the same
   user can read neither its memory nor /proc/PID/environ.
2. One gateway a ledger (a lock says so), on a loopback port that a later one takes again: workers need not be told.
3. Prices that change on the disk are in force within a second; a table that has become bad changes nothing.
4. It outlives the supervisor. It leaves on SIGTERM or SIGINT, when it is told to, or when for ten minutes there was no
   supervisor and nothing to do.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import fcntl
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import uvloop

from producer import ids, pricing
from producer.errors import ProducerError, UsageError
from producer.gateway import rehearsal, serve
from producer.gateway.app import Gateway
from producer.gateway.grants import Attempts
from producer.gateway.journal import Journal
from producer.gateway.link import Link
from producer.gateway.recorder import Recorder
from producer.gateway.upstream import PUBLIC, Key, Upstream
from producer.places import Places
from producer.version import __version__
from producer.wire import tokens
from producer.wire.messages import GatewayHello

PR_SET_DUMPABLE = 4
ORPHAN_SECONDS = 600.0
SETTLE_SECONDS = 1.0
PRICES_SECONDS = 0.5
log = logging.getLogger("producer.gateway")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m producer.gateway", description="Meter and limit model requests.")
    parser.add_argument(
        "--ledger", type=Path, required=True, help="the project's ledger; names its private directories"
    )
    parser.add_argument("--kill-switch", type=Path, required=True)
    parser.add_argument("--upstream", default=PUBLIC, help="base URL of the model API")
    parser.add_argument(
        "--min-max-tokens", type=int, default=1024, help="output tokens below which a request is useless"
    )
    parser.add_argument("--rehearse", type=Path, metavar="SCRIPT", help="play this script instead of a real model")
    parser.add_argument("--bill", type=Path, metavar="FILE", help="where the scripted model writes its bill")
    parser.add_argument("--prices", type=Path, metavar="FILE", help="rows of pricing.json that win over it, as JSON")
    parser.add_argument("--login", type=Path, metavar="FILE", help="Claude Code's login, where no key is given")
    parser.add_argument("--record", action="store_true", help="keep every request and response")
    parser.add_argument("--orphan-seconds", type=float, default=ORPHAN_SECONDS)
    options = parser.parse_args(arguments)
    if options.min_max_tokens < 1:
        parser.error("--min-max-tokens must be at least 1")
    if options.rehearse and not options.bill:
        parser.error("--rehearse needs --bill FILE")
    return options


async def run(options: argparse.Namespace, key: Key) -> None:
    """Serve until told to leave. Raises ProducerError where it cannot begin."""
    places = Places.of(options.ledger).make()
    lock = _only_one(places)
    leave = asyncio.Event()
    attempts = Attempts()
    prices = pricing.Watched(places.state / "pricing.json", options.prices)
    ident, url = ids.new_id(), ""
    born = psutil.Process().create_time()

    def hello() -> GatewayHello:
        return GatewayHello(
            gateway=ident, pid=os.getpid(), pid_start=born, url=url, version=__version__, open=attempts.names
        )

    def go(why: str) -> None:
        log.info("leaving: %s", why)
        leave.set()

    link = Link(places, hello, attempts, go)
    link.journal = journal = Journal(places.journal, attempts.is_open)
    async with AsyncExitStack() as stack:
        stack.callback(os.close, lock)
        stack.callback(journal.close)
        upstream = Upstream(*await _model(options, key, stack))
        stack.push_async_callback(upstream.close)
        gateway = Gateway(
            upstream=upstream,
            prices=prices.table(),
            attempts=attempts,
            journal=journal,
            supervisor=link,
            kill_switch=options.kill_switch,
            secret=tokens.secret(places),
            least=options.min_max_tokens,
            recorder=Recorder(places.state / "recordings") if options.record else None,
        )
        recovered = journal.recover()
        url = await stack.enter_async_context(
            serve.serving(gateway.app(), serve.listen_again(places.state / "gateway.port"))
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, go, number.name)
        background = asyncio.gather(link.run(recovered), gateway.watch_switch(), _orphan(link, attempts, options, go),
                                    _reprice(gateway, prices))  # fmt: skip
        stack.callback(background.cancel)
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        gc.freeze()  # what is there now stays; a look through all of it would hold a request up
        await _served(leave, background, attempts)


async def _served(leave: asyncio.Event, background: asyncio.Future[Any], attempts: Attempts) -> None:
    """Until told to leave; raises what breaks in the background. What streams then is cut, and still booked."""
    left: asyncio.Future[Any] = asyncio.ensure_future(leave.wait())
    await asyncio.wait({left, background}, return_when=asyncio.FIRST_COMPLETED)
    flows = attempts.flows
    for flow in flows:
        flow.cut("closed")
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.gather(*(flow.over.wait() for flow in flows)), SETTLE_SECONDS)
    if background.done():
        background.result()


async def _model(options: argparse.Namespace, key: Key, stack: AsyncExitStack) -> tuple[str, Key]:
    """Where requests go, with which key: the API, or a scripted model that needs none."""
    if options.rehearse is None:
        return options.upstream, key
    model = rehearsal.load(options.rehearse, options.bill)
    return await stack.enter_async_context(serve.serving(model.app(), serve.listen())), Key()


async def _reprice(gateway: Gateway, prices: pricing.Watched) -> None:
    while True:
        await asyncio.sleep(PRICES_SECONDS)
        if (table := prices.table()) is not gateway.prices:
            gateway.prices = table
            log.info("the prices were read anew")


async def _orphan(link: Link, attempts: Attempts, options: argparse.Namespace, go: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(min(5.0, options.orphan_seconds))
        if link.silent_seconds > options.orphan_seconds and not attempts.flows:
            go("no supervisor")


def _only_one(places: Places) -> int:
    """The lock of this ledger's gateway. Raises UsageError where another holds it."""
    descriptor = os.open(places.state / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise UsageError(f"another gateway serves {places.ledger}: stop it first") from None
    return descriptor


def _hide() -> None:
    """Keep other processes of this user out of our memory and environment (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway; returns the exit code."""
    _hide()
    key = Key.take(os.environ)
    os.umask(0o077)
    options = parse(arguments)
    key = key if key != Key() else Key(login=options.login)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s gateway %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        uvloop.run(run(options, key))  # half of asyncio's processor time for each megabyte that streams by
    except ProducerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
