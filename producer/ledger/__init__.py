"""The ledger: the only place with SQL."""

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
