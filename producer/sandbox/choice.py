"""Which sandbox this machine has, found by trying each once a process.

A supervisor whose workers are in another systemd unit asks there: in its own unit nothing but Landlock would work.
"""

from __future__ import annotations

import shutil
import subprocess
from enum import StrEnum
from functools import cache

from producer import workers_unit
from producer.errors import SandboxMissing
from producer.sandbox import confine

TRIAL_SECONDS = 10.0
NEEDED = "install bubblewrap (apt-get install bubblewrap), use Linux 6.2 or newer with Landlock, or say `sandbox: none`"
OWN_PROC = ("--proc", "/proc")
OUTER_PROC = ("--ro-bind", "/proc", "/proc")
APART = (
    "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
    "--die-with-parent", "--new-session", "--cap-drop", "ALL",
)  # fmt: skip


class Way(StrEnum):
    """How an attempt is enclosed, firmest first."""

    BWRAP = "bwrap"
    LANDLOCK = "landlock"
    NONE = "none"


def choose(setting: str, network: str = "full") -> Way:
    """The way for a role's ``sandbox`` setting. Raises SandboxMissing where this machine has none that will do."""
    if setting == Way.NONE:
        return Way.NONE
    bwrap, landlock = bwrap_problem(), landlock_problem()
    if setting in ("auto", Way.BWRAP) and bwrap is None:
        return Way.BWRAP
    if network != "full":
        raise SandboxMissing(
            f"`network: {network}` needs bubblewrap: {bwrap}", "install bubblewrap, or `network: full`"
        )
    if setting in ("auto", Way.LANDLOCK) and landlock is None:
        return Way.LANDLOCK
    reasons = {Way.BWRAP: bwrap, Way.LANDLOCK: landlock}
    said = [str(why) for way, why in reasons.items() if setting in ("auto", way)]
    raise SandboxMissing("; ".join(said), NEEDED)


def in_force(setting: str, network: str = "full") -> str:
    """What `status` shows: a Way, or `refused`."""
    try:
        return choose(setting, network).value
    except SandboxMissing:
        return "refused"


def bwrap_problem() -> str | None:
    """Why bubblewrap does not work where workers are; None where it does."""
    if where := workers_unit.address():
        return _elsewhere(where, Way.BWRAP)
    return _tried(OWN_PROC) and _tried(OUTER_PROC)


@cache
def proc_words() -> tuple[str, ...]:
    """How the sandbox gets its /proc.

    Where parts of /proc are masked (a container, a unit with ProtectKernelTunables), the kernel allows no new one. The
    outer one then shows the processes outside: their names and arguments, but neither their environment nor their
    files, and no signal reaches them.
    """
    return OWN_PROC if _tried(OWN_PROC) is None else OUTER_PROC


@cache
def _tried(proc: tuple[str, ...]) -> str | None:
    where = shutil.which("bwrap")
    if where is None:
        return "bubblewrap is not installed"
    trial = [where, "--ro-bind", "/", "/", "--dev", "/dev", *proc, "--tmpfs", "/tmp", *APART, "true"]
    try:
        tried = subprocess.run(trial, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not start: {error}"
    if tried.returncode:
        said = " ".join(tried.stderr.split())[:200] or f"exit {tried.returncode}"
        return f"bubblewrap does not work here: {said}"
    return None


def landlock_problem() -> str | None:
    """Why Landlock does not work where workers are; None where it does."""
    if where := workers_unit.address():
        return _elsewhere(where, Way.LANDLOCK)
    abi = confine.abi()
    if abi >= confine.LEAST_ABI:
        return None
    return f"the kernel's Landlock is version {abi}, {confine.LEAST_ABI} is needed" if abi else "there is no Landlock"


def _elsewhere(where: str, way: Way) -> str | None:
    try:
        return _asked(where)[way]
    except OSError as error:
        return f"the workers' unit does not answer at {where}: {error}"


@cache
def _asked(where: str) -> dict[str, str | None]:
    return workers_unit.sandboxes(where)  # an error is not kept: the next question is asked again
