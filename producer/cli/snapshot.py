"""The object that `status --json` shows: the supervisor's own answer, or what the ledger and the switch say without it.

docs/status.schema.json describes it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from producer import killswitch
from producer.cli.app import App
from producer.core.money import format_usd
from producer.errors import LedgerBusy, NoSupervisor
from producer.ids import iso, utc_today
from producer.version import __version__

if TYPE_CHECKING:
    from producer.ledger import Reader
    from producer.ledger.lock import Holder

EVENTS = 10


def snapshot(app: App, seconds: float = 5.0) -> dict[str, Any]:
    """The project's state now. A supervisor that does not answer is shown by ``supervisor.answering`` False."""
    holder = app.supervisor()
    if holder is not None:
        try:
            found: dict[str, Any] = app.ask("status", seconds, brief=True)
            with app.reader() as reader:
                return complete(found, reader)
        except (NoSupervisor, LedgerBusy):
            pass
    with app.reader() as reader:
        return from_ledger(app, reader, holder)


def complete(found: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """A supervisor's brief answer with queue and events: whoever looks counts, in a process of its own."""
    return {**found, "queue": reader.counts(), "events": reader.audit_tail(EVENTS)}


def from_ledger(app: App, reader: Reader, holder: Holder | None = None, *, brief: bool = False) -> dict[str, Any]:
    """The state as the ledger and the switch file tell it; ``brief``: without queue and events."""
    from producer.ledger import trust
    from producer.ledger.marks import Marks
    from producer.schedule import PREFIX, upcoming

    switch = killswitch.read(app.config.kill_switch)
    return {
        "project": app.config.project_name,
        "supervisor": {
            "running": holder is not None,
            "answering": False,
            "pid": holder.pid if holder else None,
            "since": iso(holder.since) if holder else None,
            "version": holder.version if holder else __version__,
        },
        "kill_switch": {
            "armed": switch.armed,
            "reason": switch.reason,
            "since": iso(switch.since) if switch.since is not None else None,
        },
        "roles": _roles(app, reader),
        "budget": money(app, reader),
        "audit": trust.figures(reader.db),
        "schedule": upcoming(app.config, Marks(reader.db, PREFIX).all(), time.time()),
        **({} if brief else {"queue": reader.counts(), "events": reader.audit_tail(EVENTS)}),
    }


def money(app: App, reader: Reader) -> dict[str, Any]:
    """Spent, held and cap of today, of the project and of every role; exact decimal strings."""
    figures = reader.budget()
    roles = {}
    for name in [*app.config.roles, *(name for name in figures if name not in app.config.roles)]:
        row = figures.get(name, {"spent": 0, "held": 0, "cap": 0})
        cap = app.config.roles[name].daily_cap if name in app.config.roles else row["cap"]
        roles[name] = _money(row["spent"], row["held"], cap)
    spent, held = (sum(row[key] for row in figures.values()) for key in ("spent", "held"))
    project = _money(spent, held, app.config.budget.project_ceiling)
    return {"date": utc_today(), "project": project, "roles": roles}


def _money(spent: int, held: int, cap: int) -> dict[str, str]:
    return {"spent_usd": format_usd(spent), "held_usd": format_usd(held), "cap_usd": format_usd(cap)}


def _roles(app: App, reader: Reader) -> dict[str, Any]:
    from producer.ledger import standing
    from producer.sandbox import in_force

    known = standing.roles(reader)
    found: dict[str, Any] = {}
    for name, role in app.config.roles.items():
        row = known.get(name)
        found[name] = {
            "state": row.state if row else "ok",
            "until": iso(row.until) if row and row.until is not None else None,
            "reason": row.reason if row else None,
            "desired": row.desired if row else role.workers,
            "workers": [],
            "sandbox": {"mode": in_force(role.sandbox, role.network), "network": role.network},
        }
    return found
