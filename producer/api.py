"""What 0.3.x scripts import besides the ledger: BudgetTracker and Producer, over what this version really does."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.config import ProducerConfig
from producer.errors import BudgetExceeded, MoneyError
from producer.killswitch import KillSwitchWatcher
from producer.ledger import LedgerClient
from producer.ledger.report import Caps, build, parse_date, write
from producer.ledger.views import Reader
from producer.supervisor import RunOptions, run
from producer.supervisor.kernel import Child


class BudgetTracker:
    """A script's own spending against a role's daily cap and the project's ceiling; amounts are USD."""

    def __init__(
        self,
        ledger: LedgerClient,
        *,
        role_caps: Mapping[str, Mapping[str, Any]],
        project_ceiling_usd: float,
        soft_cap_ratio: float = 0.8,
    ) -> None:
        self.ledger, self.role_caps = ledger, role_caps
        self.project_ceiling_usd, self.soft_cap_ratio = project_ceiling_usd, soft_cap_ratio

    def can_spend(self, agent_owner: str, usd: float) -> bool:
        """Whether both caps have room for ``usd`` beside what is spent. Raises MoneyError for a negative amount."""
        if usd < 0:
            raise MoneyError(f"{usd} is negative")
        spent, _, hard = self._state(agent_owner)
        return spent + usd <= hard and self.ledger.total_spend_today() + usd <= self.project_ceiling_usd

    def soft_warn(self, agent_owner: str) -> bool:
        """Whether a role is past its soft cap, but not past the hard one."""
        spent, soft, hard = self._state(agent_owner)
        return soft <= spent < hard

    def record_spend(
        self, agent_owner: str, usd: float, *, task_id: str | None = None, api: str = "unknown"
    ) -> tuple[float, float, float]:
        """Book ``usd`` and return (spent, soft cap, hard cap). Raises BudgetExceeded, after booking, past the cap."""
        spent, soft, hard = self.ledger.update_budget(
            agent_owner, usd, hard_cap_usd=self._cap(agent_owner), soft_cap_ratio=self.soft_cap_ratio
        )
        detail = {"api": api, "delta_usd": str(usd), "spent_usd": str(spent)}
        self.ledger.append_audit(agent_owner=agent_owner, action="budget_spend", detail=detail, task_id=task_id)
        if spent > hard:
            raise BudgetExceeded(f"role {agent_owner}: ${spent} spent of ${hard}")
        return spent, soft, hard

    def _cap(self, agent_owner: str) -> float:
        return float(self.role_caps.get(agent_owner, {}).get("daily_cap_usd", 0.0))

    def _state(self, agent_owner: str) -> tuple[float, float, float]:
        cap = self._cap(agent_owner)
        return self.ledger.budget_state(agent_owner, hard_cap_usd=cap, soft_cap_ratio=self.soft_cap_ratio)


@dataclass
class _Forked:
    """A worker that was forked from this process, because only this process has the invoker object."""

    pid: int
    code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.code = 0
            else:
                self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code


class Producer:
    """A supervisor over an invoker object. Call it in the main thread; it blocks the event loop that awaits it.

    ``invoker``: any object with the 0.3.x method `invoke`. Its tasks run in worker processes forked from this one.
    """

    def __init__(
        self, *, config: ProducerConfig, ledger: LedgerClient, invoker: Any, kill_switch: KillSwitchWatcher
    ) -> None:
        self.config, self.ledger, self.invoker, self.kill_switch = config, ledger, invoker, kill_switch

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        run(self.config, self._options(once=False))

    async def run_once(self) -> int:
        """Work until nothing is ready or running; how many dispatches that were."""
        before = self.ledger.count_audit_events(action="dispatch")
        run(self.config, self._options(once=True))
        return self.ledger.count_audit_events(action="dispatch") - before

    def write_morning_report(self, *, target_date: str | None = None) -> Path:
        """Write the morning report of a UTC day (today without one); its path."""
        with Reader(self.ledger.path) as reader:
            found = build(reader, Caps.of(self.config), parse_date(target_date), state=self.ledger.places.state)
            return write(found, self.config.reports_dir)

    def _options(self, *, once: bool) -> RunOptions:
        return RunOptions(once=once, invoker="python:object", launch=self._launch, actor="script")

    def _launch(self, command: list[str], env: Mapping[str, str], log: Path) -> Child:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return _Forked(pid)
        code = 1
        try:
            code = self._become_worker(command, log)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _become_worker(self, command: list[str], log: Path) -> int:
        import signal

        from producer.workers.__main__ import main
        from producer.workers.invokers import InvokerRunner

        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        return main(command[command.index("producer.workers") + 1 :], InvokerRunner(self.invoker))
