"""The real claude CLI through the gateway to the scripted model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ResultMessage, query
from gateway_rig import SECRET, Rig, live, rig, until

from producer import ids, killswitch
from producer.gateway import bill
from producer.wire import tokens
from producer.wire.messages import Open

pytestmark = pytest.mark.e2e

WORK = """
roles:
  code:
    - title: "slow*"
      turns:
        - {text: "a long answer that is told word by word in its time", output_tokens: 900, tokens_per_second: 30}
    - title: "expensive*"
      turns:
        - text: First.
          tools: [{name: Bash, input: {command: "true"}}]
          output_tokens: 5000
        - {text: "Second.", tools: [{name: Bash, input: {command: "true"}}], output_tokens: 5000}
        - {text: "Third.", output_tokens: 5000}
    - turns:
        - text: A file.
          tools:
            - {name: Write, input: {file_path: "{cwd}/out/{payload[name]|x}.txt", content: "by {role} for {title}\\n"}}
          output_tokens: 120
          cache_write_5m_tokens: 700
        - text: Two calls at once.
          error: {status: 500, type: api_error, message: scripted, times: 1}
          tools:
            - {name: Bash, input: {command: "cat out/y.txt && echo seen > seen.txt"}}
            - {name: Read, input: {file_path: "{cwd}/out/y.txt"}}
          output_tokens: 90
          cache_read_tokens: 700
        - {text: "All done.", output_tokens: 17, cache_read_tokens: 700, cache_write_1h_tokens: 30}
