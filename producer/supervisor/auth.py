"""How agents authenticate with the model API, decided once at the start.

| mode         | what                                        | money is known from    |
|--------------|---------------------------------------------|------------------------|
| rehearsal    | the scripted model; no key, no cost         | the gateway's meter    |
| api          | ANTHROPIC_API_KEY, which stays in the gateway | the gateway's meter  |
| subscription | CLAUDE_CODE_OAUTH_TOKEN, likewise           | the gateway's meter    |
| inherit      | the host's own ~/.claude                    | the SDK's messages     |
| none         | an invoker that is not Claude               | the invoker            |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from producer.config import ProducerConfig
from producer.config.environment import auth_mode
from producer.errors import AuthError
from producer.supervisor.kernel import RunOptions

Mode = Literal["rehearsal", "api", "subscription", "inherit", "none"]


@dataclass(frozen=True)
class Auth:
    """The decision; ``warning`` is for a human."""

    mode: Mode
    warning: str | None = None

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


def decide(config: ProducerConfig, options: RunOptions, env: Mapping[str, str]) -> Auth:
    """Which mode is in force. Raises AuthError where the configured one has nothing to work with."""
    if options.invoker != "claude":
        return Auth("none")
    if options.rehearse:
        return Auth("rehearsal")
    mode = auth_mode(config, env)
    has_key, has_token = bool(env.get("ANTHROPIC_API_KEY")), bool(env.get("CLAUDE_CODE_OAUTH_TOKEN"))
    if mode == "inherit":
        return Auth("inherit")
    if has_key and mode in ("auto", "api", "isolated"):
        return Auth("api")
    if has_token and mode in ("auto", "subscription", "isolated"):
        return Auth("subscription")
    if mode == "auto" and (Path(env.get("HOME", "/")) / ".claude").is_dir():
        return Auth(
            "inherit",
            "no ANTHROPIC_API_KEY and no CLAUDE_CODE_OAUTH_TOKEN: agents inherit ~/.claude with its plugins and hooks, "
            "and spending is known only from what the SDK reports",
        )
    raise AuthError(
        f"auth mode {mode}: set ANTHROPIC_API_KEY or CLAUDE_CODE_OAUTH_TOKEN (in the environment or in the project's "
        ".env), or log in with `claude` and use auth.mode: inherit"
    )
