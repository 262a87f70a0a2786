"""An agent that holds its attempt's token and speaks HTTP; and a model API that lies about what it used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from producer import ids
from producer.gateway import asgi, serve
from producer.wire import tokens
from tests.gateway.gateway_rig import SECRET, body, live, rig


@asynccontextmanager
async def upstream(answer: str, kind: str = "application/json") -> AsyncIterator[tuple[str, list[str]]]:
    """A model API that says the same to everybody; its URL, and the paths that it was asked for."""
    asked: list[str] = []

    async def say(request: Request) -> Response:
        asked.append(request.scope["raw_path"].decode() + f"?{request.url.query}".rstrip("?"))
        return PlainTextResponse(answer, media_type=kind)

    app = Starlette(routes=[Route("/{path:path}", say, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])])
    async with serve.serving(app, serve.listen()) as url:
        yield url, asked


PATHS = [
    "/v1/messages/batches", "/v1/messages/batches/x/results", "/v1/files", "/v1/files/x/content", "/v1/complete",
    "/v1/organizations/usage_report", "/v1/models/..", "/v1/models/.", "/v1/models/%2e%2e", "/v1/models/x%3fbeta=1",
    "/v1/models/..%2ffiles", "/v1/models/%252e%252e%252ffiles", "/v1/models/x%23y", "/v1/models/x%0d%0aHost:evil",
    "/v1/models/a/../../files", "//evil.example/v1/models", "/v1/messages/", "/v1//messages", "/v1/messages%2fbatches",
    "/v1/messages;x", "/V1/messages", "/v1/skills", "/v1/models/x@evil.example%2f",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@live
async def test_no_other_path_of_the_api_is_reached(tmp_path: Path, path: str) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        host, port = r.url.removeprefix("http://").split(":")
        head = f"\r\nHost: {host}\r\nX-Api-Key: {tokens.mint(SECRET, r.attempt())}\r\nConnection: close\r\n"
        for method in ("GET", "POST"):
            await raw(host, int(port), f"{method} {path} HTTP/1.1{head}Content-Length: 2\r\n\r\n{{}}".encode())
        assert asked == [] and r.supervisor.asked == []


async def raw(host: str, port: int, request: bytes) -> bytes:
    """Bytes to the gateway, as no client of ours would send them; what it answers."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(100_000), 0.5)
    except (TimeoutError, ConnectionError):
        return b""
    finally:
        writer.close()


RAW = {
    "an absolute URL of elsewhere": "GET http://evil.example/v1/files HTTP/1.1\r\nHost: evil.example\r\n{key}\r\n",
    "a tunnel": "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n{key}\r\n",
    "two lengths": "POST /v1/messages HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 5\r\nContent-Length: 0\r\n\r\nGET /v1/models HTTP/1.1\r\n",
    "a length that is none": "POST /v1/messages HTTP/1.1\r\nHost: a\r\n{key}Content-Length: +1\r\n\r\nx",
    "a length below none": "POST /v1/messages HTTP/1.1\r\nHost: a\r\n{key}Content-Length: -1\r\n\r\n",
    "chunks of a strange size": "POST /v1/messages HTTP/1.1\r\nHost: a\r\n{key}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n0\r\n\r\n",
    "a header that goes on": "GET /v1/models HTTP/1.1\r\nHost: a\r\nX: y\r\n bad\r\n\r\n",
    "a header with a bare NUL": "GET /v1/models HTTP/1.1\r\nHost: a\r\nX: \0\r\n{key}\r\n",
    "no HTTP at all": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}  # fmt: skip


@pytest.mark.parametrize("attack", RAW)
@live
async def test_odd_bytes_reach_nobody_and_end_nothing(tmp_path: Path, attack: str) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        host, port = r.url.removeprefix("http://").split(":")
        key = f"X-Api-Key: {tokens.mint(SECRET, r.attempt())}\r\n"
        await raw(host, int(port), RAW[attack].replace("{key}", key).replace("{{}}", "{}").encode("latin-1"))
        assert asked == [] and r.supervisor.asked == []
        assert (await r.client.get(f"{r.url}/health")).status_code == 200


def usage(**changes: Any) -> dict[str, Any]:
    return {"input_tokens": 10, "output_tokens": 5, **changes}


