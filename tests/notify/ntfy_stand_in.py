"""An ntfy server for tests: real HTTP on loopback, as strict as the real one where it matters, and able to misbehave.

It publishes like ntfy (POST / with JSON, or POST /TOPIC with headers). What is put into ``script`` happens to the next
requests, one each: a status, or a number of seconds to say nothing, or `drip` (a byte a while), or `drop`.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from dataclasses import dataclass, field
from email.header import decode_header, make_header
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOPIC = re.compile(r"[-_A-Za-z0-9]{1,64}")
MOST_BYTES = 4096
CODES = {400: 40001, 401: 40101, 403: 40301, 429: 42901, 500: 50001, 503: 50301}


@dataclass
class Answer:
    """What a scripted request gets."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    silent_seconds: float = 0.0
    drip: bool = False
    drop: bool = False


@dataclass
class Received:
    """One request as it came: the message as ntfy understood it, and how it was answered."""

    path: str
    headers: dict[str, str]
    message: dict[str, Any]
    status: int


class Ntfy:
    """The server. ``token``: only who shows it may publish; ``burst``: so many requests, then 429 for all."""

    def __init__(self, token: str | None = None, burst: int | None = None) -> None:
        self.token, self.left = token, burst
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        self.requests: list[Received] = []
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was accepted."""
        return [request.message for request in self.requests if request.status == 200]

    def titles(self) -> list[str]:
        """The titles of what was accepted."""
        return [message["title"] for message in self.messages]

    def close(self) -> None:
        """End it; whoever waits for an answer is let go."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def judge(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """The status of a request and the message in it."""
        try:
            message = _message(path, headers, body)
        except (ValueError, KeyError):
            return 400, {}
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401 if "authorization" not in headers else 403, message
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                return 429, message
        fits = len(message["message"].encode()) <= MOST_BYTES and 1 <= message.get("priority", 3) <= 5
        return (200 if fits and TOPIC.fullmatch(message["topic"]) else 400), message


def _message(path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    if path == "/":
        message = json.loads(body)
        return {"topic": str(message["topic"]), "message": str(message["message"]), **message}
    title = str(make_header(decode_header(headers.get("title", ""))))
    return {"topic": path.strip("/"), "message": body.decode(), "title": title}


def _handler(ntfy: Ntfy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, message = ntfy.judge(self.path, headers, body)
            scripted = ntfy.script.popleft() if ntfy.script else ntfy.always
            if scripted:
                status = scripted.status
            ntfy.requests.append(Received(self.path, headers, message, status))
            if scripted and scripted.silent_seconds:
                ntfy.over.wait(scripted.silent_seconds)
            if scripted and scripted.drop:
                self.close_connection = True
                return
            reply = {"id": "abc", "event": "message"} if status == 200 else _error(status)
            self._answer(status, json.dumps(reply).encode(), scripted or Answer())

        def _answer(self, status: int, data: bytes, how: Answer) -> None:
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **how.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if how.drip:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    if ntfy.over.wait(0.2):
                        return
            else:
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _error(status: int) -> dict[str, Any]:
    return {"code": CODES.get(status, status * 100), "http": status, "error": f"told to answer {status}"}
