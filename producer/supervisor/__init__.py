"""The supervisor: one process per project that owns the ledger, the fleet, the money and the brake."""

from producer.supervisor.kernel import RunOptions
from producer.supervisor.main import run

__all__ = ["RunOptions", "run"]
