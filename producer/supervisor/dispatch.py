"""Dispatching: which tasks free workers get, and what each worker is told.

1. A dispatch is a claim, an attempt and a hold in one transaction; the task leaves for the worker after the commit.
2. A role's ready tasks are read once a turn, as many as its workers can take, and claimed while the caps admit more.
3. What every task of a role has in common is made once for each configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec.structs import replace

from producer.config import ProducerConfig
from producer.core.lifecycle import TaskEvent
from producer.core.money import MicroUSD
from producer.core.schedule import RoleView, claims
from producer.ledger.model import Claim, Prepared, Ready
from producer.ledger.roles import PROJECT
from producer.sandbox import Wishes
from producer.supervisor.again import why_again
from producer.supervisor.auth import Auth
from producer.supervisor.caps import Caps, role_state
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.prices import check_models
from producer.supervisor.prompt import dispatch_prompt
from producer.supervisor.run import Run, deadline
from producer.supervisor.sandboxes import check as check_sandboxes
from producer.supervisor.standby import Standby
from producer.supervisor.workers import Worker, Workers
from producer.supervisor.workspaces import Workspaces
from producer.supervisor.workspaces import check as check_workspaces
from producer.wire.messages import TaskMsg

NO_ID = "0" * 26


class Dispatch:
    """Runs inside the batch's transaction. ``by_attempt``: where every attempt in flight is kept."""

    def __init__(
        self,
        kernel: Kernel,
        workers: Workers,
        gateway: Gateway,
        caps: Caps,
        auth: Auth,
        workspaces: Workspaces,
        by_attempt: dict[str, Run],
    ) -> None:
        self._kernel, self._workers, self._gateway, self._caps, self._auth = kernel, workers, gateway, caps, auth
        self._workspaces, self._by_attempt = workspaces, by_attempt
        self._turn = 0
        self._tasks = str(kernel.places.tasks)
        self._fixed: dict[str, TaskMsg] = {}
        self.standby = Standby(kernel, workers, gateway, auth, self._settings)
        self.reload()

    def dispatch(self) -> int:
        """Give every free worker what it should do next; how many tasks were claimed."""
        if self._auth.metered and not self._gateway.connected:
            return 0
        standing = self._caps.review()
        if standing.get(PROJECT) and standing[PROJECT].state == "capped":
            return 0
        views = [
            RoleView(role, role_state(row), row.until, [(w.id, w.free) for w in self.standby.first(role)])
            for role, row in standing.items()
            if role in self._kernel.config.roles
        ]
        self._turn += 1
        count, waiting = 0, {view.name: self._takers(view) for view in views}
        for claim in claims(views, now=self._kernel.store.db.now, turn=self._turn):
            for ready in self._admitted(claim.role, islice(waiting[claim.role], claim.n)):
                self._dispatch_one(ready, self._workers.by_id[claim.worker])
                count += 1
        self.standby.tend()
        return count

    def _takers(self, view: RoleView) -> Iterator[Ready]:
        """The tasks that a role's free workers should take, in order."""
        free = sum(credit for _, credit in view.free)
        for ready in self._kernel.store.attempts.ready(view.name, free) if free else []:
            if reason := self._hopeless(ready):
                self._kernel.store.queue.move(ready.task, TaskEvent.ESCALATED, escalation_reason=reason)
                self._kernel.escalated(ready.task, ready.role, reason)
            elif not (self._kernel.store.attempts.running_of_task(ready.task) or self._workspaces.waits(ready.task)):
                yield ready

    def _admitted(self, role: str, wanted: Iterable[Ready]) -> Iterator[Ready]:
        """Those that the caps have room for. Each is claimed before the next is asked for, and no other meanwhile."""
        room = 0
        for ready in wanted:
            room = room or self._caps.admits(role)
            if not room:
                return
            room -= 1
            yield ready

    def _dispatch_one(self, ready: Ready, worker: Worker) -> None:
        store, config = self._kernel.store, self._kernel.config
        settings = config.roles[ready.role]
        prepared = self.standby.take(ready, worker)
        claim = store.attempts.claim(
            ready, worker.id, config.model_of(ready.role), settings.dispatch_reservation, resume=settings.resume,
            prepared=prepared,
        )  # fmt: skip
        now = self._kernel.monotonic()
        self._by_attempt[claim.attempt] = Run(
            claim.attempt, claim.task, ready.role, ready.root, worker.id, claim.title, now,
            deadline(config, ready.role, now, len(worker.attempts)), self._auth.metered,
        )  # fmt: skip
        worker.attempts[claim.attempt] = now
        if self._auth.metered:
            self._gateway.open(claim)
        self._kernel.send("tasks", worker.address, self._message(claim, prepared))

    def _hopeless(self, ready: Ready) -> str | None:
        """Why no run of a task can be begun before a human has seen to it; None where one can."""
        if ready.payload is None:
            return "its payload is no JSON object: give it one with `producerctl task edit`"
        for cap in self._caps.own(ready.role, ready.task, ready.root):
            if cap.limit is not None and cap.limit - cap.spent <= 0:
                return f"{cap.name} has spent its own budget"
        return None

    def _message(self, claim: Claim, prepared: Prepared | None) -> TaskMsg:
        fixed, metered = self._settings(claim.role), self._auth.metered
        own = claim.attempt if prepared else claim.task
        prompt = dispatch_prompt(self._kernel.config.project_name, claim)
        message = replace(
            fixed,
            max_budget=self._stop_at(claim),
            interrupted=why_again(self._kernel.store.db, claim, prompt) if claim.resume else None,
            attempt=claim.attempt,
            task=claim.task,
            title=claim.title,
            description=claim.description,
            payload=claim.payload,
            number=claim.number,
            prompt=prompt,
            config_dir=f"{self._tasks}/{own}/claude",
            home=f"{self._tasks}/{own}/home",
            known_as=f"{self._tasks}/{claim.task}" if prepared else None,
            session_id=claim.session_id,
            resume=claim.resume,
            base_url=self._gateway.url if metered else None,
            api_token=self._gateway.token(claim.attempt) if metered else None,
        )
        elsewhere = self._workspaces.message(claim, prompt)
        return replace(message, **elsewhere) if elsewhere else message

    def _stop_at(self, claim: Claim) -> MicroUSD | None:
        """Where the SDK itself shall stop: at the rest of the task's budget; without a gateway, also of the caps."""
        limit = self._kernel.config.roles[claim.role].max_budget
        if limit is not None:
            spent = self._kernel.store.db.value("SELECT cost_micros FROM tasks WHERE id = ?", claim.task)
            limit = MicroUSD(max(0, limit - spent))
        if self._auth.kind != "inherit":
            return limit
        cap, left = self._caps.tightest(claim.role)
        if limit is None or left < limit:
            self._by_attempt[claim.attempt].refused = (cap, 1)
            return left
        return limit

    def _settings(self, role: str) -> TaskMsg:
        """What every task of a role has in common."""
        fixed = self._fixed.get(role)
        if fixed is None:
            fixed = self._fixed[role] = self._of_role(role)
        return fixed

    def _of_role(self, name: str) -> TaskMsg:
        """What every task of a role has in common; made once for each configuration."""
        config = self._kernel.config
        role = config.roles[name]
        return TaskMsg(
            attempt=NO_ID, task=NO_ID, role=name, title="", description="", prompt="", session_id="", config_dir="",
            home="", system_prompt=self._system_prompt(name), model=config.model_of(name),
            allowed_tools=role.current_tools, max_turns=role.max_turns, max_budget=role.max_budget,
            timeout_seconds=role.timeout_seconds, idle_timeout_seconds=role.idle_timeout_seconds,
            permission_mode=role.permission_mode, mcp_servers=dict(role.mcp_servers), env=dict(role.env),
            cwd=str(config.project_root), auth=self._auth.kind,
            sandbox=Wishes.of_role(config, self._kernel.places, name).fact(),
        )  # fmt: skip

    def _system_prompt(self, role: str) -> str | None:
        """A role's standing instructions, as they were when the configuration was loaded."""
        path = self._kernel.config.prompt_path(role)
        return path.read_text(encoding="utf-8") if path else None

    def reload(self) -> None:
        """The configuration was replaced: read the prompts anew, all of them, so that a missing one is seen now."""
        self._fixed = {name: self._of_role(name) for name in self._kernel.config.roles}
        self._workspaces.reload()
        self._gateway.reload()

    def check(self, config: ProducerConfig) -> None:
        """Whether a configuration can be taken over. Raises ConfigError, PricingError."""
        check_models(config, self._kernel.places, self._auth)
        check_sandboxes(config, self._auth)
        check_workspaces(config)
