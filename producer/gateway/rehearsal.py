"""The scripted model: the Messages API, played from a script, with a bill of its own.

1. Real in form: streaming (message_start, content blocks, message_delta with usage, message_stop) and whole responses,
   count_tokens, errors with retry-after. The real CLI cannot tell it from the API.
2. Stateless, but for one thing: how often a scripted fault (error, cut, stall) was played for a task's turn. That is
   counted in the bill too, so a restart does not play it again.
3. It bills what it sent: a cut or abandoned stream costs its input and the share of the output that had left.

Alone: `python -m producer.gateway.rehearsal SCRIPT --bill FILE [--port 0]` prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from producer import ids, pricing
from producer.errors import ProducerError
from producer.gateway import asgi, script, serve
from producer.gateway.bill import Bill
from producer.gateway.conversation import Conversation
from producer.gateway.replay import Recorded
from producer.gateway.script import LAST, Script, Turn

GONE = 499
PIECES = 24
Event = tuple[str, dict[str, Any]]


class Reply:
    """One response being played: its content, its usage, and what of it has left."""

    def __init__(self, body: dict[str, Any], size: int, talk: Conversation, turn: Turn) -> None:
        self.ident = ids.new_id()
        self.model = str(body.get("model"))
        self.stop = "tool_use" if turn.tools else "end_turn"
        fill: Callable[[Any], Any] = (lambda value: value) if isinstance(turn, Recorded) else talk.fill
        self.blocks: list[dict[str, Any]] = [{"type": "text", "text": fill(turn.text)}] if turn.text else []
        for at, tool in enumerate(turn.tools):
            call = {"type": "tool_use", "id": f"toolu_{self.ident}_{at}", "name": tool.name}
            self.blocks.append({**call, "input": fill(tool.input)})
        wanted = turn.output_tokens or math.ceil(len(json.dumps(self.blocks)) / 4)
        self.output = max(1, min(wanted, int(body.get("max_tokens") or 1)))
        self.prompt = _prompt(turn, size, body)

    def usage(self, share: float = 1.0) -> dict[str, Any]:
        """The usage object once this share of the output has left."""
        return {**self.prompt, "output_tokens": max(1, math.ceil(self.output * share))}

    def message(self, blocks: list[dict[str, Any]], stop: str | None, usage: dict[str, Any]) -> dict[str, Any]:
        """The message object."""
        fields = {"id": f"msg_{self.ident}", "type": "message", "role": "assistant", "model": self.model}
        return {**fields, "content": blocks, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    def pieces(self) -> Iterator[Event]:
        """The events between message_start and message_delta."""
        for index, block in enumerate(self.blocks):
            empty: dict[str, Any]
            if block["type"] == "text":
                empty, kind, key, content = {"type": "text", "text": ""}, "text_delta", "text", block["text"]
            else:
                empty, kind, key, content = {**block, "input": {}}, "input_json_delta", "partial_json", _json(block)
            yield "content_block_start", {"index": index, "content_block": empty}
            step = max(16, math.ceil(len(content) / PIECES))
            for at in range(0, len(content), step):
                yield "content_block_delta", {"index": index, "delta": {"type": kind, key: content[at : at + step]}}
            yield "content_block_stop", {"index": index}


class Model:
    """The scripted Messages API."""

    def __init__(self, play: Script, bill: Bill) -> None:
        self.play, self.bill = play, bill
        self.faults: Counter[tuple[str, int, str]] = bill.faults()

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(routes=[Route("/v1/messages", asgi.Bare(self.messages), methods=["POST"]),
                                 Route("/v1/messages/count_tokens", asgi.Bare(self.count), methods=["POST"]),
                                 Route("/", asgi.Bare(_alive), methods=["GET", "HEAD"])])  # fmt: skip

    async def count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages/count_tokens: a quarter of the bytes, as the bill counts them; free."""
        await asgi.send_json(send, 200, {"input_tokens": math.ceil(len(await asgi.read_body(receive)) / 4)})

    async def messages(self, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/messages."""
        raw = await asgi.read_body(receive)
        try:
            body = json.loads(raw)
            if not isinstance(body, dict) or not isinstance(body.get("messages"), list):
                raise ValueError("messages: a list is required")
        except ValueError as error:
            return await asgi.send_error(send, 400, "invalid_request_error", str(error))
        talk = Conversation.of(body)
        turn = self._turn(talk)
        if turn is None:
            problem = f"the script has no scenario for role {talk.role!r} and title {talk.title!r}"
            return await asgi.send_error(send, 400, "invalid_request_error", problem)
        gone = asyncio.create_task(asgi.wait_gone(receive))
        try:
            await self._answer(body, len(raw), talk, turn, send, gone)
        finally:
            await asgi.cancel(gone)

    def _turn(self, talk: Conversation) -> Turn | None:
        if not talk.role:
            return Turn(text="OK", output_tokens=1)
        scenario = self.play.find(talk.role, talk.title)
        if scenario is None:
            return None
        return scenario.turns[talk.turn] if talk.turn < len(scenario.turns) else LAST

    async def _answer(
        self, body: dict[str, Any], size: int, talk: Conversation, turn: Turn, send: Send, gone: asyncio.Task[None]
    ) -> None:
        reply = Reply(body, size, talk, turn)
        if await _paused(turn.delay_seconds, gone):
            return self._bill(reply, talk, GONE, None)
        if turn.error and self._due(talk, "error", turn.error.times):
            self._bill(reply, talk, turn.error.status, None, "error")
            wait = turn.error.retry_after
            headers = {"retry-after": f"{wait:g}"} if wait is not None else {}
            return await asgi.send_error(
                send, turn.error.status, turn.error.type, talk.fill(turn.error.message), headers
            )
        if body.get("stream"):
            return await self._stream(reply, talk, turn, send, gone)
        if await _paused(_seconds(turn, reply), gone):
            return self._bill(reply, talk, GONE, None)
        self._bill(reply, talk, 200, 1.0)
        return await asgi.send_json(send, 200, reply.message(reply.blocks, reply.stop, reply.usage()))

    async def _stream(self, reply: Reply, talk: Conversation, turn: Turn, send: Send, gone: asyncio.Task[None]) -> None:
        pieces = list(reply.pieces())
        cut = self._due(talk, "cut", turn.cut)
        stall = turn.stall_seconds if not cut and turn.stall_seconds and self._due(talk, "stall", 1) else 0.0
        fault = "cut" if cut else "stall" if stall else None
        pause = _seconds(turn, reply) / max(1, len(pieces))
        await asgi.start(send, 200, [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")])
        opening = {**reply.prompt, "output_tokens": 1}
        await asgi.piece(send, _sse("message_start", {"message": reply.message([], None, opening)}) + _sse("ping", {}))
        for at, (name, data) in enumerate(pieces):
            middle = at == len(pieces) // 2
            if middle and cut:
                return self._bill(reply, talk, 200, at / len(pieces), fault)
            if await _paused(pause + (stall if middle else 0.0), gone):
                return self._bill(reply, talk, GONE, at / len(pieces), fault)
            await asgi.piece(send, _sse(name, data))
        end = {"delta": {"stop_reason": reply.stop, "stop_sequence": None}, "usage": reply.usage()}
        self._bill(reply, talk, 200, 1.0, fault)
        return await asgi.piece(send, _sse("message_delta", end) + _sse("message_stop", {}), last=True)

    def _due(self, talk: Conversation, fault: str, times: int) -> bool:
        key = (talk.task, talk.turn, fault)
        if self.faults[key] >= times:
            return False
        self.faults[key] += 1
        return True

    def _bill(
        self, reply: Reply, talk: Conversation, status: int, share: float | None, fault: str | None = None
    ) -> None:
        """``share``: how much of the output had left; None: nothing at all, and nothing is charged."""
        usage = None if share is None else reply.usage(share)
        self.bill.write(
            {
                "task": talk.task,
                "role": talk.role,
                "turn": talk.turn,
                "messages": talk.messages,
                "model": reply.model,
                "status": status,
                "usage": usage,
                "share": share,
                "fault": fault,
                "cost_micros": 0 if usage is None else self.bill.price(reply.model, usage),
            }
        )


async def _alive(scope: Scope, receive: Receive, send: Send) -> None:
    await asgi.send_json(send, 200, {"rehearsal": True})


def _prompt(turn: Turn, size: int, body: dict[str, Any]) -> dict[str, Any]:
    """The prompt's part of the usage: what the turn says, within the request's bytes."""
    cached = [turn.cache_read_tokens, turn.cache_write_5m_tokens, turn.cache_write_1h_tokens]
    plain = max(1, math.ceil(size / 4) - sum(cached)) if turn.input_tokens is None else turn.input_tokens
    counts, left = [], size
    for wanted in (plain, *cached):
        counts.append(min(wanted, left))
        left -= counts[-1]
    return {
        "input_tokens": counts[0],
        "cache_read_input_tokens": counts[1],
        "cache_creation_input_tokens": counts[2] + counts[3],
        "cache_creation": {"ephemeral_5m_input_tokens": counts[2], "ephemeral_1h_input_tokens": counts[3]},
        "server_tool_use": {"web_search_requests": turn.web_searches} if turn.web_searches else None,
        "service_tier": "standard",
        "speed": body.get("speed", "standard"),
        "inference_geo": body.get("inference_geo", "not_available"),
    }


def _seconds(turn: Turn, reply: Reply) -> float:
    return reply.output / turn.tokens_per_second if turn.tokens_per_second else 0.0


async def _paused(seconds: float, gone: asyncio.Task[None]) -> bool:
    """Wait; True where the client left meanwhile."""
    if seconds > 0:
        await asyncio.wait({gone}, timeout=seconds)
    return gone.done()


def _json(block: dict[str, Any]) -> str:
    return json.dumps(block["input"])


def _sse(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()


def load(path: Path, bill: Path) -> Model:
    """A model from a script file. Raises ConfigError."""
    return Model(script.load(path), Bill(bill, pricing.bundled()))


def main(arguments: list[str] | None = None) -> int:
    """Serve a script until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m producer.gateway.rehearsal", description="Serve a scripted model.")
    parser.add_argument("script", type=Path)
    parser.add_argument("--bill", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        model = load(options.script, options.bill)
        asyncio.run(serve.forever(model.app(), serve.listen(options.port)))
    except ProducerError as error:
        parser.exit(error.exit_code, f"{error}\n")
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
