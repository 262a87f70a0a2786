"""The process: a free port of 127.0.0.1, a one-time link, and uvicorn until Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import uvicorn

from producer.errors import ProducerError, UsageError
from producer.web.app import build
from producer.web.desk import Desk
from producer.web.session import Sessions

ADDRESS = "127.0.0.1"
FIRST_PORT = 5050
HUNT = 200
STOP_SECONDS = 1


def bind(port: int | None, start: int = FIRST_PORT) -> socket.socket:
    """A listening socket on ``port``, or on the first free one from ``start`` on. Raises UsageError, ProducerError."""
    for number in [port] if port is not None else range(start, min(start + HUNT, 65_536)):
        # With the protocol named, asyncio turns Nagle's algorithm off: without that every answer waits for 40 ms.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((ADDRESS, number))
            listening.listen(128)
        except OSError as error:
            listening.close()
            if port is not None:
                raise UsageError(
                    f"--port: {port} cannot be used ({error.strerror}): leave it out for a free one"
                ) from None
            continue
        return listening
    raise ProducerError(f"no free port from {start} to {min(start + HUNT, 65_536) - 1}: name another with --start-port")


def hosts(port: int, dashboard_url: str | None) -> tuple[set[str], set[str]]:
    """The Host headers and the origins that are ours: loopback, and the address that producer.yaml names."""
    names = {f"{ADDRESS}:{port}", f"localhost:{port}"}
    origins = {f"http://{name}" for name in names}
    if dashboard_url:
        parts = urlsplit(dashboard_url)
        names.add(parts.netloc.lower())
        origins.add(f"{parts.scheme}://{parts.netloc}".lower())
    return names, origins


def serve(desk: Desk, listening: socket.socket, say: Callable[[str], None], *, browser: bool, debug: bool) -> None:
    """Serve until a signal. ``say`` is told the link; ``browser``: open it, too."""
    port = listening.getsockname()[1]
    sessions = Sessions(port)
    names, origins = hosts(port, desk.config.notifications.dashboard_url)
    link = f"http://{ADDRESS}:{port}/enter?token={sessions.link()}"
    config = uvicorn.Config(
        build(desk, sessions, names, origins), log_level="info" if debug else "error", access_log=debug,
        server_header=False, date_header=False, proxy_headers=False, timeout_graceful_shutdown=STOP_SECONDS,
        ws="none", http="h11", lifespan="on",
    )  # fmt: skip
    logging.getLogger("uvicorn.error").addFilter(_worth_saying)
    say(link)
    if browser:
        threading.Thread(target=_open, args=(link,), daemon=True).start()
    with _quiet_end():
        uvicorn.Server(config).run(sockets=[listening])


def _worth_saying(record: logging.LogRecord) -> bool:
    """That a stream of events was still open at the end is no error: it always is, where a page is."""
    return "without completing response" not in record.getMessage()


def _open(link: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(link)


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """Ctrl-C is how it ends; uvicorn raises it again once it has stopped."""
    with contextlib.suppress(KeyboardInterrupt):
        yield
