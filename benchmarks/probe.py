"""An invoker that says when it was called: the clock in nanoseconds is its answer."""

from __future__ import annotations

import time
from typing import Any

from producer import InvocationResult


class Probe:
    """Runs nothing; answers with the moment at which the worker called it."""

    async def invoke(self, agent_role: str, prompt: str, **options: Any) -> InvocationResult:
        return InvocationResult(text=str(time.time_ns()))
