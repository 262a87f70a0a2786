"""The outer end of the way to the gateway for a sandbox without a network (the inner one: producer/sandbox/relay.py).

A Unix socket in a private directory of the task; what connects is connected with the gateway, and with nothing else.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from producer.sandbox import relay

PIECE = 1 << 16


@asynccontextmanager
async def outlet(directory: Path | None, url: str | None) -> AsyncIterator[None]:
    """Serve inside the block; nothing where there is no ``directory``. ``url``: the gateway's."""
    if directory is None or url is None:
        yield
        return
    address = urlsplit(url)
    door = _bind(directory)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(address.hostname, address.port)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()
            writer.close()

    server = await asyncio.start_unix_server(connected, sock=door)
    try:
        yield
    finally:
        server.close()


def _bind(directory: Path) -> socket.socket:
    """A socket in the directory, however long its path is: it is named through the directory's descriptor."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    (directory / relay.SOCKET).unlink(missing_ok=True)
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        door = socket.socket(socket.AF_UNIX)
        door.bind(f"/proc/self/fd/{handle}/{relay.SOCKET}")
        return door
    finally:
        os.close(handle)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
