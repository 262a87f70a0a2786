"""The audit log's checkpoints: when they are made, and how their heads leave this machine.

1. The log is signed every ROWS rows, SECONDS after the last time where anything is new, at a kill, and at the end.
2. A head is a line of the supervisor's own log, which under systemd is the journal: every SECONDS at most, at a kill,
   at the end. It goes to `audit.anchor_command` and out as a silent push through the outbox, less often.
3. At a start the log's end is verified, and what does not hold is told as loudly as anything. The supervisor serves all
   the same: a damaged log is no reason to go without the brake and the budget.
"""

from __future__ import annotations

import logging
import math

from producer.core.checkpoint import Signed
from producer.errors import LedgerError
from producer.ledger.verify import tail
from producer.supervisor import anchor
from producer.supervisor.kernel import Kernel
from producer.supervisor.notices import wanted

ROWS = 1000
SECONDS = 60.0
AT_THE_END = 5.0
log = logging.getLogger("producer.supervisor")


class Witness:
    """Runs inside the batch's transaction, but for ``end``. Raises AuditKeyUnusable when it is made without a key."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._checkpoints = kernel, kernel.store.checkpoints
        self._key = self._checkpoints.signer
        self._signed = kernel.monotonic()
        self._logged = self._sent = -math.inf

    def begin(self) -> None:
        """Look at the log's end before anything is added to it."""
        kernel = self._kernel
        found = tail(kernel.store.db, kernel.places.state)
        if self._key:
            kernel.after.append(
                lambda: log.info("audit key", extra={"key": self._key.public.text() if self._key else ""})
            )
        if found.problem is None:
            return
        problem = found.problem
        kernel.audit("audit_broken", problem=problem)
        kernel.notify("audit", "the audit log does not hold", f"{problem}: `producerctl audit verify` says more")
        kernel.after.append(lambda: log.error("the audit log does not hold", extra={"problem": problem}))

    def tend(self) -> None:
        """Sign where it is due."""
        kernel = self._kernel
        rows = self._checkpoints.unsigned()
        if rows <= 0:
            kernel.seal = False
            return
        now = kernel.monotonic()
        if kernel.seal or rows >= ROWS or now - self._signed >= SECONDS:
            urgent, kernel.seal = kernel.seal, False
            self._signed = now
            if signed := self._checkpoints.sign():
                self._tell(signed, now, urgent)

    def _tell(self, signed: Signed, now: float, urgent: bool) -> None:
        kernel, settings = self._kernel, self._kernel.config
        if urgent or now - self._logged >= SECONDS:
            self._logged = now
            kernel.after.append(lambda: _write(signed))
        if not urgent and now - self._sent < settings.audit.anchor_every_seconds:
            return
        self._sent = now
        if settings.audit.anchor_command:
            kernel.store.outbox.put("anchor", {"note": signed.note()})
        if wanted(settings.notifications, "audit_head"):
            push = {"event": "audit_head", "title": f"audit log: {signed.size} rows", "text": signed.line()}
            kernel.store.outbox.put("push", {**push, "at": kernel.store.db.now})

    def end(self, stop: bool) -> None:
        """Sign the last rows; at a stop, where the courier has left already, also hand the head to the command."""
        try:
            self._end(stop)
        except LedgerError as error:  # the end is the end: the next start signs what is there
            log.error("the last rows of the audit log are not signed", extra={"error": error})

    def _end(self, stop: bool) -> None:
        kernel, command = self._kernel, self._kernel.config.audit.anchor_command
        with kernel.store.transaction():
            signed = self._checkpoints.sign()
            entry = kernel.store.outbox.put("anchor", {"note": signed.note()}) if signed and stop and command else None
        if signed:
            _write(signed)
        if signed and entry and command:
            error = anchor.run(command, signed, AT_THE_END)
            with kernel.store.transaction():
                anchor.remember(signed.size, error, kernel)
                if error is None:
                    kernel.store.outbox.done(entry)


def _write(signed: Signed) -> None:
    log.info("audit checkpoint", extra={"head": signed.line()})
