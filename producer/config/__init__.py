"""producer.yaml, read strictly into frozen objects.

    config = load_config(find_config())

tree.py reads YAML with line numbers, values.py knows the kinds of value, tools.py the tools; model.py, roles.py and
blocks.py hold the keys; load.py resolves paths, problems.py words what is wrong; environment.py reads .env;
schema.py and docs.py describe it all. The names below are loaded when they are first used: what
finds the file needs no schema.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.config.blocks import (
        AuditConfig,
        AuthConfig,
        BurstConfig,
        EventsConfig,
        GatewayConfig,
        LimitsConfig,
        NotificationsConfig,
        PriceRow,
        ReportConfig,
        ScheduleEntry,
    )
    from producer.config.environment import auth_mode, project_env
    from producer.config.files import find_config
    from producer.config.load import ProducerConfig, load_config
    from producer.config.roles import BudgetConfig, RetryConfig, RoleConfig

_HOMES = {
    "find_config": "files",
    "ProducerConfig": "load",
    "load_config": "load",
    "auth_mode": "environment",
    "project_env": "environment",
    "BudgetConfig": "roles",
    "RetryConfig": "roles",
    "RoleConfig": "roles",
}

__all__ = [
    "AuditConfig",
    "AuthConfig",
    "BudgetConfig",
    "BurstConfig",
    "EventsConfig",
    "GatewayConfig",
    "LimitsConfig",
    "NotificationsConfig",
    "PriceRow",
    "ProducerConfig",
    "ReportConfig",
    "RetryConfig",
    "RoleConfig",
    "ScheduleEntry",
    "auth_mode",
    "find_config",
    "load_config",
    "project_env",
]


def __getattr__(name: str) -> Any:
    """One of the names above, from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'blocks')}"), name)
