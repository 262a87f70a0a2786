"""Three process attributes of Linux; elsewhere nothing happens and False is returned."""

from __future__ import annotations

import ctypes
import sys

_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Orphans below this process become its children, however often they forked."""
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent(signal_number: int) -> bool:
    """The kernel sends this process the signal when the thread that started it ends."""
    return _prctl(_SET_PDEATHSIG, signal_number)


def undumpable() -> bool:
    """Other processes of the user cannot read this one's memory or environment."""
    return _prctl(_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)
