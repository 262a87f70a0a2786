"""The way to the model API, and the only place that knows the real key.

1. The key comes from the environment once and is taken out of it; a client's own credentials are never passed on.
   A login comes from Claude Code's file, which is read for every request: whoever uses `claude` renews it there.
2. An OAuth token goes as a Bearer token with the beta header that the CLI would send with it.
3. Redirects are not followed: a key goes where the operator said, and nowhere else.
4. Responses come unpacked: the meter reads them, and loopback needs no compression.
5. aiohttp, because its parser is in C: a request costs a third of httpx's processor time, a streamed megabyte a tenth.
   What has arrived when it is asked comes as one piece.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import certifi

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
KEPT_SECONDS = 20.0
OWN_HEADERS = ("Accept", "Content-Type", "User-Agent")  # aiohttp's, where the client names none
Headers = list[tuple[bytes, bytes]]


class NotSent(aiohttp.ClientError):
    """The request did not leave."""


NEVER_LEFT = (
    NotSent, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError,
    aiohttp.NonHttpUrlClientError, aiohttp.InvalidURL,
)  # fmt: skip


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
    """An HTTP client for the model API at ``base`` (scheme, host, and a path prefix if any), within an event loop."""

    def __init__(self, base: str, key: Key, read_seconds: float = 600.0) -> None:
        self._base, self._key = base.rstrip("/"), key
        self._proxy = _proxy(self._base)
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS, ssl=_trust(self._base)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15.0, sock_read=read_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=OWN_HEADERS,
        )

    def missing(self) -> str | None:
        """Why no request can be sent now: the reason a human needs; None where all is well."""
        return self._key.missing()

    async def send(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request with the real key; the response's body is still to be read. Raises aiohttp.ClientError."""
        passed = [(name.lower(), value) for name, value in headers if name.lower() not in NOT_PASSED_ON]
        try:
            passed = [*self._key.onto(passed), (b"accept-encoding", b"identity")]
        except AuthError as error:  # it ran out since the request was let in
            raise NotSent(str(error)) from None
        text = [(name.decode(), value.decode(errors="replace")) for name, value in passed]
        return await self._client.request(
            method, self._base + path, headers=text, data=body or None, allow_redirects=False, proxy=self._proxy
        )

    async def count(self, plan: Plan, headers: Iterable[tuple[bytes, bytes]]) -> int | None:
        """What the API counts as the prompt of a planned request (free); None where it does not say."""
        body = {key: plan.body[key] for key in COUNTABLE if key in plan.body}
        try:
            async with await self.send(
                "POST", "/v1/messages/count_tokens", headers, json.dumps(body).encode()
            ) as response:
                content = json.loads(await response.read())
        except (aiohttp.ClientError, ValueError):
            return None
        tokens = content.get("input_tokens") if response.status == 200 and isinstance(content, dict) else None
        return tokens if type(tokens) is int and tokens >= 0 else None

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


def passed_back(response: aiohttp.ClientResponse) -> Headers:
    """A response's headers as the client gets them; retry-after and the rate limits among them."""
    return [(name.lower(), value) for name, value in response.raw_headers if name.lower() not in NOT_PASSED_BACK]


def _proxy(base: str, proxies: Mapping[str, str] | None = None) -> str | None:
    """The proxy that the environment names for an address, never for loopback. (aiohttp would read ~/.netrc, too.)"""
    parts = urlsplit(base)
    if _is_loopback(base) or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies() if proxies is None else proxies
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def _trust(base: str) -> ssl.SSLContext | bool:
    """Whose certificates count: those of $SSL_CERT_FILE or $SSL_CERT_DIR, else certifi's. Loading them takes time."""
    if base.startswith("http:"):
        return True
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    return ssl.create_default_context(cafile=file or (None if directory else certifi.where()), capath=directory)


def _is_loopback(base: str) -> bool:
    host = urlsplit(base).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
