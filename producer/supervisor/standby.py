"""Claude processes that stand by: which worker has one ready, for which attempt, and which task gets it.

1. An attempt's id, session, token and directories are chosen before there is a task, and told to an idle worker
   (StandBy), which starts and connects a process with them. The claim then uses that id: so nothing has to be bound
   afterwards, and before the claim the gateway knows of no such attempt and serves none of its requests.
2. Only what every first attempt of a role has in common can be fixed beforehand. A task that was tried or has cost
   something before, works in a worktree, or reaches the model by a way of its own, starts cold; the worker lets its
   process go then.
3. A process is as good as the configuration it was started with: after a change it is replaced, and after an hour.
4. Few are started at a time, for each takes a second of a processor. Where a role says `warm: false`, none is.
5. If the process is not there in the end, the worker starts one in its place: the message says all that is needed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from producer.ids import new_session
from producer.ledger.model import Prepared, Ready
from producer.supervisor.auth import Auth
from producer.supervisor.gateway import Gateway
from producer.supervisor.kernel import Kernel
from producer.supervisor.workers import Worker, Workers
from producer.wire.messages import StandBy, Standing, TaskMsg

LONGEST_SECONDS = 3600.0
START_SECONDS = 30.0  # after which a start counts as failed, and another may begin


@dataclass
class Place:
    """What stands by, or is being started, at a worker. Times are monotonic seconds."""

    prepared: Prepared
    settings: TaskMsg
    url: str | None
    since: float
    connected: bool = False


class Standby:
    """Runs inside the batch's transaction. ``settings`` gives what every task of a role has in common."""

    def __init__(
        self, kernel: Kernel, workers: Workers, gateway: Gateway, auth: Auth, settings: Callable[[str], TaskMsg]
    ) -> None:
        self._kernel, self._workers, self._gateway, self._settings = kernel, workers, gateway, settings
        self._on = auth.kind == "gateway"
        self._at_once = max(1, os.cpu_count() or 1)
        self._places: dict[str, Place] = {}

    def recover(self) -> None:
        """What stood by under an earlier supervisor is not used any more; what became an attempt is its task's."""
        for mark in self._kernel.places.standing.iterdir():
            if not self._kernel.store.db.one("SELECT 1 FROM attempts WHERE id = ?", mark.name):
                self._remove(mark.name)
            else:
                self._used(mark.name)

    def tend(self) -> None:
        """Have idle workers start what is missing or out of date; forget what went with its worker."""
        if not self._on or not self._gateway.connected:
            return
        for ident in self._places.keys() - self._workers.by_id.keys():
            self._remove(self._places.pop(ident).prepared.attempt)
        now = self._kernel.monotonic()
        starting = sum(not place.connected and now - place.since < START_SECONDS for place in self._places.values())
        for worker in self._workers.by_id.values():
            if worker.free and not worker.attempts and not self._fresh(worker, now):
                if self._wanted(worker.role) and starting < self._at_once:
                    self._start(worker, now)
                    starting += 1
                elif not self._wanted(worker.role) and worker.id in self._places:
                    self._used(self._places.pop(worker.id).prepared.attempt)
                    self._kernel.send("tasks", worker.address, StandBy())

    def dismiss(self) -> None:
        """Have nothing stand by any more: everything was told to stop."""
        for ident, place in self._places.items():
            self._used(place.prepared.attempt)
            self._kernel.send("tasks", ident.encode(), StandBy())
        self._places.clear()

    def said(self, worker: str, message: Standing) -> None:
        """A worker says whether its process is connected."""
        place = self._places.get(worker)
        if place and place.prepared.attempt == message.attempt:
            place.connected = message.connected
            self._kernel.tell("standing", worker=worker, attempt=message.attempt, connected=message.connected)

    def first(self, role: str) -> list[Worker]:
        """A role's workers in the order in which they should get tasks: those first that need not start a process."""
        workers = self._workers.of_role(role)
        return sorted(workers, key=lambda worker: not self.connected(worker.id)) if self._places else workers

    def connected(self, worker: str) -> bool:
        """Whether a process stands by at this worker."""
        place = self._places.get(worker)
        return place is not None and place.connected

    def take(self, ready: Ready, worker: Worker) -> Prepared | None:
        """What stands by at a worker, for its next task; None where that has to start cold."""
        place = self._places.pop(worker.id, None)
        if place is None:
            return None
        if not self._current(place, ready.role) or ready.attempts or ready.cost or worker.attempts:
            return None
        self._used(place.prepared.attempt)
        return place.prepared

    def _fresh(self, worker: Worker, now: float) -> bool:
        place = self._places.get(worker.id)
        return place is not None and now - place.since < LONGEST_SECONDS and self._current(place, worker.role)

    def _current(self, place: Place, role: str) -> bool:
        if not self._wanted(role) or place.url != self._gateway.url:
            return False
        settings = self._settings(role)
        if place.settings is not settings and place.settings == settings:
            place.settings = settings  # loaded again, and the same
        return place.settings is settings

    def _wanted(self, role: str) -> bool:
        settings = self._kernel.config.roles.get(role)
        return settings is not None and settings.warm and (settings.workspace, settings.network) == ("shared", "full")

    def _start(self, worker: Worker, now: float) -> None:
        places, attempt = self._kernel.places, self._kernel.store.db.new_id()
        prepared = Prepared(attempt, new_session())
        settings = self._settings(worker.role)
        if (old := self._places.get(worker.id)) is not None:
            self._used(old.prepared.attempt)  # the worker removes it
        self._places[worker.id] = Place(prepared, settings, self._gateway.url, now)
        self._kernel.after.append((places.standing / attempt).touch)
        task = replace(
            settings,
            attempt=attempt,
            session_id=prepared.session,
            config_dir=str(places.config_dir(attempt)),
            home=str(places.home(attempt)),
            base_url=self._gateway.url,
            api_token=self._gateway.token(attempt),
        )
        self._kernel.send("tasks", worker.address, StandBy(task=task))

    def _used(self, attempt: str) -> None:
        mark = self._kernel.places.standing / attempt
        self._kernel.after.append(lambda: mark.unlink(missing_ok=True))

    def _remove(self, attempt: str) -> None:
        path = self._kernel.places.tasks / attempt
        self._kernel.after.append(lambda: shutil.rmtree(path, ignore_errors=True))
        self._used(attempt)
