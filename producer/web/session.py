"""Who may look: a one-time link becomes a cookie.

1. A link carries a token of 256 random bits, works once, and for TEN MINUTES.
2. The cookie that it is exchanged for is HttpOnly and SameSite=Strict and carries another token. The port is in its
   name, because cookies know no ports and several dashboards may run side by side.
3. Each session has a CSRF token of its own, shown in the pages' meta tag: a write must bring it in a header.
4. Nothing is stored: when the process ends, every link and every session ends with it.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

TEN_MINUTES = 600.0
MOST_SESSIONS = 100
BYTES = 32


@dataclass(frozen=True)
class Session:
    """A browser that came by a link."""

    token: str
    csrf: str


class Sessions:
    """All links and sessions of one dashboard. The clock is passed in."""

    def __init__(self, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.cookie = f"producer_{port}"
        self._clock = clock
        self._links: dict[str, float] = {}
        self._sessions: dict[str, Session] = {}

    def link(self) -> str:
        """The token of a new link."""
        self._links = {token: until for token, until in self._links.items() if until > self._clock()}
        token = secrets.token_urlsafe(BYTES)
        self._links[token] = self._clock() + TEN_MINUTES
        return token

    def enter(self, token: str) -> Session | None:
        """Exchange a link's token for a session; None where it is not one, was used, or is too old."""
        known = next((one for one in self._links if _same(one, token)), None)
        if known is None or self._links.pop(known) < self._clock():
            return None
        session = Session(secrets.token_urlsafe(BYTES), secrets.token_urlsafe(BYTES))
        self._sessions[session.token] = session
        for oldest in list(self._sessions)[:-MOST_SESSIONS]:
            del self._sessions[oldest]
        return session

    def find(self, token: str) -> Session | None:
        """The session of a cookie."""
        return next((session for session in self._sessions.values() if _same(session.token, token)), None)

    def header(self, session: Session) -> str:
        """The Set-Cookie header's value."""
        return f"{self.cookie}={session.token}; Path=/; HttpOnly; SameSite=Strict"


def matches(session: Session, csrf: str) -> bool:
    """Whether a write's CSRF header is this session's."""
    return _same(session.csrf, csrf)


def _same(mine: str, theirs: str) -> bool:
    return hmac.compare_digest(mine.encode(), theirs.encode("utf-8", "surrogateescape"))