"""


@dataclass
class Ran:
    """How a run of the CLI ended."""

    result: ResultMessage | None = None
    texts: list[str] = field(default_factory=list)
    error: Exception | None = None


async def run(r: Rig, where: Path, title: str, attempt: str | None = None, **more: Any) -> Ran:
    attempt = attempt or r.attempt()
    project = where / "project"
    project.mkdir(parents=True, exist_ok=True)
    prompt = more.pop("prompt", None) or (
        f'Project: p\nRole: code\nTask: {attempt}\nAttempt: {attempt}\nTitle: {title}\nPayload: {{"name": "y"}}\n'
    )
    env = {
        "CLAUDE_CONFIG_DIR": str(where / "claude"),
        "CLAUDE_CODE_TMPDIR": str(where / "tmp"),
        "HOME": str(where),
        "ANTHROPIC_BASE_URL": r.url,
        "ANTHROPIC_API_KEY": tokens.mint(SECRET, attempt),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "CLAUDE_CODE_MAX_RETRIES": "3",
        "ENABLE_TOOL_SEARCH": "0",
    }
    tools = ["Bash", "Read", "Write"]
    options = ClaudeAgentOptions(
        cwd=project, env=env, model=more.pop("model", "claude-sonnet-5-5"), system_prompt="You write code.",
        setting_sources=[], strict_mcp_config=True, verbatim_prompts=True, permission_mode="dontAsk", tools=tools,
        allowed_tools=tools, **more,
    )  # fmt: skip
    ran = Ran()
    try:
        async for message in query(prompt=prompt, options=options):
            if isinstance(message, ResultMessage):
                ran.result = message
            elif isinstance(message, AssistantMessage):
                ran.texts += [block.text for block in message.content if hasattr(block, "text")]
    except Exception as error:
        ran.error = error
    return ran


@live
async def test_a_run_with_tools_and_a_retried_500_is_metered_to_the_micro_dollar(tmp_path):
    async with rig(tmp_path, WORK) as r:
        ran = await run(r, tmp_path, "make a file")
        assert ran.error is None
        assert ran.texts == ["A file.", "Two calls at once.", "All done."]
        assert (tmp_path / "project/out/y.txt").read_text() == "by code for make a file\n"
        assert (tmp_path / "project/seen.txt").read_text() == "seen\n"
        lines = bill.lines(r.bill)
        assert [(line["status"], line["turn"]) for line in lines] == [(200, 0), (500, 1), (200, 1), (200, 2)]
        assert [record.cost for record in r.records()] == [line["cost_micros"] for line in lines]
        assert all(record.exact for record in r.records())
        assert ran.result
        assert abs(ran.result.total_cost_usd * 1e6 - r.billed()) <= len(lines)  # each is rounded up once


@live
async def test_the_cli_gives_up_at_once_on_a_budget_refusal(tmp_path):
    async with rig(tmp_path, WORK, limit=3000) as r:
        ran = await run(r, tmp_path, "make a file")
        assert ran.result
        assert ran.result.is_error
        assert ran.result.api_error_status == 402
        assert "ai-producer:budget: project" in (ran.result.result or "")
        assert len(r.supervisor.asked) == 1
        assert bill.lines(r.bill) == []


@live
async def test_the_cli_gives_up_at_once_on_an_armed_switch_and_an_unknown_model(tmp_path):
    async with rig(tmp_path, WORK) as r:
        unknown = await run(r, tmp_path, "x", model="claude-opus-99")
        killswitch.arm(r.gateway.kill_switch, "enough")
        armed = await run(r, tmp_path, "x")
        assert unknown.result
        assert armed.result
        assert "ai-producer:unknown-model: no price is known for model 'claude-opus-99'" in unknown.result.result
        assert "ai-producer:kill-switch: armed: enough" in armed.result.result
        assert bill.lines(r.bill) == []
        assert r.supervisor.asked == []


@live
async def test_a_run_that_is_cut_by_the_switch_ends_as_killed(tmp_path):
    async with rig(tmp_path, WORK) as r:
        running = asyncio.create_task(run(r, tmp_path, "slow"))
        await until(lambda: any(not flow.waiting for flow in r.gateway.attempts.flows), 30)
        killswitch.arm(r.gateway.kill_switch, "stop all", now=True)
        ran = await running
        assert ran.result
        assert "ai-producer:kill-switch:" in (ran.result.result or "")
        await until(r.records)  # the model may or may not have seen the request before it was cut
        assert r.supervisor.spent >= r.billed()


@live
async def test_a_cap_that_runs_out_between_turns_ends_the_run_with_all_of_it_booked(tmp_path):
    async with rig(tmp_path, WORK, limit=75_000) as r:  # an answer of 5,000 tokens is $0.05
        ran = await run(r, tmp_path, "expensive")
        assert ran.result
        assert "ai-producer:budget:" in (ran.result.result or "")
        assert 50_000 < r.billed() == r.supervisor.spent <= 75_000


@live
async def test_a_resumed_session_goes_on_where_the_script_stood(tmp_path):
    session = "6f1e7a52-3f6e-4a53-9a55-3d7f0a3b9a01"
    async with rig(tmp_path, WORK) as r:
        attempt = r.attempt()
        first = await run(r, tmp_path, "make a file", attempt, session_id=session, max_turns=1)
        assert first.texts == ["A file."]
        again = ids.new_id()
        r.gateway.attempts.open(Open(attempt=again, role="code", task=ids.new_id()))
        prompt = "You were interrupted. Go on with the task."
        second = await run(r, tmp_path, "", again, prompt=prompt, resume=session)
        assert second.texts == ["Two calls at once.", "All done."]
        assert r.billed() == r.supervisor.spent


@pytest.mark.slow
@live
async def test_eight_runs_at_once_under_one_ceiling_never_pass_it(tmp_path):
    ceiling = 500_000  # eight runs want $1.20
    async with rig(tmp_path, WORK, limit=ceiling) as r:
        runs = await asyncio.gather(*(run(r, tmp_path / str(n), f"expensive {n}") for n in range(8)))
        assert r.billed() == r.supervisor.spent <= ceiling
        refused = [ran for ran in runs if ran.result and "ai-producer:budget:" in (ran.result.result or "")]
        assert refused
        assert r.supervisor.spent > ceiling * 0.6
        assert not r.supervisor.open