LIES: dict[str, Any] = {
    "tokens below nothing": usage(output_tokens=-1_000_000),
    "tokens beyond counting": usage(input_tokens=2**70),
    "a text for a number": usage(output_tokens="5"),
    "half a token": usage(output_tokens=0.5),
    "true": usage(output_tokens=True),
    "nothing for a number": usage(output_tokens=None),
    "a cache that is a list": usage(cache_creation=[1]),
    "a cache that is a text": usage(cache_creation="x"),
    "searches that are a number": usage(server_tool_use=7),
    "a speed that is a list": usage(speed=[]),
    "a speed that nobody knows": usage(speed="ludicrous"),
    "a region that is an object": usage(inference_geo={}),
    "usage that is a list": [1, 2],
    "usage that is missing": None,
    "cache reads below nothing": usage(cache_read_input_tokens=-5),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("lie", LIES)
@live
async def test_whatever_the_api_says_it_used_is_booked_once_and_never_as_nothing(
    tmp_path: Path, lie: str, stream: bool
) -> None:
    said = LIES[lie]
    message = {"type": "message", "usage": said, "content": [], "model": "m"}
    answer, kind = json.dumps(message), "application/json"
    if stream:
        events = [
            {"type": "message_start", "message": {"usage": said}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": said},
            {"type": "message_stop"},
        ]
        answer, kind = "".join(f"data: {json.dumps(event)}\n\n" for event in events), "text/event-stream"
    async with upstream(answer, kind) as (url, _), rig(tmp_path, upstream=url) as r:
        await r.ask(r.attempt(), stream=stream)
        records = r.records()
        assert len(records) == 1 and r.supervisor.open == {}, "no grant is left open"
        assert 0 < records[0].cost < 10_000_000


@pytest.mark.parametrize(
    "event",
    ['{"type": "message_start", "message": "x"}', '{"type": "message_start", "message": [1]}',
     '{"type": "message_delta", "delta": "stop_reason"}', '{"type": "message_delta", "delta": 7, "usage": 7}',
     '{"type": ["message_start"]}', "[" * 100_000 + '"message_start"', '"message_start"', '{"message_start": NaN}'],
)  # fmt: skip
@live
async def test_an_event_of_another_shape_ends_in_the_worst_case(tmp_path: Path, event: str) -> None:
    async with upstream(f"data: {event}\n\n", "text/event-stream") as (url, _), rig(tmp_path, upstream=url) as r:
        await r.ask(r.attempt())
        assert len(r.records()) == 1 and r.records()[0].cost > 0 and r.supervisor.open == {}


BODIES: dict[str, Any] = {
    "max_tokens of nothing": body(max_tokens=0),
    "max_tokens below nothing": body(max_tokens=-1),
    "max_tokens in half": body(max_tokens=1.5),
    "max_tokens of true": body(max_tokens=True),
    "max_tokens as text": body(max_tokens="9"),
    "max_tokens of nobody": body(max_tokens=None),
    "a model of nobody": body(model="gpt-5"),
    "a model that is a list": body(model=[]),
    "a server of its own": body(mcp_servers=[{"type": "url", "url": "http://evil"}]),
    "a container": body(container="c"),
    "a tool of the API's without a price": body(tools=[{"type": "code_execution_20250825", "name": "c"}]),
    "searches without end": body(tools=[{"type": "web_search_20250305", "name": "w", "max_uses": -1}]),
    "a speed without a price": body(speed="ludicrous"),
    "a body that is a list": [1],
    "messages that are text": body(messages="hello"),
}


@pytest.mark.parametrize("attack", BODIES)
@live
async def test_what_has_no_price_does_not_leave(tmp_path: Path, attack: str) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        found = await r.client.post(f"{r.url}/v1/messages", headers=r.headers(r.attempt()), json=BODIES[attack])
        assert found.status_code in (400, 402) and asked == [] and r.supervisor.asked == []


@pytest.mark.parametrize(
    "raw_body",
    [b"", b"{", b"[" * 200_000, b'{"max_tokens": 1, "max_tokens": 99999}', b"\xff\xfe", b'{"model": NaN}', b"null",
     json.dumps(body()).encode().replace(b"4096", b"9" * 5000),
     json.dumps(body()).encode().replace(b'"max_tokens": 4096', b'"max_tokens": 1, "max_tokens": 4096'),
     json.dumps(body(max_tokens=1), separators=(",", ":")).encode()[:-1] + b',"max_tokens":4096}',
     json.dumps(body(metadata=[0])).replace("[0]", "[1e999]").encode()],
)  # fmt: skip
@live
async def test_a_body_that_is_no_request_is_an_error_and_no_traceback(tmp_path: Path, raw_body: bytes) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        found = await r.client.post(f"{r.url}/v1/messages", headers=r.headers(r.attempt()), content=raw_body)
        assert found.status_code == 400 and found.json()["type"] == "error" and asked == []


@live
async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        big = b'{"x": "' + b"x" * asgi.MAX_BODY + b'"}'
        found = await r.client.post(f"{r.url}/v1/messages", headers=r.headers(r.attempt()), content=big)
        assert found.status_code == 413 and asked == []


def _flip(token: str) -> str:
    return token[:-1] + ("0" if token[-1] != "0" else "1")


TOKENS = {
    "none": lambda r, a: {},
    "an empty one": lambda r, a: {"x-api-key": ""},
    "one of another secret": lambda r, a: {"x-api-key": tokens.mint(b"x" * 32, a)},
    "one with a digit changed": lambda r, a: {"x-api-key": _flip(tokens.mint(SECRET, a))},
    "one cut short": lambda r, a: {"x-api-key": tokens.mint(SECRET, a)[:-1]},
    "one of an attempt that nobody opened": lambda r, a: {"x-api-key": tokens.mint(SECRET, ids.new_id())},
    "a name with anothers signature": lambda r, a: {"x-api-key": f"ap-{ids.new_id()}-{tokens.mint(SECRET, a)[-32:]}"},
    "the real key of somebody": lambda r, a: {"authorization": "Bearer sk-ant-api03-x"},
    "a path for a name": lambda r, a: {"x-api-key": "ap-../../../../etc/passwdxxxxxxxxxx-" + "0" * 32},
    "a token in the query": lambda r, a: {"x-query": "1"},
}


@pytest.mark.parametrize("attack", TOKENS)
@live
async def test_a_token_that_is_not_an_open_attempts_is_worth_nothing(tmp_path: Path, attack: str) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        attempt = r.attempt()
        for path in ("/v1/messages", f"/v1/messages?x-api-key={tokens.mint(SECRET, attempt)}"):
            found = await r.client.post(f"{r.url}{path}", headers=TOKENS[attack](r, attempt), json=body())
            assert found.status_code in (401, 403) and asked == [] and r.supervisor.asked == []


@live
async def test_a_token_is_worth_nothing_once_its_attempt_is_closed(tmp_path: Path) -> None:
    async with upstream("{}") as (url, asked), rig(tmp_path, upstream=url) as r:
        attempt = r.attempt()
        r.gateway.attempts.close(attempt)
        assert (await r.ask(attempt)).status_code in (401, 403) and asked == []


@live
async def test_the_money_of_parallel_requests_is_held_before_the_first_of_them_leaves(tmp_path: Path) -> None:
    limit = 200_000
    async with rig(tmp_path, limit=limit) as r:
        attempt = r.attempt()
        await asyncio.gather(*(r.ask(attempt) for _ in range(30)))
        assert r.billed() <= r.supervisor.spent <= limit and r.supervisor.open == {}


@pytest.mark.parametrize("name", ["x-api-key", "authorization", "cookie", "host", "proxy-authorization"])
@live
async def test_a_header_that_names_somebody_else_is_not_passed_on(tmp_path: Path, name: str) -> None:
    seen: list[dict[str, str]] = []

    async def say(request: Request) -> Response:
        seen.append(dict(request.headers))
        return PlainTextResponse("{}", media_type="application/json", headers={"set-cookie": "a=b"})

    app = Starlette(routes=[Route("/{path:path}", say, methods=["GET"])])
    async with serve.serving(app, serve.listen()) as url, rig(tmp_path, upstream=url) as r:
        attempt = r.attempt()
        token = tokens.mint(SECRET, attempt)
        mine = {name: token} if name in ("x-api-key",) else {"x-api-key": token, name: "mine.example"}
        found: httpx.Response = await r.client.get(f"{r.url}/v1/models", headers=mine)
        assert found.status_code == 200 and "set-cookie" not in found.headers
        assert token not in str(seen) and "mine.example" not in str(seen)
