"""Whether a new ledger holds what the 0.3 ledger held. It looks at the two files, not at what was meant.

Every value is the same or stands in the notes, every figure is the old one rounded up to a micro-dollar, counts and
dependencies agree, the old audit rows are the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import apsw

from producer.ledger import audit_old
from producer.ledger.takeover import exact
from producer.ledger.transfer import LOG, OTHERS, TASKS, Source, Table, Transfer


@dataclass
class Sums:
    """A money column: the old figures' exact sum and the new ones', both in micro-dollars."""

    before: Decimal = Decimal(0)
    after: int = 0


@dataclass
class Comparison:
    """What the two files hold."""

    rows: dict[str, int] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def compare(source: Source, new: apsw.Connection, done: Transfer) -> Comparison:
    """Look at both files, value by value."""
    found = Comparison()
    for table in (TASKS, *OTHERS):
        _compare_table(source, new, table, done, found)
    log = new.execute(f"SELECT {', '.join(audit_old.COLUMNS)} FROM audit_0_3 ORDER BY id")
    segment = audit_old.examine(log)
    found.rows[LOG] = segment.rows
    if segment != done.segment:
        found.problems.append(f"{LOG}: {done.segment} became {segment}")
    _compare_edges(new, found)
    for (line,) in new.execute("PRAGMA integrity_check"):
        if line != "ok":
            found.problems.append(str(line))
    return found


def _compare_table(source: Source, new: apsw.Connection, table: Table, done: Transfer, found: Comparison) -> None:
    names = [*table.columns, *table.money.values()]
    wanted = f"SELECT {', '.join(names)} FROM {table.name} WHERE {names[0]} = ?"
    keys, count = done.keys[table.name], 0
    values: Sequence[Any]
    for old in source.rows(table):
        count, key = count + 1, keys.get(old["rowid"])
        values = new.execute(wanted, (key,)).fetchone() or [None] * len(names)
        row = dict(zip(names, values, strict=True))
        for name in (*table.columns, *table.money):
            here = row[table.money.get(name, name)]
            same = _add(found, table, name, old[name], here) if name in table.money else here == old[name]
            if not same and (table.name, old["rowid"], name) not in done.notes.touched:
                found.problems.append(f"{table.name} {key}: {name} is not what it was")
    there: Any = new.execute(f"SELECT count(*) FROM {table.name}").get
    found.rows[table.name] = there
    if count != there:
        found.problems.append(f"{table.name}: {count} rows became {there}")


def _add(found: Comparison, table: Table, name: str, before: Any, after: Any) -> bool:
    """Count a figure; whether it is the old one rounded up."""
    sums = found.sums.setdefault(f"{table.name}.{name}", Sums())
    sums.after += after or 0
    if before is None or after is None or isinstance(before, (str, bytes)):
        return before is after
    value = exact(before)
    if value.is_finite():
        sums.before += value
    return value.is_finite() and 0 <= after - value < 1


def _compare_edges(new: apsw.Connection, found: Comparison) -> None:
    """Every edge stands in its task's text, and every count is right."""
    edges: dict[str, set[str]] = {}
    for task, needed in new.execute("SELECT task, depends_on FROM dependency"):
        edges.setdefault(task, set()).add(needed)
    done = {ident for (ident,) in new.execute("SELECT id FROM tasks WHERE status = 'done'")}
    for ident, text, count in new.execute("SELECT id, dependencies, open_dependencies FROM tasks"):
        needed = edges.get(ident, set())
        if not needed <= set(json.loads(text)) or count != len(needed - done):
            found.problems.append(f"tasks {ident}: its dependencies are not what its text says")
