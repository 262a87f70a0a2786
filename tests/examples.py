"""How many examples hypothesis tries of a property: few in the suite, as many as are asked for in the long form."""

from __future__ import annotations

import os


def examples(usual: int) -> int:
    """FUZZ_EXAMPLES of the environment (`make fuzz-properties` sets it), else ``usual``."""
    return int(os.environ.get("FUZZ_EXAMPLES") or usual)
