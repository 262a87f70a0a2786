"""ai-producer: a bus, a budget and a brake for a fleet of Claude agents that works unattended.

The names below are the public API. They are loaded when they are first used, so that importing the package, as every
worker does, costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from producer.version import __version__

if TYPE_CHECKING:
    from producer.api import BudgetTracker, Producer
    from producer.config import (
        AuthConfig,
        BudgetConfig,
        NotificationsConfig,
        ProducerConfig,
        RoleConfig,
        load_config,
    )
    from producer.errors import BudgetExceeded, LedgerError, ProducerError, TaskClaimRace
    from producer.ids import new_id, utc_iso_now, utc_today
    from producer.killswitch import KillSwitchWatcher
    from producer.ledger import AUDIT_GENESIS_PREV_HASH, AuditLogger, AuditRow, Draft, LedgerClient, Task
    from producer.workers.invocation import InvocationResult
    from producer.workers.standalone import ClaudeAgentInvoker

_HOMES = {
    "producer.api": ("BudgetTracker", "Producer"),
    "producer.config": (
        "AuthConfig",
        "BudgetConfig",
        "NotificationsConfig",
        "ProducerConfig",
        "RoleConfig",
        "load_config",
    ),
    "producer.errors": ("BudgetExceeded", "LedgerError", "ProducerError", "TaskClaimRace"),
    "producer.ids": ("new_id", "utc_iso_now", "utc_today"),
    "producer.killswitch": ("KillSwitchWatcher",),
    "producer.ledger": ("AUDIT_GENESIS_PREV_HASH", "AuditLogger", "AuditRow", "Draft", "LedgerClient", "Task"),
    "producer.workers.invocation": ("InvocationResult",),
    "producer.workers.standalone": ("ClaudeAgentInvoker",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AUDIT_GENESIS_PREV_HASH",
    "AuditLogger",
    "AuditRow",
    "AuthConfig",
    "BudgetConfig",
    "BudgetExceeded",
    "BudgetTracker",
    "ClaudeAgentInvoker",
    "Draft",
    "InvocationResult",
    "KillSwitchWatcher",
    "LedgerClient",
    "LedgerError",
    "NotificationsConfig",
    "Producer",
    "ProducerConfig",
    "ProducerError",
    "RoleConfig",
    "Task",
    "TaskClaimRace",
    "__version__",
    "load_config",
    "new_id",
    "utc_iso_now",
    "utc_today",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
