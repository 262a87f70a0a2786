"""The token by which the gateway knows an attempt: `ap-<attempt>-<32 hex digits of HMAC-SHA256(secret, attempt)>`.

It is the attempt's API key: it says whose money is spent, and is worth nothing once the attempt is closed. The secret
is 32 random bytes in Places.keys, made by whoever first needs it and shared by the supervisor and the gateway.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets

from producer.errors import WireError
from producer.places import Places

FILE = "gateway.secret"
SIZE = 32
_TOKEN = re.compile(r"^ap-([0-9A-HJKMNP-TV-Z]{26})-([0-9a-f]{32})$")


def secret(places: Places) -> bytes:
    """The secret of this ledger's gateway. Raises WireError where the file is not as we make it."""
    path = places.keys / FILE
    if not path.exists():
        fresh = path.with_name(f".{FILE}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SIZE))
        try:
            os.link(fresh, path)  # whole or not at all, and never over another's
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    content = path.read_bytes()
    if len(content) != SIZE:
        raise WireError(f"{path} must hold {SIZE} bytes, not {len(content)}: remove it")
    return content


def mint(key: bytes, attempt: str) -> str:
    """The token of an attempt."""
    return f"ap-{attempt}-{_digest(key, attempt)}"


def verify(key: bytes, token: str) -> str | None:
    """The attempt that a token was minted for, None for any other text."""
    match = _TOKEN.match(token)
    return match[1] if match and hmac.compare_digest(match[2], _digest(key, match[1])) else None


def _digest(key: bytes, attempt: str) -> str:
    return hmac.new(key, attempt.encode(), "sha256").hexdigest()[:32]
