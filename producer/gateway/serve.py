"""uvicorn on a loopback socket of our own, inside our own loop: no signal handlers, no log of its own, a known port."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
GRACE_SECONDS = 2


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals belong to whoever runs the loop."""
        yield


def listen(port: int = 0) -> socket.socket:
    """A listening loopback socket; port 0 takes any. Raises OSError where the port is taken."""
    # asyncio switches Nagle off (40 ms a response) only where the protocol is named
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener


def listen_again(kept: Path) -> socket.socket:
    """A listening socket on the port that ``kept`` remembers, else on a fresh one that it remembers from now on."""
    with suppress(OSError, ValueError):
        return listen(int(kept.read_text()))
    listener = listen()
    fresh = kept.with_name(f".{kept.name}.new")
    fresh.write_text(str(listener.getsockname()[1]))
    fresh.replace(kept)
    return listener


def url_of(listener: socket.socket) -> str:
    """The base URL that a listening socket is reached by."""
    return f"http://{HOST}:{listener.getsockname()[1]}"


@asynccontextmanager
async def serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[str]:
    """Serve while the block runs; gives the URL. Open responses get two seconds at the end.

    The socket listens already: who connects before uvicorn is up is served as soon as it is.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
        proxy_headers=False,
        server_header=False,
        date_header=False,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


async def forever(app: ASGIApp, listener: socket.socket) -> None:
    """Serve until cancelled, after printing the URL."""
    async with serving(app, listener) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
