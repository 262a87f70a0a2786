"""A map as the command line of bubblewrap.

1. Everything is mounted anew: read-only first, then entry by entry, parents before what is below them. What is hidden
   is an empty directory or file. Devices and processes are the sandbox's own.
2. A PID namespace whose end is the end of all in it, and which ends with whoever started it; no controlling terminal;
   IPC, host name and cgroups apart. Of root's capabilities those are left that make files one's own.
3. Environment variables are not set here: a command line can be read by everybody.
"""

from __future__ import annotations

import os
from pathlib import Path

from producer.sandbox.choice import APART, proc_words
from producer.sandbox.plan import Access, Map

KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/fs")
KEPT_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER")
INSIDE = Path("/run/ai-producer")  # where the gateway's socket and the relay are, in a sandbox without a network


def words(found: Map, cwd: Path, empty: Path, *, outlet: Path | None = None, relay: Path | None = None) -> list[str]:
    """The command up to the program. ``empty``: an empty file; ``outlet``: the directory of the gateway's socket.

    With an outlet there is no network but the sandbox's own loopback.
    """
    command = ["bwrap", *APART]
    if os.geteuid() == 0:
        command += [word for name in KEPT_CAPABILITIES for word in ("--cap-add", name)]
    if outlet is not None:
        command.append("--unshare-net")
    hidden: list[str] = []
    for path, kind in found.items():
        command += _mount(path, kind, empty, hidden)
        if path == Path("/"):
            command += ["--dev", "/dev", *proc_words(), *_kernel()]
    if outlet is not None and relay is not None:
        command += ["--ro-bind", str(outlet), str(INSIDE / "outlet"), "--ro-bind", str(relay), str(INSIDE / "relay.py")]
    for place in reversed(hidden):
        command += ["--remount-ro", place]
    return [*command, "--chdir", str(cwd), "--"]


def _kernel() -> list[str]:
    """bubblewrap leaves the kernel's parameters to their modes, and root may write those."""
    if os.geteuid() != 0:
        return []
    return [word for name in KERNEL if Path(name).exists() for word in ("--ro-bind", name, name)]


def _mount(path: Path, kind: Access, empty: Path, hidden: list[str]) -> list[str]:
    name = str(path)
    match kind:
        case Access.READ:
            return ["--ro-bind", name, name]
        case Access.WRITE:
            return ["--bind", name, name]
        case Access.SCRATCH:
            return ["--tmpfs", name]
        case Access.HIDE if os.path.isdir(path):  # noqa: PTH112
            hidden.append(name)
            return ["--tmpfs", name]
        case Access.HIDE:
            return ["--ro-bind", str(empty), name]
