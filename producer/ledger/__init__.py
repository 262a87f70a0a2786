"""The ledger: the only place with SQL. The names are loaded when they are first used: a reader needs no writer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer.ledger.client import (
        AUDIT_GENESIS_PREV_HASH,
        AuditLogger,
        AuditRow,
        LedgerClient,
        Task,
        create_ledger,
    )
    from producer.ledger.model import Draft
    from producer.ledger.store import Store
    from producer.ledger.views import Reader

_HOMES = {"Draft": "model", "Reader": "views", "Store": "store"}

__all__ = [
    "AUDIT_GENESIS_PREV_HASH",
    "AuditLogger",
    "AuditRow",
    "Draft",
    "LedgerClient",
    "Reader",
    "Store",
    "Task",
    "create_ledger",
]


def __getattr__(name: str) -> Any:
    """One of the names above, from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'client')}"), name)
    return found
