"""The kill switch, as the supervisor sees it: one file, read at every turn.

1. Armed: nothing is claimed. What runs goes on until its next model request, which the gateway refuses.
2. Armed with `now`: every run is stopped by the ladder, and whoever asked is answered with the survivors, counted.
3. Whoever armed it, an audit row says when it was observed, with the reason that lies beside the file.
4. Where the file cannot be written (a full disk, a directory in its place) the supervisor is armed all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from producer import killswitch
from producer.errors import UsageError
from producer.killswitch import SwitchState
from producer.reaper import ATTEMPT_MARKER, marked
from producer.supervisor.kernel import Kernel
from producer.supervisor.runs import Runs
from producer.supervisor.workers import Workers
from producer.wire.messages import Reply

NOW_GRACE = 0.5


@dataclass
class Stopping:
    """An operator's `kill --now` that waits for its answer."""

    address: bytes
    call: str
    began: float
    stopped: int
    survived: int


class Brake:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel, runs: Runs, workers: Workers) -> None:
        self._kernel, self._runs, self._workers = kernel, runs, workers
        self.state = SwitchState(armed=False)
        self._unwritten: SwitchState | None = None
        self._stopping: list[Stopping] = []

    def look(self) -> None:
        """Read the switch and act on what changed."""
        before, self.state = self.state, self._read()
        if self.state.armed and not before.armed:
            self._kernel.seal = True
            self._kernel.audit("kill_switch_observed", reason=self.state.reason, now=self.state.now)
            reason = self.state.reason or "no reason given"
            self._kernel.notify("kill_switch", "the kill switch is armed", reason)
        if before.armed and not self.state.armed:
            self._kernel.audit("kill_switch_released")
        if self.state.now and self._runs.by_attempt:
            self._runs.stop_all(f"kill switch: {self.state.reason or 'armed'}", NOW_GRACE)
        self._finish()

    def arm(self, reason: str, actor: str, now: bool = False) -> None:
        """Arm the switch for somebody. The file is written at once: a stop does not wait for a commit."""
        self._write(reason, now)
        self._kernel.audit("kill_switch_armed", actor=actor, reason=reason, now=now)
        self.look()

    def burst(self, role: str) -> None:
        """Too many failures of one role in a short time: stop everything and call a human."""
        reason = f"{self._kernel.config.failure_burst.count} failures of role {role} in a short while"
        self._write(reason, now=False)
        self._kernel.audit("kill_switch_armed_by_producer", role=role, reason=reason)
        self.look()

    def disarm(self, actor: str, reason: str) -> None:
        """Let work go on. Raises UsageError where the file cannot be changed: the switch then stays armed."""
        try:
            killswitch.disarm(self._kernel.config.kill_switch)
        except OSError as problem:
            raise UsageError(f"the kill switch cannot be disarmed: {problem}") from None
        self._unwritten = None
        self._kernel.audit("kill_switch_disarmed", actor=actor, reason=reason)
        self.look()

    def stop_now(self, address: bytes, call: str, reason: str, actor: str) -> None:
        """`kill --now`: arm, stop everything, and answer when it has stopped."""
        running = len(self._runs.by_attempt)
        self._stopping.append(Stopping(address, call, self._kernel.monotonic(), running, self._survived()))
        self.arm(reason, actor, now=True)

    def _finish(self) -> None:
        if not self._stopping or any(run.result is None for run in self._runs.by_attempt.values()):
            return
        for waiting in self._stopping:
            survivors = max(self._marked(), self._survived() - waiting.survived)
            seconds = self._kernel.monotonic() - waiting.began
            self._kernel.audit(
                "stopped_now", stopped=waiting.stopped, survivors=survivors, milliseconds=int(seconds * 1000)
            )
            result = {"armed": True, "stopped": waiting.stopped, "survivors": survivors, "seconds": round(seconds, 3)}
            self._kernel.send("control", waiting.address, Reply(call=waiting.call, ok=True, result=result))
        self._stopping.clear()

    def _read(self) -> SwitchState:
        found, ours = killswitch.read(self._kernel.config.kill_switch), self._unwritten
        return found if ours is None or found.now or (found.armed and not ours.now) else ours

    def _write(self, reason: str, now: bool) -> None:
        try:
            killswitch.arm(self._kernel.config.kill_switch, reason, now)
        except OSError as problem:
            self._unwritten = SwitchState(True, now, f"{reason} ({problem})", self._kernel.clock())

    def _survived(self) -> int:
        """What workers counted after their own sweeps, and we after ours: also what has shed every mark."""
        return self._runs.survivors + self._workers.survivors

    def _marked(self) -> int:
        """Processes that carry the mark of an attempt of this project's."""
        known = self._kernel.store.db
        return sum(
            len(pids)
            for attempt, pids in marked(ATTEMPT_MARKER).items()
            if known.one("SELECT 1 FROM attempts WHERE id = ?", attempt)
        )
