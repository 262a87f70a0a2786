"""The invoker interface of 0.3.x: what an invoker takes and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol


@dataclass
class InvocationResult:
    """What an agent call returned. Amounts are US dollars; ``cost_usd`` and ``computed_cost_usd`` are the same thing.

    ``actual_cost_usd`` is what the SDK itself reported, None under subscription auth; ``usage`` has the API's names.
    """

    text: str
    cost_usd: float = 0.0
    computed_cost_usd: float = 0.0
    actual_cost_usd: float | None = None
    usage: dict[str, int] = field(default_factory=dict)
    auth_mode: Literal["api", "subscription"] = "api"
    config_isolation: Literal["isolated", "inherit"] = "isolated"
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    raw_messages: list[Any] = field(default_factory=list)
    sdk_error: str | None = None

    def __post_init__(self) -> None:
        """Whichever of the two names of the cost was given, both have it."""
        self.cost_usd = self.cost_usd or self.computed_cost_usd
        self.computed_cost_usd = self.computed_cost_usd or self.cost_usd


class Invoker(Protocol):
    """The 0.3.x interface. ``invoke`` may also be a plain function."""

    async def invoke(
        self,
        agent_role: str,
        prompt: str,
        *,
        system_prompt: str | None = None,
        max_turns: int = 16,
        allowed_tools: list[str] | None = None,
        model: str | None = None,
    ) -> InvocationResult:
        """Run one agent call."""
