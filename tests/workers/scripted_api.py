"""A minimal Messages API on loopback: answers from a function, streams like the real one, keeps what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Turn:
    """One answer of the model: text, then tool calls (name, input); or an HTTP error."""

    text: str = ""
    tools: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    status: int = 200
    error: str = ""
    error_type: str = "api_error"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    input_tokens: int = 100
    output_tokens: int = 20


Script = Callable[[dict[str, Any], int], Turn]


class ScriptedApi:
    """``with ScriptedApi(script) as api:`` serves at ``api.url``; ``api.requests``, ``api.keys`` and ``api.headers``: what came."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> ScriptedApi:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, body: dict[str, Any], key: str | None) -> tuple[Turn, int]:
        with self._lock:
            self.requests.append(body)
            self.keys.append(key)
            number = len(self.requests)
        return self.script(body, number), number

    def results(self, number: int = -1) -> list[str]:
        """The texts of the tool results in one request, oldest first."""
        found = []
        for message in self.requests[number]["messages"]:
            for block in message["content"] if isinstance(message["content"], list) else []:
                if block.get("type") == "tool_result":
                    content = block["content"]
                    found.append(content if isinstance(content, str) else "".join(p.get("text", "") for p in content))
        return found


def _handler(api: ScriptedApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._plain(200, {})

        def do_GET(self) -> None:
            self._plain(404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}})

        def do_POST(self) -> None:
            api.headers.append({name.lower(): value for name, value in self.headers.items()})
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if not self.path.startswith("/v1/messages") or "count_tokens" in self.path:
                return self._plain(200, {"input_tokens": 10})
            turn, number = api.answer(body, self.headers.get("x-api-key"))
            time.sleep(turn.delay)
            if turn.status != 200:
                error = {"type": "error", "error": {"type": turn.error_type, "message": turn.error}}
                return self._plain(turn.status, error, turn.headers)
            events = _events(turn, number, body["model"])
            if body.get("stream"):
                return self._stream(events)
            return self._plain(200, _whole(turn, number, body["model"]))

        def _plain(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def _stream(self, events: list[dict[str, Any]]) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            for event in events:
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
            self.close_connection = True

    return Handler


def _blocks(turn: Turn, number: int) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text else []
    for at, (name, given) in enumerate(turn.tools):
        blocks.append({"type": "tool_use", "id": f"toolu_{number:04d}{at:02d}", "name": name, "input": given})
    return blocks


def _usage(turn: Turn) -> dict[str, int]:
    return {
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _whole(turn: Turn, number: int, model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{number:06d}", "type": "message", "role": "assistant", "model": model,
        "content": _blocks(turn, number), "stop_reason": "tool_use" if turn.tools else "end_turn",
        "stop_sequence": None, "usage": _usage(turn),
    }  # fmt: skip


def _events(turn: Turn, number: int, model: str) -> list[dict[str, Any]]:
    start = _whole(turn, number, model) | {"content": [], "stop_reason": None}
    start["usage"] = _usage(turn) | {"output_tokens": 1}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(_blocks(turn, number)):
        if block["type"] == "text":
            opening: dict[str, Any] = {"type": "text", "text": ""}
            delta: dict[str, Any] = {"type": "text_delta", "text": block["text"]}
        else:
            opening = block | {"input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        events.append({"type": "content_block_start", "index": index, "content_block": opening})
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    reason = "tool_use" if turn.tools else "end_turn"
    events.append({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None},
                   "usage": {"output_tokens": turn.output_tokens}})  # fmt: skip
    events.append({"type": "message_stop"})
    return events
