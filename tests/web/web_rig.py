"""The dashboard of a project, in this process: its application, asked without a socket, and a session of its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from driving import Project

from producer.cli.app import App
from producer.web.app import build
from producer.web.desk import Desk
from producer.web.serve import hosts
from producer.web.session import Sessions

PORT = 5050
HOST = f"127.0.0.1:{PORT}"


OPEN: list[Desk] = []


class Clock:
    """A clock that stands."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Web:
    """One dashboard and one browser that came by a link."""

    project: Project
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        app = App()
        app.config_file = str(self.project.file)
        self.sessions = Sessions(PORT, self.clock)
        names, origins = hosts(PORT, app.config.notifications.dashboard_url)
        self.desk = Desk(app)
        OPEN.append(self.desk)
        self.app = build(self.desk, self.sessions, names, origins)
        session = self.sessions.enter(self.sessions.link())
        assert session
        self.session = session

    @property
    def cookie(self) -> str:
        """What the browser sends along."""
        return f"{self.sessions.cookie}={self.session.token}"

    def ask(
        self, method: str, path: str, *, headers: dict[str, str | None] | None = None, content: bytes | str = b""
    ) -> httpx.Response:
        """One request as a browser of ours sends it; ``headers`` change it, None takes one away."""
        sent: dict[str, str | None] = {"host": HOST, "cookie": self.cookie, "sec-fetch-site": "same-origin"}
        if method != "GET":
            sent |= {"content-type": "application/json", "x-producer-csrf": self.session.csrf,
                     "origin": f"http://{HOST}"}  # fmt: skip
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        return self.raw(method, path, [(name, value) for name, value in sent.items() if value is not None], content)

    def raw(self, method: str, path: str, headers: list[tuple[str, str]], content: bytes | str = b"") -> httpx.Response:
        """One request with just these headers."""

        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as client:
                request = client.build_request(method, path, content=content, timeout=20)
                request.headers = httpx.Headers([(name, value.encode("latin-1")) for name, value in headers])
                if content and "content-length" not in request.headers and "transfer-encoding" not in request.headers:
                    request.headers["content-length"] = str(len(content))
                return await client.send(request)

        return asyncio.run(go())

    def get(self, path: str, **headers: str | None) -> httpx.Response:
        """A page or a JSON route."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any, **headers: str | None) -> httpx.Response:
        """A write."""
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        return self.ask("POST", path, headers=headers, content=text)
