"""The real claude CLI against a scripted Messages API on loopback."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from producer import reaper
from producer.reaper import Family
from producer.wire.messages import Reply, Result, TaskMsg
from producer.workers.attempt import run_attempt
from producer.workers.runner import Stop
from tests.workers.conftest import MakeTask, Surroundings, until
from tests.workers.scripted_api import Script, ScriptedApi, Turn

pytestmark = pytest.mark.e2e
DAEMON = "setsid sh -c 'trap \"\" TERM; exec env -i sleep 60' >/dev/null 2>&1 &"


def run(task: TaskMsg, around: Surroundings, stop_when: Callable[[], bool] | None = None, **stopping: Any) -> Result:
    """One attempt through the claude runner; optionally stopped as soon as a condition holds."""
    from producer.workers.claude import ClaudeRunner

    async def main() -> Result:
        stop = Stop()
        running = asyncio.ensure_future(
            run_attempt(ClaudeRunner("project"), task, around.emit, around.call, stop, project="project")
        )
        if stop_when:
            await until(lambda: stop_when() or running.done())
            stop.set("told to", **stopping)
        ended = await running
        assert not ended.stuck
        return ended.result

    return asyncio.run(main())


def at_gateway(make_task: MakeTask, api: ScriptedApi, **fields: Any) -> TaskMsg:
    return make_task(auth="gateway", base_url=api.url, api_token="ap-token", **fields)


def once(*tools: tuple[str, dict[str, Any]], text: str = "all done") -> Script:
    """A script that calls the tools in its first answer and ends with its second."""
    return lambda body, number: Turn(tools=list(tools)) if number == 1 else Turn(text=text)


def left_over(task: TaskMsg) -> list[psutil.Process]:
    return reaper.find(Family.of_attempt(task.attempt, os.getpid()))


def test_only_the_granted_tools_exist_and_files_stay_in_the_working_directory(
    make_task: MakeTask, around: Surroundings, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("a secret")
    tools = [
        ("Read", {"file_path": str(tmp_path / "secret.txt")}),
        ("Write", {"file_path": str(tmp_path / "outside.txt"), "content": "x"}),
        ("Grep", {"pattern": "secret", "path": str(tmp_path), "output_mode": "content"}),
        ("Bash", {"command": "touch from-bash"}),
        ("Write", {"file_path": str(tmp_path / "project" / "inside.txt"), "content": "made"}),
        ("Read", {"file_path": str(tmp_path / "project" / "inside.txt")}),
    ]
    with ScriptedApi(once(*tools)) as api:
        result = run(at_gateway(make_task, api, allowed_tools=["Read", "Write", "Grep"]), around)
        answers = api.results(1)
    assert (result.outcome, result.error, result.text) == ("succeeded", None, "all done")
    assert result.tool_calls == 6 and result.turns == 2 and result.survivors == 0
    assert [data["ok"] for data in around.of_kind("tool_result")] == [False, False, False, False, True, True], answers
    assert not any("a secret" in answer for answer in answers)
    assert (tmp_path / "project" / "inside.txt").read_text() == "made"
    assert not (tmp_path / "outside.txt").exists() and not (tmp_path / "project" / "from-bash").exists()


def test_ledger_tools_reach_the_ledger_and_refusals_reach_the_agent(make_task: MakeTask, around: Surroundings) -> None:
    filed = {"agent_owner": "qa", "title": "check", "description": "check it"}
    around.reply = Reply(call="1", ok=False, error="the limit of 20 filed tasks is reached: finish this one first")
    with ScriptedApi(once(("mcp__ledger__insert_task", filed))) as api:
        result = run(at_gateway(make_task, api), around)
        assert "limit of 20 filed tasks" in api.results(1)[0]
        offered = [tool["name"] for tool in api.requests[0]["tools"]]
    assert around.calls == [("insert_task", filed)]
    assert result.outcome == "succeeded"
    assert sorted(offered) == sorted(
        f"mcp__ledger__{name}"
        for name in ("insert_task", "record_decision", "record_asset", "get_task", "list_tasks", "escalate")
    )


def test_environment_and_command_line_are_clean(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-the-real-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret")
    monkeypatch.setenv("NODE_OPTIONS", "--no-warnings")
    seen: dict[str, Any] = {}

    def script(body: dict[str, Any], number: int) -> Turn:
        for process in reaper.find(Family(root=os.getpid())):
            if process.name() == "claude" or "_bundled/claude" in " ".join(process.cmdline()[:1]):
                seen["env"] = Path(f"/proc/{process.pid}/environ").read_text().split("\0")
                seen["args"] = process.cmdline()
        return once(("Bash", {"command": "env"}))(body, number)

    with ScriptedApi(script) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"], env={"PROJECT_COLOUR": "blue", "HOME": "/evil"})
        result = run(task, around)
        shell = api.results(1)[0]
        assert set(api.keys) == {"ap-token"}
    assert result.outcome == "succeeded"
    env = dict(entry.split("=", 1) for entry in seen["env"] if entry)
    assert env["AI_PRODUCER_ATTEMPT"] == task.attempt and env["AI_PRODUCER_PROJECT"] == "project"
    assert (env["HOME"], env["CLAUDE_CONFIG_DIR"]) == (task.home, task.config_dir)
    assert env["PROJECT_COLOUR"] == "blue" and env["ANTHROPIC_API_KEY"] == "ap-token"
    for secret in ("sk-the-real-key", "aws-secret", "--no-warnings", "/evil"):
        assert secret not in "\n".join(seen["env"]) + shell
    arguments = " ".join(seen["args"])
    assert "--setting-sources=" in seen["args"] and "--strict-mcp-config" in arguments and "dontAsk" in arguments
    assert "ap-token" not in arguments and f"--session-id={task.session_id}" in arguments


def test_planted_hooks_settings_and_mcp_servers_do_not_run(
    make_task: MakeTask, around: Surroundings, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    (project / ".claude").mkdir()
    hook = f'{{"hooks":{{"SessionStart":[{{"hooks":[{{"type":"command","command":"touch {project}/hooked"}}]}}]}}}}'
    (project / ".claude" / "settings.json").write_text(hook)
    (project / ".mcp.json").write_text(f'{{"mcpServers":{{"evil":{{"command":"touch","args":["{project}/mcp"]}}}}}}')
    (project / "CLAUDE.md").write_text("PLANTED WORDS")
    with ScriptedApi(once(("Bash", {"command": "true"}))) as api:
        result = run(at_gateway(make_task, api, allowed_tools=["Bash"]), around)
        assert "PLANTED WORDS" not in str(api.requests)
    assert result.outcome == "succeeded"
    assert not (project / "hooked").exists() and not (project / "mcp").exists()


def test_an_at_path_in_the_prompt_is_not_expanded(make_task: MakeTask, around: Surroundings, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a secret in a file")
    with ScriptedApi(lambda body, number: Turn(text="fine")) as api:
        result = run(at_gateway(make_task, api, prompt=f"look at @{tmp_path}/secret.txt"), around)
        assert "a secret in a file" not in str(api.requests)
    assert result.outcome == "succeeded"


def test_usage_equals_the_scripted_bill_and_everything_is_streamed(make_task: MakeTask, around: Surroundings) -> None:
    def script(body: dict[str, Any], number: int) -> Turn:
        if number < 4:
            return Turn(f"step {number}", [("Bash", {"command": f"echo {number}"})], input_tokens=100 * number)
        return Turn(text="the end", output_tokens=7)

    with ScriptedApi(script) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"])
        result = run(task, around)
    usage = result.usage["claude-sonnet-5-5"]
    assert (usage.input_tokens, usage.output_tokens) == (100 + 200 + 300 + 100, 20 * 3 + 7)
    assert [data["text"] for data in around.of_kind("text")] == ["step 1", "step 2", "step 3", "the end"]
    assert [data["input"]["command"] for data in around.of_kind("tool_call")] == ["echo 1", "echo 2", "echo 3"]
    assert [data["name"] for data in around.of_kind("tool_result")] == ["Bash"] * 3
    assert sum(data["output_tokens"] for data in around.of_kind("usage")) == 67 and len(around.of_kind("usage")) == 4
    assert [(s.session_id, s.resumed, s.note) for s in around.started()] == [(task.session_id, False, None)]


@pytest.mark.parametrize(("number", "outcome"), [(errno.EMFILE, "failed"), (errno.ENOEXEC, "permanent")])
def test_a_machine_that_is_short_of_something_is_worth_a_retry(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch, number: int, outcome: str
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    with ScriptedApi(once()) as api:
        task = at_gateway(make_task, api)
        monkeypatch.setattr("anyio.open_process", refuse)
        result = run(task, around)
    assert (result.outcome, os.strerror(number) in (result.error or "")) == (outcome, True)


def test_nothing_outlives_a_successful_attempt(make_task: MakeTask, around: Surroundings, subreaper: None) -> None:
    with ScriptedApi(once(("Bash", {"command": DAEMON + " sleep 61 & echo started"}))) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"])
        result = run(task, around)
    assert (result.outcome, result.survivors) == ("succeeded", 0)
    assert left_over(task) == []


@pytest.mark.parametrize("kind", ["namespace", "death-signal", "plain"])
def test_a_cancelled_attempt_leaves_nothing_however_it_is_contained(
    make_task: MakeTask, around: Surroundings, subreaper: None, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer.workers import claude, isolation

    if kind == "namespace" and isolation.containment() != "namespace":
        pytest.skip("no PID namespaces for this user")
    monkeypatch.setattr(claude, "survey", lambda: isolation.Containment(kind))
    with ScriptedApi(once(("Bash", {"command": DAEMON + " sleep 60"}))) as api:
        task = at_gateway(make_task, api, allowed_tools=["Bash"])
        result = run(task, around, lambda: _sleeping(task) >= 2, grace=1.0)
    assert (result.outcome, result.error, result.survivors) == ("cancelled", "told to", 0)
    assert left_over(task) == []


def _sleeping(task: TaskMsg) -> int:
    count = 0
    for process in left_over(task):
        with suppress(psutil.Error):
            count += process.name() == "sleep"
    return count


def test_a_killed_session_is_resumed_without_paying_its_turns_again(
    make_task: MakeTask, around: Surroundings, tmp_path: Path
) -> None:
    marker = tmp_path / "project" / "reached"

    def script(body: dict[str, Any], number: int) -> Turn:
        if number < 4:
            return Turn(f"step {number}", [("Bash", {"command": f"echo {number} >> steps"})])
        if number == 4:
            return Turn("step 4", [("Bash", {"command": "touch reached; sleep 60"})])
        return Turn(text="finished at last")

    with ScriptedApi(script) as api:
        first = at_gateway(make_task, api, allowed_tools=["Bash"])
        killed = run_and_kill(first, around, marker)
        paid = len(api.requests)
        second = at_gateway(
            make_task, api, allowed_tools=["Bash"], task=first.task, session_id=first.session_id, resume=True, number=2
        )
        result = run(second, around)
        told = api.requests[-1]["messages"]
    assert killed.outcome == "failed" and "killed by signal 9" in (killed.error or "")
    assert (result.outcome, result.text) == ("succeeded", "finished at last")
    assert len(api.requests) == paid + 1
    assert [(s.session_id, s.resumed) for s in around.started()] == [
        (first.session_id, False), (first.session_id, True),
    ]  # fmt: skip
    assert str(told).count("do the task") == 1 and "You were interrupted" in str(told[-1])
    assert (tmp_path / "project" / "steps").read_text() == "1\n2\n3\n"


def run_and_kill(task: TaskMsg, around: Surroundings, marker: Path) -> Result:
    """Run an attempt and SIGKILL its claude process once the marker file is there."""
    from producer.workers.claude import ClaudeRunner

    async def main() -> Result:
        running = asyncio.ensure_future(
            run_attempt(ClaudeRunner("project"), task, around.emit, around.call, Stop(), project="project")
        )
        await until(marker.exists)
        for process in reaper.find(Family.of_attempt(task.attempt)):
            with suppress(psutil.NoSuchProcess):  # it went with the one before it
                process.send_signal(signal.SIGKILL)
        return (await running).result

    return asyncio.run(main())


@pytest.mark.parametrize("damage", ["missing", "binary", "empty", "taken"])
def test_a_transcript_that_cannot_be_resumed_starts_afresh_and_says_so(
    make_task: MakeTask, around: Surroundings, damage: str
) -> None:
    with ScriptedApi(lambda body, number: Turn(text="hello")) as api:
        task = at_gateway(make_task, api, resume=damage != "taken", number=2)
        folder = Path(task.config_dir) / "projects" / "-some-project"
        if damage != "missing":
            folder.mkdir(parents=True)
            content = {"binary": b"\x00\xff\x01" * 100, "empty": b"", "taken": b'{"type":"user"}\n'}[damage]
            (folder / f"{task.session_id}.jsonl").write_bytes(content)
        result = run(task, around)
        assert "do the task" in str(api.requests[0]["messages"])
    (started,) = around.started()
    assert result.outcome == "succeeded"
    assert started.note and not started.resumed and result.session_id == started.session_id != task.session_id


def test_a_transcript_that_only_the_cli_refuses_starts_afresh_too(make_task: MakeTask, around: Surroundings) -> None:
    with ScriptedApi(lambda body, number: Turn(text="hello")) as api:
        task = at_gateway(make_task, api, resume=True, number=2)
        folder = Path(task.config_dir) / "projects" / "-some-project"
        folder.mkdir(parents=True)
        (folder / f"{task.session_id}.jsonl").write_text('{"type":"user"}\n')
        result = run(task, around)
    assert result.outcome == "succeeded", result
    assert around.started()[-1].session_id == result.session_id


@pytest.mark.parametrize(
    ("turn", "outcome", "words"),
    [
        (Turn(status=400, error="messages: too odd", error_type="invalid_request_error"), "permanent", "too odd"),
        (Turn(status=401, error="invalid x-api-key", error_type="authentication_error"), "permanent", "API key"),
        (Turn(status=403, error="not yours", error_type="permission_error"), "permanent", "403"),
        (Turn(status=404, error="model: nope", error_type="not_found_error"), "permanent", "model"),
        (Turn(status=413, error="too large", error_type="request_too_large"), "permanent", ""),
        (Turn(status=500, error="broken"), "failed", "500"),
        (Turn(status=529, error="overloaded", error_type="overloaded_error"), "throttled", "529"),
        (Turn(status=403, error="ai-producer:budget: role code is at its cap"), "budget", "role code is at its cap"),
        (Turn(status=403, error="ai-producer:kill-switch: armed"), "cancelled", "armed"),
        (Turn(status=403, error="ai-producer:unknown-model: no price"), "permanent", "no price"),
    ],
    ids=lambda value: f"{value.status}-{value.error[:22]}" if isinstance(value, Turn) else None,
)
def test_api_errors_are_classified_and_never_output(
    make_task: MakeTask, around: Surroundings, turn: Turn, outcome: str, words: str
) -> None:
    with ScriptedApi(lambda body, number: turn) as api:
        result = run(at_gateway(make_task, api, env={"CLAUDE_CODE_MAX_RETRIES": "1"}), around)
    assert (result.outcome, result.text) == (outcome, ""), result
    assert words in (result.error or "")
    assert around.of_kind("text") == []


def test_a_rate_limit_is_a_throttle_until_the_time_that_is_named(make_task: MakeTask, around: Surroundings) -> None:
    limit = Turn(status=429, error="slow down", error_type="rate_limit_error", headers={"retry-after": "2"})
    with ScriptedApi(lambda body, number: limit) as api:
        result = run(at_gateway(make_task, api, env={"CLAUDE_CODE_MAX_RETRIES": "1"}), around)
    assert result.outcome == "throttled" and result.until is not None
    assert time.time() < result.until < time.time() + 10
    assert [data["status"] for data in around.of_kind("retry")] == [429]


def test_running_out_of_turns_and_of_budget(make_task: MakeTask, around: Surroundings) -> None:
    def script(body: dict[str, Any], number: int) -> Turn:
        return Turn(f"step {number}", [("Bash", {"command": "true"})], input_tokens=100_000)

    with ScriptedApi(script) as api:
        turns = run(at_gateway(make_task, api, allowed_tools=["Bash"], max_turns=2), around)
        assert len(api.requests) == 2
    with ScriptedApi(script) as api:
        budget = run(at_gateway(make_task, api, allowed_tools=["Bash"], max_budget=300_000), around)
        assert len(api.requests) == 2
    with ScriptedApi(script) as api:
        nothing = run(at_gateway(make_task, api, max_budget=0), around)
        assert api.requests == []
    assert turns.outcome == "failed" and "2 turns" in (turns.error or "")
    assert (budget.outcome, nothing.outcome) == ("budget", "budget")


def test_limits_of_time(make_task: MakeTask, around: Surroundings) -> None:
    with ScriptedApi(once(("Bash", {"command": "sleep 60"}))) as api:
        idle = run(at_gateway(make_task, api, allowed_tools=["Bash"], idle_timeout_seconds=8.0), around)
        assert idle.outcome == "failed" and "no progress for 8 s" in (idle.error or "")
        assert idle.tool_calls == 1
    with ScriptedApi(lambda b, n: Turn("again", [("Bash", {"command": "sleep 0.2"})])) as api:
        wall = run(at_gateway(make_task, api, allowed_tools=["Bash"], timeout_seconds=3.0, max_turns=1000), around)
        assert wall.outcome == "failed" and "longer than 3 s" in (wall.error or "")


def test_a_missing_working_directory_is_permanent(make_task: MakeTask, around: Surroundings, tmp_path: Path) -> None:
    result = run(make_task(cwd=str(tmp_path / "nowhere"), auth="gateway", api_token="x"), around)
    assert result.outcome == "permanent" and "nowhere" in (result.error or "")


def test_a_second_process_on_one_session_is_refused(make_task: MakeTask, around: Surroundings) -> None:
    from producer.workers import ground

    task = make_task(auth="gateway", api_token="x")
    with ground.only_one(Path(task.config_dir).parent):
        result = run(task, around)
    assert result.outcome == "failed" and "another process" in (result.error or "")


def test_a_tool_of_another_generation_is_a_note_and_a_surplus_tool_is_fatal(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer.workers import options

    with ScriptedApi(lambda body, number: Turn(text="fine")) as api:
        result = run(at_gateway(make_task, api, allowed_tools=["Read", "TodoWrite"]), around)
        assert result.outcome == "succeeded"
        assert any("TodoWrite" in data["text"] for data in around.of_kind("note"))
    monkeypatch.setattr(options, "base_tools", lambda allowed: ["Read", "Bash"] if len(allowed) == 1 else [])
    with ScriptedApi(once(("Bash", {"command": "touch surplus"}))) as api:
        task = at_gateway(make_task, api, allowed_tools=["Read"])
        monkeypatch.setattr(options, "check_tools", _checks_with(options.check_tools, ["Read"]))
        result = run(task, around)
    assert result.outcome == "permanent" and "Bash" in (result.error or "")
    assert not (Path(task.cwd) / "surplus").exists()


def _checks_with(check: Any, wanted: list[str]) -> Any:
    from producer.workers import options

    def checked(shown: list[str], task: TaskMsg, *, ledger: bool = True) -> Any:
        honest = options.base_tools
        options.base_tools = lambda allowed: wanted
        try:
            return check(shown, task, ledger=ledger)
        finally:
            options.base_tools = honest

    return checked


def test_the_stand_alone_invoker_has_the_interface_of_0_3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from producer.workers.invokers import ClaudeAgentInvoker

    before = dict(os.environ)
    with ScriptedApi(once(("Bash", {"command": "echo hi"}), text="the answer")) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.delenv("PRODUCER_AUTH_MODE", raising=False)
        invoker = ClaudeAgentInvoker(cwd=tmp_path, api_key="sk-test")
        answer = asyncio.run(
            invoker.invoke("code", "do it", system_prompt="s", allowed_tools=["Bash"], model="claude-sonnet-5-5")
        )
        assert set(api.keys) == {"sk-test"}
    assert answer.text == "the answer" and answer.sdk_error is None
    assert [(each["name"], each["input"]["command"]) for each in answer.tool_calls] == [("Bash", "echo hi")]
    assert answer.usage["input_tokens"] == 200 and answer.cost_usd == pytest.approx((200 * 2 + 40 * 10) / 1e6)
    assert {k: v for k, v in os.environ.items() if k != "ANTHROPIC_BASE_URL"} == before


def test_inherit_mode_uses_the_hosts_config_and_reports_its_cost(
    make_task: MakeTask, around: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = tmp_path / "host"
    host.mkdir()
    monkeypatch.setenv("HOME", str(host))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-host")
    script = once(("Bash", {"command": "echo $GIT_TERMINAL_PROMPT > prompt; touch anything"}))
    with ScriptedApi(lambda body, number: script(body, number)) as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        first = make_task(auth="inherit", allowed_tools=["Bash"])
        result = run(first, around)
        again = make_task(
            auth="inherit", allowed_tools=["Bash"], task=first.task, session_id=first.session_id, resume=True, number=2
        )
        more = run(again, around)
        assert set(api.keys) == {"sk-host"}
    assert (result.outcome, result.cost) == ("succeeded", 2 * (100 * 2 + 20 * 10))
    assert (more.outcome, more.cost) == ("succeeded", 100 * 2 + 20 * 10), "a resumed session's old cost is not new"
    assert (tmp_path / "project" / "prompt").read_text() == "0\n"
    assert list((host / ".claude" / "projects").glob(f"*/{first.session_id}.jsonl"))
    assert not Path(first.config_dir).exists()
