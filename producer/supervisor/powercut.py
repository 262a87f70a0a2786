"""What a machine that went down under its gateway may have left unsaid: model requests that nobody has a line of.

1. The gateway's journal outlives every process; that it outlives the machine is not waited for, request by request. The
   ledger does: a request leaves only once its grant is committed there.
2. So at the first start after the machine's own, a grant without a line in the journal is booked in full, as a request
   whose end nobody saw. What has a line is the gateway's to report, as after any death of it.
3. Within one boot of the machine a grant without a line never left.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from producer.ledger.model import Cost
from producer.supervisor.kernel import Kernel
from producer.wire import journal

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
KEY = "boot"


def settle(kernel: Kernel) -> None:
    """Where the machine was started anew, book what is not known. Inside a transaction, before runs are judged."""
    boot, before = _boot(), kernel.store.meta(KEY)
    if boot == before:
        return
    kernel.store.set_meta(KEY, boot)
    if before is None:
        return
    for request, attempt, amount in kernel.store.accounts.reservations():
        try:
            lines = journal.read(journal.path_of(kernel.places.journal, attempt))
        except (OSError, ValueError):
            lines = journal.Journal()
        if request in lines.opened or request in lines.metered:
            continue
        model = kernel.store.db.value("SELECT model FROM attempts WHERE id = ?", attempt) or "unknown"
        if kernel.store.attempts.book(Cost(request, attempt, model, amount, "gateway", exact=False)):
            kernel.audit("grant_without_a_line", attempt=attempt, request=request, micros=amount)


def _boot() -> str:
    """This run of the machine."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return str(round(psutil.boot_time()))
