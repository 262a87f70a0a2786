"""What `status --json` shows, from the supervisor's own memory and the ledger."""

from __future__ import annotations

from typing import Any

from producer.core.money import MicroUSD, format_usd
from producer.ids import iso, utc_date
from producer.killswitch import SwitchState
from producer.ledger import trust
from producer.ledger.marks import Marks
from producer.ledger.roles import PROJECT, RoleRow
from producer.schedule import PREFIX, upcoming
from producer.supervisor.auth import Auth
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.runs import Runs
from producer.supervisor.sandboxes import in_force
from producer.supervisor.workers import Worker, Workers
from producer.version import __version__


def status(
    kernel: Kernel, workers: Workers, runs: Runs, gateway: Gateway, switch: SwitchState, auth: Auth, reader: Any
) -> dict[str, Any]:
    """The object of `status --json`; its shape is docs/status.schema.json.

    With no ``reader`` it is brief: without queue and events, which anybody can read from the ledger, and which in a
    large one take the loop's time.
    """
    import os

    standing = kernel.store.roles.all()
    now = kernel.monotonic()
    return {
        "project": kernel.config.project_name,
        "supervisor": {"running": True, "pid": os.getpid(), "since": iso(kernel.started), "version": __version__},
        "kill_switch": {
            "armed": switch.armed,
            "reason": switch.reason,
            "since": iso(switch.since) if switch.armed and switch.since else None,
        },
        "roles": {
            role: {
                **_role(standing.get(role), standing.get(PROJECT), workers.of_role(role), runs, now),
                "sandbox": in_force(kernel.config, auth, role),
            }
            for role in kernel.config.roles
        },
        "budget": budget(kernel),
        "auth": auth.mode,
        "gateway": {"url": gateway.url, "pid": gateway.pid} if gateway.metered else None,
        "schedule": upcoming(kernel.config, Marks(kernel.store.db, PREFIX).all(), kernel.clock()),
        "rehearsal": auth.mode == "rehearsal",
        "audit": trust.figures(kernel.store.db),
        **({} if reader is None else {"queue": reader.counts(), "events": reader.audit_tail(10)}),
    }


def budget(kernel: Kernel) -> dict[str, Any]:
    """Spent, held and caps of today."""
    accounts, config = kernel.store.accounts, kernel.config
    date = utc_date(kernel.clock())
    ceiling = accounts.project_cap(config.budget.project_ceiling, date)
    return {
        "date": date,
        "project": _money(ceiling.spent, ceiling.held, config.budget.project_ceiling),
        "roles": {
            name: _money(cap.spent, cap.held, role.daily_cap)
            for name, role in config.roles.items()
            for cap in [accounts.role_cap(name, role.daily_cap, date)]
        },
    }


def _money(spent: MicroUSD, held: MicroUSD, cap: MicroUSD) -> dict[str, str]:
    return {"spent_usd": format_usd(spent), "held_usd": format_usd(held), "cap_usd": format_usd(cap)}


def _role(
    row: RoleRow | None, project: RoleRow | None, workers: list[Worker], runs: Runs, now: float
) -> dict[str, Any]:
    binding = project if project and project.state == "capped" and row and row.state == "ok" else row
    return {
        "state": binding.state if binding else "ok",
        "until": iso(binding.until) if binding and binding.until else None,
        "reason": binding.reason if binding else None,
        "desired": row.desired if row else 0,
        "workers": [_worker(worker, runs, now) for worker in workers],
    }


def _worker(worker: Worker, runs: Runs, now: float) -> dict[str, Any]:
    attempt = next(iter(worker.attempts), None)
    run = runs.by_attempt.get(attempt) if attempt else None
    return {
        "id": worker.id,
        "slot": worker.slot,
        "pid": worker.pid,
        "state": worker.state(now).value,
        "task": run.task if run else None,
        "title": run.title if run else None,
        "attempt": attempt,
        "activity": run.activity if run else "",
        "seconds": round(now - run.begun, 1) if run else 0.0,
        "cost_usd": format_usd(runs.cost(run)) if run else "0.00",
    }
