"""The login that Claude Code keeps in a file: read here, never written, never renewed.

1. The file is $CLAUDE_CONFIG_DIR/.credentials.json, else ~/.claude/.credentials.json.
2. Its access token lasts some hours. Renewing it uses up the refresh token: of two who renew at once one loses the
   login. Claude Code guards that with a lock in its own configuration directory, which copies of the file, or links
   to it, in other directories do not share. So agents get neither: the gateway alone reads the token, anew for every
   request, and `claude` alone renews it.
3. An expired login is refused, with that reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from producer.errors import AuthError
from producer.ids import iso

FILE = ".credentials.json"
MAX_BYTES = 64 * 1024
LOG_IN = "run `claude` and log in"


@dataclass(frozen=True)
class Login:
    """An access token, which does not show when printed; ``expires`` in epoch seconds, None where nobody says."""

    token: str = field(repr=False)
    expires: float | None = None

    def expired(self, now: float) -> bool:
        """Whether the token is of no use any more."""
        return self.expires is not None and now >= self.expires


def path_of(env: Mapping[str, str]) -> Path:
    """Where Claude Code keeps the login of the user with this environment."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path(env.get("HOME") or "/") / ".claude") / FILE


def read(path: Path) -> Login:
    """The login in a file. Raises AuthError where there is none."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(MAX_BYTES))
        oauth = content["claudeAiOauth"]
        token, expires = oauth["accessToken"], oauth.get("expiresAt")
    except OSError as error:
        raise AuthError(f"{path}: cannot be read: {error.strerror}", LOG_IN) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AuthError(f"{path}: holds no login of Claude Code", LOG_IN) from None
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise AuthError(f"{path}: holds no login of Claude Code", LOG_IN)
    known = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    return Login(token, expires / 1000 if known else None)


def usable(path: Path, now: float) -> Login:
    """The login in a file, which has not expired. Raises AuthError with the reason and the way out."""
    login = read(path)
    if login.expires is not None and login.expired(now):
        raise AuthError(
            f"the login in {path} expired at {iso(login.expires)}",
            "run `claude` once, which alone may renew it, or let `claude setup-token` make a token that lasts and set "
            "CLAUDE_CODE_OAUTH_TOKEN",
        )
    return login
