"""ClaudeAgentInvoker: one agent call through the Claude Agent SDK, for scripts, without supervisor, ledger or gateway.

The interface is 0.3.x's; underneath is the workers' own claude runner, so that tools, isolation, errors and the ending
of processes are the same. What it may not do: touch this process's environment, adopt orphans, or wait for children
that the calling program started.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from msgspec import convert

from producer import pricing
from producer.core.money import to_float
from producer.errors import AuthError, ProducerError
from producer.ids import new_id, new_session
from producer.wire.messages import JsonObject, Progress, Reply, Result, Started, TaskMsg, Usage
from producer.workers.invocation import InvocationResult
from producer.workers.runner import Stop

DEFAULT_MODEL = "claude-sonnet-5-5"
ISOLATION_MODES = ("auto", "isolated", "inherit")


class ClaudeAgentInvoker:
    """One agent call through the Claude Agent SDK, for scripts; the interface of 0.3.x.

    ``cwd`` is the agent's working directory; ``api_key`` defaults to ANTHROPIC_API_KEY; ``config_dir`` to
    CWD/agent-state/.claude; ``auth_config`` is anything with a ``mode`` (auto, isolated, inherit), and
    PRODUCER_AUTH_MODE wins over it. Nothing is written into this process's environment. Raises AuthError where an
    isolated call has neither key nor credentials, ValueError for an unknown mode.
    """

    def __init__(
        self,
        *,
        cwd: Path | str,
        api_key: str | None = None,
        config_dir: Path | str | None = None,
        permission_mode: str | None = None,
        auth_config: Any = None,
    ) -> None:
        self.cwd = Path(cwd).resolve()
        self.api_key = api_key or os.environ.get("ANTHROPIC_API_KEY") or None
        self.auth_mode: Literal["api", "subscription"] = "api" if self.api_key else "subscription"
        credentials = Path.home() / ".claude" / ".credentials.json"
        mode = os.environ.get("PRODUCER_AUTH_MODE") or getattr(auth_config, "mode", None) or "auto"
        if mode not in ISOLATION_MODES:
            raise ValueError(f"auth.mode must be one of {', '.join(ISOLATION_MODES)}; got {mode!r}")
        if mode == "auto":
            mode = "isolated" if self.api_key or credentials.exists() else "inherit"
        self.config_isolation: Literal["isolated", "inherit"] = "inherit" if mode == "inherit" else "isolated"
        if self.config_isolation == "isolated" and not self.api_key and not credentials.exists():
            raise AuthError(
                f"no API key and no {credentials}: set ANTHROPIC_API_KEY, run `claude login`, or use auth.mode: inherit"
            )
        own = Path(config_dir).resolve() if config_dir is not None else self.cwd / "agent-state" / ".claude"
        self._private = own
        self.config_dir = own if self.config_isolation == "isolated" else None
        inherit = self.config_isolation == "inherit"
        self.permission_mode = permission_mode or ("bypassPermissions" if inherit else "acceptEdits")

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
        """Run one call to its end. Raises ProducerError where it failed without text and without a tool call."""
        from producer.workers.claude import ClaudeRunner

        task = self._task(agent_role, prompt, system_prompt, max_turns, allowed_tools or [], model or DEFAULT_MODEL)
        said: list[Progress | Started] = []
        result = await ClaudeRunner("stand-alone", standalone=True).run(task, said.append, _no_ledger, Stop())
        return self._invocation(result, [message for message in said if isinstance(message, Progress)])

    def _task(
        self, role: str, prompt: str, system_prompt: str | None, max_turns: int, tools: list[str], model: str
    ) -> TaskMsg:
        ident = new_id()
        return TaskMsg(
            attempt=ident,
            task=ident,
            role=role,
            title=role,
            description=prompt,
            prompt=prompt,
            system_prompt=system_prompt,
            model=model,
            allowed_tools=tools,
            max_turns=max_turns,
            permission_mode=self.permission_mode,
            cwd=str(self.cwd),
            config_dir=str(self._private),
            home=str(self._private.parent / "home"),
            session_id=new_session(),
            auth="inherit" if self.config_isolation == "inherit" else "none",
            base_url=os.environ.get("ANTHROPIC_BASE_URL"),
            api_token=self.api_key,
        )

    def _invocation(self, result: Result, said: list[Progress]) -> InvocationResult:
        calls = [{"name": each.data["name"], "input": each.data["input"]} for each in said if each.kind == "tool_call"]
        text = result.text or "\n".join(str(each.data["text"]) for each in said if each.kind == "text")
        if result.outcome != "succeeded" and not text and not calls:
            raise ProducerError(result.error or result.outcome)
        cost = _price(said)
        return InvocationResult(
            text=text,
            cost_usd=to_float(cost),
            actual_cost_usd=to_float(cost) if self.auth_mode == "api" else None,
            usage=_totals(result),
            auth_mode=self.auth_mode,
            config_isolation=self.config_isolation,
            tool_calls=calls,
            raw_messages=list(said),
            sdk_error=None if result.outcome == "succeeded" else (result.error or result.outcome),
        )


def _price(said: list[Progress]) -> int:
    """Micro-dollars of all responses, each priced by itself. Raises UnknownModel."""
    table = pricing.load()
    usages = [each.data for each in said if each.kind == "usage"]
    return sum(table.lookup(each["model"]).cost_of(convert(each, Usage)) for each in usages)


def _totals(result: Result) -> dict[str, int]:
    """Token counts over all models, under the API's names."""
    every = list(result.usage.values())
    return {
        "input_tokens": sum(usage.input_tokens for usage in every),
        "output_tokens": sum(usage.output_tokens for usage in every),
        "cache_creation_input_tokens": sum(u.cache_write_5m_tokens + u.cache_write_1h_tokens for u in every),
        "cache_read_input_tokens": sum(usage.cache_read_tokens for usage in every),
    }


async def _no_ledger(tool: str, arguments: JsonObject) -> Reply:
    return Reply(call="", ok=False, error="there is no ledger here")
