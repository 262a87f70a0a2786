"""What the gateway adds: time to the first byte, streams side by side, and processor time for what it passes on.

    python benchmarks/gateway.py [--requests 1000] [--streams 32]

A scripted model on loopback, asked directly and through the gateway in turn, by the same client: a body of 120 KB, one
request at a time, each measured from its first byte out to the first byte of the answer's stream. The gateway and the
supervisor that grants are real: an attempt of the real CLI is kept waiting, and its token used. Then 32 streams of 200
events at once, 20 ms apart: the longest gap that any of them saw, directly and through; and the gateway's processor
time for a stream of many events, for each megabyte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from harness import head
from upstream import running
from warm import Bench, until

from producer import reaper
from producer.ledger import LedgerClient, Reader
from producer.reaper import PROJECT_MARKER, Family
from producer.wire import tokens

KEY = "sk-bench"
COMPACT = (",", ":")  # as JSON.stringify writes, and so the CLI


def body(size: int, number: int, events: int = 1, pause: int = 0) -> bytes:
    """A request as an agent sends it after a while: system prompt, tools, and turns that grow."""
    tools = [
        {"name": f"tool_{n}", "description": "what it does " * 40, "input_schema": {"type": "object", "properties": {}}}
        for n in range(20)
    ]
    turn = "Some lines of a file that was read, and what the agent thought of them. " * 20
    messages = [{"role": ("user", "assistant")[n % 2], "content": turn} for n in range(61)]
    made = {"model": "claude-sonnet-5-5", "max_tokens": 8000, "stream": True, "tools": tools, "messages": messages,
            "metadata": {"user_id": f"{events}-{pause}"},
            "system": [{"type": "text", "text": f"{number} " + "You are. " * 400}]}  # fmt: skip
    text = json.dumps(made, separators=COMPACT)
    made["system"][0]["text"] += "x" * max(0, size - len(text))  # type: ignore[index]
    return json.dumps(made, separators=COMPACT).encode()


@dataclass
class Answer:
    """What one request met, in seconds; ``size``: bytes of the answer."""

    first: float = 0.0
    gap: float = 0.0
    size: int = 0
    arrivals: list[float] = field(default_factory=list)


class Client:
    """One kept connection, with nothing between the socket and the clock."""

    def __init__(self, url: str, token: str) -> None:
        self._host, _, port = url.removeprefix("http://").partition(":")
        self._port, self._token = int(port), token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, content: bytes) -> Answer:
        """Send a request, read the whole answer."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        assert self._reader is not None
        head = (
            f"POST /v1/messages HTTP/1.1\r\nhost: {self._host}\r\nx-api-key: {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        answer, began = Answer(), time.perf_counter()
        self._writer.write(head.encode() + content)
        status = await self._reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in status.split(b"\r\n", 1)[0], status
        last = began
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            await self._reader.readexactly(size + 2)
            now = time.perf_counter()
            answer.first = answer.first or now - began
            answer.gap = max(answer.gap, now - last) if answer.size else 0.0
            answer.size, last = answer.size + size, now
        await self._reader.readexactly(2)
        return answer


async def first_bytes(direct: Client, through: Client, size: int, count: int) -> tuple[list[float], list[float]]:
    """Times to the first byte, taken in turn."""
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(count):
        content = body(size, number)
        for client, times in zip((direct, through), found, strict=True):
            times.append((await client.ask(content)).first)
    return found


async def side_by_side(url: str, token: str, streams: int, size: int) -> float:
    """The longest gap between two pieces that any of so many streams saw, in seconds."""
    bodies = [body(size, n, 200, 20) for n in range(streams)]
    answers = await asyncio.gather(*(Client(url, token).ask(content) for content in bodies))
    return max(answer.gap for answer in answers)


def project(bench: Bench, stack: ExitStack) -> tuple[str, str, int]:
    """A project with one attempt that waits for its model: the gateway's URL and pid, and the token."""
    supervisor = bench.start()
    stack.callback(reaper.end, Family(entries=(f"{PROJECT_MARKER}={bench.places.key}",)))
    stack.callback(supervisor.wait, 30)
    stack.callback(supervisor.terminate)
    with LedgerClient(bench.ledger, actor="bench") as client:
        task = client.insert_task(agent_owner="cold", title="t", description="Wait.")
    bench.asked(task)
    with Reader(bench.ledger) as reader:
        attempt = reader.show(task)["attempts"][0]["id"]
    port = (bench.places.state / "gateway.port").read_text()
    pid = json.loads((bench.places.workers / "gateway").read_text())["pid"]
    until(lambda: len(bench.standing()) == 2, "rest", 0.2)
    return f"http://127.0.0.1:{port}", tokens.mint(tokens.secret(bench.places), attempt), pid


async def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--kilobytes", type=int, default=120)
    given = parser.parse_args()
    head("Gateway")
    size = given.kilobytes * 1000
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="g")))
        note = base / "note"
        note.touch()
        url = stack.enter_context(running("--note", str(note), "--hold"))
        gateway, token, pid = project(Bench(base, url, note), stack)
        process = psutil.Process(pid)
        began = sum(process.cpu_times()[:2])
        straight, via = await first_bytes(Client(url, KEY), Client(gateway, token), size, given.requests)
        each = (sum(process.cpu_times()[:2]) - began) / given.requests
        gaps = [
            (await side_by_side(url, KEY, given.streams, size), await side_by_side(gateway, token, given.streams, size))
            for _ in range(5)
        ]
        client, costs = Client(gateway, token), []
        for number in range(5):
            before = sum(process.cpu_times()[:2])
            answer = await client.ask(body(size, number, 20_000))
            costs.append((sum(process.cpu_times()[:2]) - before) / (answer.size / 1e6))
    added = sorted(b - a for a, b in zip(straight, via, strict=True))
    p99 = statistics.quantiles(added, n=100)[98]
    print("| measured | direct | through the gateway | ratio | target |\n|---|---:|---:|---:|---:|")
    a, b = statistics.median(straight) * 1e3, statistics.median(via) * 1e3
    print(f"| first byte, {given.kilobytes} KB, median of {given.requests}, ms | {a:.2f} | {b:.2f} | {b / a:.2f} | |")
    print(f"| added to the first byte, median, ms | | {statistics.median(added) * 1e3:.2f} | | 3 |")
    print(f"| added to the first byte, p99, ms | | {p99 * 1e3:.2f} | | 10 |")
    a, b = (statistics.median(side) * 1e3 for side in zip(*gaps, strict=True))
    print(f"| longest gap in {given.streams} streams of a piece every 20 ms, ms | {a:.0f} | {b:.0f} | {b / a:.2f} | |")
    print(f"| CPU for each request, ms | | {each * 1e3:.1f} | | |")
    print(f"| CPU for each megabyte streamed, ms | | {statistics.median(costs) * 1e3:.0f} | | |")


if __name__ == "__main__":
    asyncio.run(main())
