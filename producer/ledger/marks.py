"""What the supervisor remembers of things that have a name: one row of ``meta`` each, under a common prefix."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from producer.ledger.database import Database


class Marks:
    """The remembered facts below one prefix. Changes run inside the ledger's transaction."""

    def __init__(self, db: Database, prefix: str) -> None:
        self._db, self._prefix = db, f"{prefix}:"

    def all(self) -> dict[str, Any]:
        """Every fact by its name."""
        rows = self._db.rows(
            "SELECT key, value FROM meta WHERE key >= ? AND key < ?", self._prefix, self._prefix[:-1] + ";"
        )
        return {key[len(self._prefix) :]: json.loads(value) for key, value in rows}

    def get(self, name: str) -> Any:
        """One fact, None where it is not known."""
        value = self._db.value("SELECT value FROM meta WHERE key = ?", self._prefix + name)
        return None if value is None else json.loads(value)

    def set(self, name: str, fact: Any) -> None:
        """Remember a fact."""
        self._db.run(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            self._prefix + name, json.dumps(fact),
        )  # fmt: skip

    def forget(self, name: str) -> None:
        """Forget a fact."""
        self._db.run("DELETE FROM meta WHERE key = ?", self._prefix + name)

    def keep(self, names: Collection[str]) -> None:
        """Forget every fact but these."""
        for name in self.all().keys() - set(names):
            self.forget(name)
