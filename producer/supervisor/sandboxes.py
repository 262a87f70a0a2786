"""Whether every role can be put into the sandbox that it asks for; asked at a start and at a reload."""

from __future__ import annotations

from producer import sandbox
from producer.config import ProducerConfig
from producer.config.load import line_in
from producer.errors import ConfigError
from producer.supervisor.auth import Auth


def check(config: ProducerConfig, auth: Auth) -> None:
    """Raises ConfigError for the first role that would have to be refused. Invokers of one's own have no sandbox."""
    if auth.mode == "none":
        return
    for name in config.roles:
        found = sandbox.problem(config, name, metered=auth.metered)
        if found is not None:
            key, why = found
            path = ("budget", "agents", name, key)
            line = line_in(config.source, path) or line_in(config.source, path[:-1]) if config.source else None
            raise ConfigError(why, file=config.source, line=line, key=".".join(path))


def in_force(config: ProducerConfig, auth: Auth, name: str) -> dict[str, str]:
    """What `status` shows of a role: the sandbox in force, and its network."""
    role = config.roles[name]
    mode = "none" if auth.mode == "none" else sandbox.in_force(role.sandbox, role.network)
    return {"mode": mode, "network": role.network}
