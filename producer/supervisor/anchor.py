"""The operator's anchor command: a head of the audit log on its stdin, kept by it where nobody here can change it.

1. It runs in the courier's own lane, in /, for SECONDS at most. Exit 0 says that the head is kept.
2. A newer head stands for all that wait; what fails is tried again later and later, and told once.
3. It sees the supervisor's environment without what agents are paid with; AUDIT_SIZE and AUDIT_ORIGIN name the head.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from producer import helper
from producer.config import ProducerConfig
from producer.core.checkpoint import Signed
from producer.core.text import one_line
from producer.ledger.records import Pending
from producer.ledger.trust import ANCHOR
from producer.ledger.views import Reader
from producer.supervisor.kernel import Kernel
from producer.supervisor.told import Told

SECONDS = 30.0
LONGEST_BACKOFF = 900.0
SECRETS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "CREDENTIALS_DIRECTORY")


def deliver(config: Callable[[], ProducerConfig], due: Sequence[Pending], reader: Reader) -> Iterator[Told]:
    """Hand the newest head that is due to the command; what became of each."""
    command = config().audit.anchor_command
    if not due or command is None:  # turned off while they waited
        yield from (Told(entry.id) for entry in due)
        return
    *older, newest = due
    signed = Signed.parse(newest.body["note"])
    error = run(command, signed)
    then = partial(remember, signed.size, error)
    if error is None:
        yield Told(newest.id, then=then)
    else:
        delay = min(LONGEST_BACKOFF, 2.0 ** min(newest.tries + 1, 20))
        yield Told(newest.id, "again", time.time() + delay, error, then)
    yield from (Told(entry.id) for entry in older)


def run(command: str, signed: Signed, seconds: float = SECONDS) -> str | None:
    """Run the command with one head; why it failed, None where it did not."""
    env = {name: value for name, value in os.environ.items() if name not in SECRETS}
    env |= {"AUDIT_SIZE": str(signed.size), "AUDIT_ORIGIN": signed.checkpoint.origin}
    try:
        code, _, said = helper.run(["/bin/sh", "-c", command], "/", env, signed.note(), seconds)
    except OSError as error:
        return f"it cannot be started: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"it took longer than {seconds:g} s and was ended"
    return one_line(f"exit {code}: {said}", 300) if code else None


def remember(size: int, error: str | None, kernel: Kernel) -> None:
    """Note in the ledger how the last head fared; the first that fails after one that did not is told to a person."""
    before = json.loads(kernel.store.meta(ANCHOR) or "{}")
    kernel.store.set_meta(
        ANCHOR, json.dumps({"at": kernel.store.db.stamp, "size": size, "ok": error is None, "error": error or ""})
    )
    if error is not None and before.get("ok", True):
        kernel.notify("audit", "audit.anchor_command fails", f"the head of row {size} is kept nowhere else: {error}")
