"""Warns a person before Claude Code's login runs out, and when it has: nobody but `claude` may renew it.

A login is told of once; a renewed one is another.
"""

from __future__ import annotations

from producer import login
from producer.errors import AuthError
from producer.ids import iso
from producer.supervisor.auth import Auth
from producer.supervisor.kernel import Kernel

AHEAD = 1800.0
EVERY = 30.0
MENDED = "run `claude` once, which renews it, or use CLAUDE_CODE_OAUTH_TOKEN (see docs/auth.md)"


class Logins:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel, auth: Auth) -> None:
        self._kernel, self._file = kernel, auth.login
        self._next, self._told = 0.0, ""

    def tend(self) -> None:
        """Look, every now and then, where the login file is what agents work with."""
        kernel = self._kernel
        if self._file is None or kernel.monotonic() < self._next:
            return
        self._next = kernel.monotonic() + EVERY
        now = kernel.clock()
        try:
            found = login.read(self._file)
        except AuthError as error:
            self._tell("the login of claude is gone", str(error))
            return
        if found.expires is None or found.expires > now + AHEAD:
            self._told = ""
        elif found.expired(now):
            self._tell("the login of claude has expired", f"{self._file} expired at {iso(found.expires)}: {MENDED}")
        else:
            self._tell("the login of claude expires soon", f"{self._file} expires at {iso(found.expires)}: {MENDED}")

    def _tell(self, title: str, body: str) -> None:
        if self._told != body:
            self._told = body
            self._kernel.notify("auth", title, body, push=title)
