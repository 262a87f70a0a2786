"""The way to the model API, and the only place that knows the real key.

1. The key comes from the environment once and is taken out of it; a client's own credentials are never passed on.
   A login comes from Claude Code's file, which is read for every request: whoever uses `claude` renews it there.
2. An OAuth token goes as a Bearer token with the beta header that the CLI would send with it.
3. Redirects are not followed: a key goes where the operator said, and nowhere else.
4. Responses come unpacked: the meter reads them, and loopback needs no compression.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from producer import login
from producer.errors import AuthError
from producer.gateway.clamp import Plan

OAUTH_BETA = "oauth-2025-04-20"
PUBLIC = "https://api.anthropic.com"
NOT_PASSED_ON = frozenset(
    b"host connection keep-alive transfer-encoding te trailer upgrade proxy-authorization proxy-connection expect"
    b" content-length accept-encoding x-api-key authorization cookie".split()
)
NOT_PASSED_BACK = frozenset(
    b"connection keep-alive transfer-encoding trailer upgrade content-length content-encoding set-cookie".split()
)
COUNTABLE = ("model", "messages", "system", "tools", "tool_choice", "thinking")
NEVER_LEFT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)  # fmt: skip
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Key:
    """The real credential. It does not show when printed."""

    api_key: str | None = field(default=None, repr=False)
    oauth: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)
    login: Path | None = None

    @classmethod
    def take(cls, env: MutableMapping[str, str]) -> Key:
        """The credential in an environment, which loses them all. An API key wins, as in the CLI."""
        names = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
        api_key, bearer, oauth = (env.pop(name, None) or None for name in names)
        if api_key:
            return cls(api_key=api_key)
        return cls(bearer=bearer, oauth=None if bearer else oauth)

    def missing(self) -> str | None:
        """Why there is no credential now, though there should be; None where all is well."""
        try:
            self._token()
        except AuthError as error:
            return str(error)
        return None

    def onto(self, headers: Headers) -> Headers:
        """The headers with the credential. Raises AuthError where the login is of no use any more."""
        if self.api_key:
            return [*headers, (b"x-api-key", self.api_key.encode())]
        if self.bearer:
            return [*headers, (b"authorization", f"Bearer {self.bearer}".encode())]
        token = self._token()
        if not token:
            return headers
        betas = b",".join(value for name, value in headers if name == b"anthropic-beta").split(b",")
        betas = [beta.strip() for beta in betas if beta.strip()]
        if OAUTH_BETA.encode() not in betas:
            betas.append(OAUTH_BETA.encode())
        rest = [(name, value) for name, value in headers if name != b"anthropic-beta"]
        return [*rest, (b"anthropic-beta", b",".join(betas)), (b"authorization", f"Bearer {token}".encode())]

    def _token(self) -> str | None:
        return login.usable(self.login, time.time()).token if self.login else self.oauth


class Upstream:
    """An HTTP client for the model API at ``base`` (scheme, host, and a path prefix if any)."""

    def __init__(self, base: str, key: Key, read_seconds: float = 600.0) -> None:
        self._base, self._key = base.rstrip("/"), key
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(read_seconds, connect=15.0, write=60.0, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=20.0),
            follow_redirects=False,
            trust_env=not _is_loopback(self._base),
            verify=not self._base.startswith("http:"),  # loading the certificates takes a tenth of a second
        )

    def missing(self) -> str | None:
        """Why no request can be sent now: the reason a human needs; None where all is well."""
        return self._key.missing()

    async def send(self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> httpx.Response:
        """Send a request with the real key; the response's body is still to be read. Raises httpx.HTTPError."""
        passed = [(name.lower(), value) for name, value in headers if name.lower() not in NOT_PASSED_ON]
        try:
            passed = [*self._key.onto(passed), (b"accept-encoding", b"identity")]
        except AuthError as error:  # it ran out since the request was let in
            raise httpx.ConnectError(str(error)) from None
        request = self._client.build_request(method, self._base + path, headers=passed, content=body or None)
        return await self._client.send(request, stream=True)

    async def count(self, plan: Plan, headers: Iterable[tuple[bytes, bytes]]) -> int | None:
        """What the API counts as the prompt of a planned request (free); None where it does not say."""
        body = {key: plan.body[key] for key in COUNTABLE if key in plan.body}
        try:
            response = await self.send("POST", "/v1/messages/count_tokens", headers, json.dumps(body).encode())
            content = json.loads(await response.aread())
        except (httpx.HTTPError, ValueError):
            return None
        tokens = content.get("input_tokens") if response.status_code == 200 and isinstance(content, dict) else None
        return tokens if type(tokens) is int and tokens >= 0 else None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


def passed_back(response: httpx.Response) -> Headers:
    """A response's headers as the client gets them; retry-after and the rate limits among them."""
    return [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in NOT_PASSED_BACK]


def _is_loopback(base: str) -> bool:
    host = urlsplit(base).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
