"""The gates before every route, outermost first. Pure ASGI, each with one rule; what fails one gets a JSON error.

    Shield    security headers on every answer: no inline script or style, no framing, no referrer, nothing kept
    HostGate  the Host header is exactly one of ours: a page that rebinds its name to 127.0.0.1 comes under its own
    Door      a cookie from a one-time link, for reading too; GET /enter is where a link becomes one
    Origin    a browser's request comes from our own pages; from elsewhere it may at most open one
    WriteGate a write brings the session's CSRF token in a header, says application/json, and has at most 64 KiB

There is no CORS: nothing here ever answers with an Access-Control header.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.web.answers import problem
from producer.web.session import Session, Sessions, matches

BODY_BYTES = 64 << 10
BODY_SECONDS = 10.0
CSRF_HEADER = "x-producer-csrf"
READING = ("GET", "HEAD")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_ENTERED = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
    '<link rel="icon" href="/static/icon.svg"><title>Dashboard</title></head>'
    '<body><p><a href="/">Open the dashboard</a></p></body></html>'
)
_CLOSED = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Dashboard: not signed in</title></head>'
    "<body><h1>This dashboard opens with a link</h1><p>{why}</p><p>Run <code>producerctl ui</code> in the project for "
    "a new one, or use &ldquo;Open elsewhere&rdquo; on a page that is open already.</p></body></html>"
)


class Shield:
    """Security headers on every answer. A route may only set its own caching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def shielded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    if name != "cache-control" or name not in headers:
                        headers[name] = value
            await send(message)

        await self._app(scope, receive, shielded)


class HostGate:
    """Exactly one Host header, and it is one of ``hosts``."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no web sockets here: uvicorn closes what is not accepted
        given = Headers(scope=scope).getlist("host")
        if len(given) != 1 or given[0].lower() not in self._hosts:
            await problem(403, "this is not the address of the dashboard")(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Door:
    """A session for everything; without one only the way in."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Sets ``scope["session"]``."""
        if scope["type"] == "http":
            if scope["path"] == "/enter":
                await self._enter(scope)(scope, receive, send)
                return
            scope["session"] = self._session(Headers(scope=scope))
            if scope["session"] is None:
                await _closed(scope, "You have no session here.")(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _session(self, headers: Headers) -> Session | None:
        found = cookie_parser("; ".join(headers.getlist("cookie"))).get(self._sessions.cookie)
        return self._sessions.find(found) if found else None

    def _enter(self, scope: Scope) -> Response:
        if scope["method"] != "GET":
            return problem(405, "a link is opened with GET")
        token = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        session = self._sessions.enter(token[0]) if len(token) == 1 else None
        if session is None:
            return _closed(scope, "The link was used already, is too old, or is not one of ours.")
        # No redirect: where the link was followed from another site, a Strict cookie would not come along with one.
        return HTMLResponse(_ENTERED, headers={"set-cookie": self._sessions.header(session)})


def _closed(scope: Scope, why: str) -> Response:
    if scope["path"].startswith("/api/") or "text/html" not in Headers(scope=scope).get("accept", ""):
        return problem(401, f"{why} Open the link that `producerctl ui` prints.")
    return HTMLResponse(_CLOSED.format(why=why), 401)


class Origin:
    """Where a browser says that its request comes from. Programs that are no browsers do not say."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app, self._origins = app, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not self._ours(scope["method"], Headers(scope=scope)):
            await problem(403, "the request comes from another site")(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _ours(self, method: str, headers: Headers) -> bool:
        if any(origin not in self._origins for origin in headers.getlist("origin")):
            return False
        sites = headers.getlist("sec-fetch-site")
        if all(site in ("same-origin", "none") for site in sites):
            return method in READING or "none" not in sites
        return method in READING and headers.get("sec-fetch-mode") == "navigate" and self._top(headers)

    @staticmethod
    def _top(headers: Headers) -> bool:
        return headers.get("sec-fetch-dest") == "document"


class WriteGate:
    """What changes something: CSRF header, JSON, and a body that is whole and small before a route sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        found = _refused(scope["session"], headers)
        body = b"" if found else await _body(headers, receive)
        if found or body is None:
            await (found or problem(413, f"a request may have {BODY_BYTES} bytes"))(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)


def _refused(session: Session, headers: Headers) -> Response | None:
    tokens = headers.getlist(CSRF_HEADER)
    if len(tokens) != 1 or not matches(session, tokens[0]):
        return problem(403, "the X-Producer-CSRF header is missing or not this session's")
    kind = headers.get("content-type", "").lower().replace(" ", "")
    if kind not in ("application/json", "application/json;charset=utf-8"):
        return problem(415, "a request says Content-Type: application/json")
    return None


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None where it is too long, or does not come."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_BYTES:
        return None
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                body += message.get("body", b"")
                if len(body) > BODY_BYTES:
                    return None
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
