"""A scripted model API for the benchmarks, in a process of its own: it answers at once, and notes who asked when.

    python benchmarks/upstream.py [--note FILE] [--hold]

Prints its URL. An answer is one text delta, or what the request's metadata asks for: {"user_id": "EVENTS-MS"}, so many
deltas so many milliseconds apart. A line of FILE: the epoch nanosecond at which a request was complete, and the task
that its prompt names. With --hold a request that names a task is not answered: its attempt goes on for ever.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WANTED = re.compile(rb'"user_id": ?"(\d+)-(\d+)"')
TASK = re.compile(rb"Task: ([0-9A-Z]{26})")
MESSAGE = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": [],
    "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 100, "output_tokens": 1},
}  # fmt: skip
BEGIN = (
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
)
PIECE = "A dozen words of text, in a piece as a model streams them. "
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": PIECE}}
STOP = {"stop_reason": "end_turn", "stop_sequence": None}
END = (
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": STOP, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
)


def event(body: dict[str, object]) -> bytes:
    """One server-sent event, as one HTTP chunk."""
    text = f"event: {body['type']}\ndata: {json.dumps(body)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


class Upstream:
    """Serves connections; keeps them open."""

    def __init__(self, note: Path | None, hold: bool) -> None:
        self._hold = hold
        self._note = os.open(note, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if note else None
        self._begin, self._delta = b"".join(map(event, BEGIN)), event(DELTA)
        self._end = b"".join(map(event, END)) + b"0\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                found = re.search(rb"(?i)content-length: (\d+)", head)
                body = await reader.readexactly(int(found[1])) if found else b""
                if head.startswith(b"POST /v1/messages") and b"count_tokens" not in head:
                    await self._answer(writer, body)
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        task, wanted = TASK.search(body), WANTED.search(body)
        events, pause = (int(wanted[1]), int(wanted[2]) / 1000) if wanted else (1, 0.0)
        if self._note is not None:
            os.write(self._note, b"%d %s\n" % (time.time_ns(), task[1] if task else b"-"))
        if task and self._hold:
            await asyncio.Event().wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(self._begin)
        for _ in range(events):
            if pause:
                await asyncio.sleep(pause)
            writer.write(self._delta)
            await writer.drain()
        writer.write(self._end)
        await writer.drain()


@contextmanager
def running(*options: str) -> Iterator[str]:
    """An upstream process for the length of a block; its URL."""
    command = [sys.executable, str(Path(__file__).resolve()), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


async def main() -> None:
    """Serve for ever."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--note", type=Path)
    parser.add_argument("--hold", action="store_true")
    given = parser.parse_args()
    upstream = Upstream(given.note, given.hold)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 22)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
