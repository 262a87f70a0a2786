"""producer.yaml, read strictly into frozen objects.

    config = load_config(find_config())

tree.py reads YAML with line numbers, values.py knows the kinds of value, tools.py the tools; model.py, roles.py and
blocks.py hold the keys; load.py resolves paths, problems.py words what is wrong; environment.py reads .env;
schema.py and docs.py describe it all.
"""

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
from producer.config.load import ProducerConfig, find_config, load_config
from producer.config.roles import BudgetConfig, RetryConfig, RoleConfig
from producer.config.warnings import warnings

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
    "warnings",
]
