"""How requests reach the model API: with whose headers, through which proxy, trusting whom."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_rig import live

from producer.gateway.upstream import NEVER_LEFT, Key, Upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Api:
    """Something that speaks HTTP: the heads of what it was asked, and on how many connections."""

    answer: bytes = OK
    close: bool = False
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self.answer)
                await writer.drain()
                if self.close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def serving(api: Api, context: ssl.SSLContext | None = None) -> AsyncIterator[Api]:
    server = await asyncio.start_server(api.serve, "127.0.0.1", 0, ssl=context)
    api.port = server.sockets[0].getsockname()[1]
    yield api
    server.close()


@asynccontextmanager
async def upstream(base: str, key: Key = Key(api_key="sk-real")) -> AsyncIterator[Upstream]:  # noqa: B008
    found = Upstream(base, key)
    yield found
    await found.close()


async def get(to: Upstream, *headers: tuple[bytes, bytes]) -> tuple[int, bytes]:
    async with await to.send("GET", "/v1/models", headers, b"") as response:
        return response.status, await response.read()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Sets variables that say where requests go; none is set before, and ~/.netrc knows everybody."""
    (tmp_path / ".netrc").write_text("default login somebody password theirs\n")
    (tmp_path / ".netrc").chmod(0o600)
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@live
async def test_headers_go_as_they_came_and_none_of_the_librarys_own_with_them() -> None:
    odd = ((b"X-Two", b"one"), (b"x-two", "zwei \N{SNOWMAN}".encode()), (b"Content-Type", b"application/json"))
    async with serving(Api()) as api, upstream(api.url) as to:
        assert await get(to, *odd) == (200, b"{}")
        lines = api.heads[0].split(b"\r\n")
        assert {b"x-two: one", "x-two: zwei \N{SNOWMAN}".encode(), b"content-type: application/json"} <= set(lines)
        names = [line.partition(b":")[0].lower() for line in lines[1:] if line]
        assert sorted(names) == sorted([b"host", b"x-two", b"x-two", b"content-type", b"x-api-key", b"accept-encoding"])
        assert b"identity" in api.heads[0]


@live
async def test_a_cookie_that_the_api_sets_is_forgotten_and_its_redirect_not_followed() -> None:
    answer = b"HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\nset-cookie: who=me\r\ncontent-length: 0\r\n\r\n"
    async with serving(Api(answer)) as api, upstream(api.url) as to:
        assert [await get(to) for _ in range(2)] == [(307, b"")] * 2
        assert len(api.heads) == 2 and b"who=me" not in b"".join(api.heads)


@live
async def test_an_answer_that_comes_packed_is_unpacked() -> None:
    packed = gzip.compress(b'{"a": 1}')
    answer = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%s" % (len(packed), packed)
    async with serving(Api(answer)) as api, upstream(api.url) as to:
        assert await get(to) == (200, b'{"a": 1}')


@live
async def test_a_connection_is_kept_and_one_that_the_api_closed_is_not_used_again() -> None:
    async with serving(Api()) as api, upstream(api.url) as to:
        assert [(await get(to))[0] for _ in range(3)] == [200] * 3
        assert api.connections == 1
    async with serving(Api(close=True)) as api, upstream(api.url) as to:
        for _ in range(3):
            assert (await get(to))[0] == 200
            await asyncio.sleep(0.02)  # for its close to be seen; one that meets the request is an error as ever
        assert api.connections == 3


@live
async def test_a_proxy_of_the_environment_is_used_and_no_netrc(environment: Callable[..., None]) -> None:
    async with serving(Api()) as proxy:
        environment(HTTP_PROXY=f"http://u:p@127.0.0.1:{proxy.port}")
        async with upstream("http://api.example/prefix", Key()) as to:
            assert await get(to) == (200, b"{}")
        head = proxy.heads[0].lower()
        assert head.startswith(b"get http://api.example/prefix/v1/models ")
        assert b"proxy-authorization: basic dtpw" in head and b"\r\nauthorization" not in head


@pytest.mark.parametrize(
    ("variables", "base", "used"),
    [
        ({"HTTPS_PROXY": "P"}, "https://api.example", True),
        ({"ALL_PROXY": "P"}, "https://api.example", True),
        ({"HTTP_PROXY": "P"}, "https://api.example", False),
        ({"HTTPS_PROXY": "P", "NO_PROXY": "api.example"}, "https://api.example", False),
        ({"HTTP_PROXY": "P", "ALL_PROXY": "P"}, "http://127.0.0.1:1", False),
        ({"HTTP_PROXY": "P", "ALL_PROXY": "P"}, "http://localhost:1", False),
    ],
)
@live
async def test_which_addresses_are_reached_through_a_proxy(
    environment: Callable[..., None], variables: dict[str, str], base: str, used: bool
) -> None:
    """A proxy that refuses: the request has not left."""
    async with serving(Api(b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", close=True)) as proxy:
        environment(**{name: f"127.0.0.1:{proxy.port}" if value == "P" else value for name, value in variables.items()})
        async with upstream(base) as to:
            with pytest.raises(NEVER_LEFT):
                await get(to)
        assert bool(proxy.heads) == used
        assert b"sk-real" not in b"".join(proxy.heads)


@live
async def test_a_certificate_that_nobody_vouches_for_gets_no_request(
    environment: Callable[..., None], tmp_path: Path
) -> None:
    chain = self_signed(tmp_path / "chain.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    async with serving(Api(), context) as api:
        base = f"https://127.0.0.1:{api.port}"
        async with upstream(base) as to:
            with pytest.raises(NEVER_LEFT) as caught:
                await get(to)
            assert isinstance(caught.value, aiohttp.ClientConnectorCertificateError)
        assert api.heads == []
        environment(SSL_CERT_FILE=str(chain))
        async with upstream(base) as to:
            assert await get(to) == (200, b"{}")


def self_signed(path: Path) -> Path:
    """A key and a certificate of 127.0.0.1 that it signed itself, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    day = timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - day)
        .not_valid_after(datetime.now(UTC) + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))
    return path
