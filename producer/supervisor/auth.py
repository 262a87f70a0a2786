"""How agents authenticate with the model API, decided once at the start.

| mode         | what                                                                         | money is known from |
|--------------|------------------------------------------------------------------------------|---------------------|
| rehearsal    | the scripted model; no key, no cost                                          | the gateway's meter |
| api          | ANTHROPIC_API_KEY, else ANTHROPIC_AUTH_TOKEN; it stays in the gateway        | the gateway's meter |
| subscription | CLAUDE_CODE_OAUTH_TOKEN, else Claude Code's login file; read by the gateway  | the gateway's meter |
| inherit      | the host's own ~/.claude                                                     | the SDK's messages  |
| none         | an invoker that is not Claude                                                | the invoker         |

The gateway is given the one credential of the mode in force, and no other that may be set beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from producer import login
from producer.config import ProducerConfig
from producer.config.environment import auth_mode, upstream
from producer.errors import AuthError
from producer.supervisor.kernel import RunOptions

Mode = Literal["rehearsal", "api", "subscription", "inherit", "none"]
KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
TOKEN = "CLAUDE_CODE_OAUTH_TOKEN"


@dataclass(frozen=True)
class Auth:
    """The decision. ``warning`` is for a human; ``variable`` or ``login`` is where the credential comes from."""

    mode: Mode
    warning: str | None = None
    variable: str | None = None
    login: Path | None = None

    @property
    def metered(self) -> bool:
        """Whether every model request passes our gateway."""
        return self.mode in ("rehearsal", "api", "subscription")

    @property
    def kind(self) -> Literal["gateway", "inherit", "none"]:
        """In the words of TaskMsg.auth."""
        if self.metered:
            return "gateway"
        return "inherit" if self.mode == "inherit" else "none"

    @property
    def source(self) -> str:
        """Where the credential comes from, for a human."""
        return self.variable or (f"the login in {self.login}" if self.login else "")


def decide(config: ProducerConfig, options: RunOptions, env: Mapping[str, str]) -> Auth:
    """Which mode is in force.

    Raises AuthError where the configured one has nothing to work with, ConfigError for what is no mode or address.
    """
    if options.invoker != "claude":
        return Auth("none")
    if options.rehearse:
        return Auth("rehearsal")
    mode = auth_mode(config, env)
    file = login.path_of(env)
    if mode == "inherit":
        warning = f"there is no {file.parent}: agents have no login to inherit, unless a keychain holds one"
        return Auth("inherit", None if file.parent.is_dir() else warning)
    upstream(config, env)
    if mode in ("auto", "api", "isolated") and (found := next((name for name in KEYS if env.get(name)), None)):
        return Auth("api", variable=found)
    if mode in ("auto", "subscription", "isolated"):
        if env.get(TOKEN):
            return Auth("subscription", variable=TOKEN)
        if file.is_file():
            login.usable(file, time.time())
            return Auth("subscription", login=file)
    if mode == "auto" and file.parent.is_dir():
        return Auth(
            "inherit",
            f"no {KEYS[0]}, no {TOKEN} and no {file}: agents inherit {file.parent} with its plugins and hooks, and "
            "spending is known only from what the SDK reports",
        )
    raise AuthError(*_missing(mode, file, config.project_root / ".env"))


def _missing(mode: str, file: Path, dotenv: Path) -> tuple[str, str]:
    """What a mode has not found, and what would mend it."""
    where = f"in the environment or in {dotenv}"
    token = f"{TOKEN} (`claude setup-token` makes one)"
    if mode == "api":
        return f"auth mode api: no {' and no '.join(KEYS)}", f"set {KEYS[0]} {where}, or rehearse with run --rehearse"
    if mode == "subscription":
        return f"auth mode subscription: no {TOKEN} and no {file}", f"log in with `claude`, or set {token} {where}"
    last = ", or rehearse with run --rehearse" if mode == "isolated" else ", or take auth.mode: inherit for a keychain"
    return (
        f"auth mode {mode}: no API key, no token and no login of claude",
        f"set {KEYS[0]} or {token} {where}, or log in with `claude`{last}",
    )
