"""Credentials for the supervisor, never exported: from systemd's LoadCredential= and from the project's .env.

1. .env of the project root is read, whatever the working directory. What is set in the environment wins.
   Then comes a file of $CREDENTIALS_DIRECTORY, named as the variable in small letters with dashes: anthropic-api-key;
   the ntfy token is `ntfy-token`, whatever its variable is called.
2. Only NAMES (and the variable that notifications.ntfy_token_env names) are taken: agents may write in the project,
   and a planted ANTHROPIC_BASE_URL or LD_PRELOAD would send the key elsewhere.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dotenv import dotenv_values

from producer.config.blocks import AUTH_MODES
from producer.config.files import decode, read_bytes
from producer.config.load import ProducerConfig
from producer.config.tree import Scalar
from producer.config.values import url
from producer.core.text import one_line
from producer.errors import ConfigError

UPSTREAM = "ANTHROPIC_BASE_URL"
DEFAULT_UPSTREAM = "https://api.anthropic.com"
NAMES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "PRODUCER_AUTH_MODE")
MAX_BYTES = 64 * 1024


def project_env(config: ProducerConfig, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """``environ`` completed by the project's .env. An empty variable counts as unset. Raises ConfigError."""
    dotenv = {name: value for name, value in _dotenv(config).items() if name in wanted(config) and value}
    found = {**dotenv, **_credentials(config, environ)}
    return {**found, **{name: value for name, value in environ.items() if value or name not in found}}


def ignored_names(config: ProducerConfig) -> list[str]:
    """Variables that .env sets and that are not read from there."""
    return sorted(set(_dotenv(config)) - set(wanted(config)))


def auth_mode(config: ProducerConfig, env: Mapping[str, str]) -> str:
    """PRODUCER_AUTH_MODE where it is set, else auth.mode. Raises ConfigError for a mode that does not exist."""
    mode = env.get("PRODUCER_AUTH_MODE") or config.auth.mode
    if mode not in AUTH_MODES:
        problem = f"{mode!r} is not allowed: it must be one of {', '.join(AUTH_MODES)}"
        raise ConfigError(problem, key="PRODUCER_AUTH_MODE")
    return mode


def upstream(config: ProducerConfig, env: Mapping[str, str]) -> str:
    """The model API that the gateway asks. Raises ConfigError where ANTHROPIC_BASE_URL is no address."""
    if config.gateway.upstream:
        return config.gateway.upstream
    if not (base := env.get(UPSTREAM)):
        return DEFAULT_UPSTREAM
    kind = url()
    try:
        return str(kind.read(Scalar(base, plain=False)))
    except ValueError:
        raise ConfigError(f"{one_line(base, 80)!r} is not allowed: it must be {kind.allowed}", key=UPSTREAM) from None


def wanted(config: ProducerConfig) -> tuple[str, ...]:
    """The variables that are read from .env."""
    token = config.notifications.ntfy_token_env
    return (*NAMES, token) if token else NAMES


def _credentials(config: ProducerConfig, environ: Mapping[str, str]) -> dict[str, str]:
    directory = Path(environ.get("CREDENTIALS_DIRECTORY", ""))
    if not directory.is_absolute():
        return {}
    found = {}
    for name in wanted(config):
        file = "ntfy-token" if name == config.notifications.ntfy_token_env else name.lower().replace("_", "-")
        path = directory / file
        with suppress(FileNotFoundError):
            if value := decode(read_bytes(path, MAX_BYTES), path).strip():
                found[name] = value
    return found


def _dotenv(config: ProducerConfig) -> dict[str, str]:
    path = config.project_root / ".env"
    try:
        text = decode(read_bytes(path, MAX_BYTES), path)
    except FileNotFoundError:
        return {}
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}
