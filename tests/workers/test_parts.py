"""The pure parts of a worker: tools, options, listener, transcript, invocation."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from producer.sandbox import Wishes
from producer.wire.codec import body_of, decode, encode
from producer.wire.messages import JsonObject, Progress, Reply, Started
from producer.workers import options, tools, transcript
from producer.workers.invokers import InvocationResult
from producer.workers.isolation import Containment, write_launcher
from producer.workers.listener import Listener, bounded
from tests.workers.conftest import MakeTask, Surroundings

LEDGER = {tools.PREFIX + name for name in tools.NAMES}


def test_file_tools_are_scoped_to_the_working_directory() -> None:
    rules = options.approved(["Read", "Write", "Glob", "Edit(docs/**)", "Bash(git log *)", "Bash", "mcp__x"])
    assert rules[:6] == ["Read(./**)", "Edit(./**)", "Edit(docs/**)", "Bash(git log *)", "Bash", "mcp__x"]
    assert set(rules[6:]) == LEDGER
    assert options.approved(["Write(a (b)/**)"], ledger=False) == ["Edit(a (b)/**)"]
    assert options.base_tools(["Read", "Bash(git log *)", "Bash", "mcp__x__y"]) == ["Read", "Bash"]


def test_a_role_gets_all_ledger_tools_or_those_it_names() -> None:
    assert {tool.name for tool in tools.granted(["Read"])} == set(tools.NAMES)
    assert [tool.name for tool in tools.granted(["mcp__ledger__get_task", "Read"])] == ["get_task"]
    assert len(tools.granted(["mcp__ledger__*"])) == len(tools.granted(["mcp__ledger"])) == len(tools.NAMES)
    assert all(tool.schema["additionalProperties"] is False for tool in tools.TOOLS)
    named = {name for tool in tools.TOOLS for name in tool.schema["properties"]}
    assert named.isdisjoint({"attempt", "role", "id", "created_at", "parent_task_id", "status_by"})


def test_the_tools_of_a_process_must_be_those_of_the_role(make_task: MakeTask) -> None:
    task = make_task(allowed_tools=["Read", "Agent", "TodoWrite"], mcp_servers={"web": {"command": "x"}})
    exact = ["Read", "Task", "TodoWrite", *LEDGER]
    assert options.check_tools(exact, task) == (None, [])
    assert options.check_tools([*exact, "mcp__web__search"], task) == (None, [])
    assert options.check_tools([name for name in exact if name != "TodoWrite"], task) == (None, ["TodoWrite"])
    for wrong, word in (([*exact, "Bash"], "Bash"), ([*exact, "mcp__other__x"], "mcp__other__x"), (exact[1:], "Read"),
                        (exact[:-1], exact[-1])):  # fmt: skip
        problem, _ = options.check_tools(wrong, task)
        assert problem is not None and word in problem


def test_the_environment_is_made_from_an_allow_list(make_task: MakeTask) -> None:
    host = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOME": "/root",
        "ANTHROPIC_API_KEY": "sk",
        "AWS_X": "1",
        "NODE_OPTIONS": "x",
    }
    own = {"COLOUR": "blue", "ANTHROPIC_BASE_URL": "http://evil", "LD_PRELOAD": "/evil.so", "AI_PRODUCER_ATTEMPT": "x"}
    task = make_task(auth="gateway", base_url="http://127.0.0.1:1", api_token="ap-1", env=own)
    env = options.environment(task, "project", host, root=True)
    assert env["PATH"] == "/bin" and env["LC_ALL"] == "C" and env["COLOUR"] == "blue"
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1" and env["ANTHROPIC_API_KEY"] == "ap-1"
    assert env["AI_PRODUCER_ATTEMPT"] == task.attempt and env["HOME"] == task.home
    assert not {"AWS_X", "NODE_OPTIONS", "LD_PRELOAD", "IS_SANDBOX"} & env.keys()
    inherit = options.environment(make_task(auth="inherit"), "project", host, root=True)
    assert inherit["HOME"] == "/root" and inherit["AWS_X"] == "1" and inherit["GIT_TERMINAL_PROMPT"] == "0"
    assert inherit["IS_SANDBOX"] == "1" and not {"CLAUDE_CONFIG_DIR", "CLAUDE_CODE_TMPDIR"} & inherit.keys()
    held = make_task(auth="inherit", sandbox=Wishes("auto").fact())
    assert options.environment(held, "project", host, root=True) == inherit | {
        "CLAUDE_CODE_TMPDIR": str(options.scratch(held)),
        "AI_PRODUCER_ATTEMPT": held.attempt,
    }
    assert options.permission_mode(make_task(auth="inherit")) == "bypassPermissions"


def test_the_launcher_holds_names_and_never_values(tmp_path: Path) -> None:
    path = write_launcher(
        tmp_path / "x" / "run", "/opt/a b/claude", ["B", "A", "BASH_FUNC_x%%", "1X"], Containment.PLAIN
    )
    assert path.read_text() == "#!/bin/sh\nunset A\nunset B\nexec env -u 1X -u BASH_FUNC_x%% '/opt/a b/claude' \"$@\"\n"
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("reply", "text", "is_error"),
    [
        (Reply(call="1", ok=True, result="01ABC"), "01ABC", False),
        (Reply(call="1", ok=True, result={"id": 1}), '{"id": 1}', False),
        (Reply(call="1", ok=True), "null", False),
        (Reply(call="1", ok=False, error="no such role: qq"), "no such role: qq", True),
        (TimeoutError(), "list_tasks", True),
        (RuntimeError("socket gone"), "socket gone", True),
    ],
)
def test_ledger_answers_are_readable_for_the_agent(reply: Reply | Exception, text: str, is_error: bool) -> None:
    async def call(tool: str, arguments: JsonObject) -> Reply:
        if isinstance(reply, Exception):
            raise reply
        return reply

    answer = asyncio.run(tools.answer("get_task", {}, call))
    assert text in answer["content"][0]["text"] and answer["is_error"] is is_error


def test_usage_is_counted_once_a_message(around: Surroundings) -> None:
    listener = Listener("01JZZZZZZZZZZZZZZZZZZZZZZZ", around.emit)
    start = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3}
    listener.stream({"type": "message_start", "message": {"id": "m1", "model": "a", "usage": start}})
    listener.message("m1", "a", {"input_tokens": 10, "output_tokens": 1})
    listener.stream({"type": "message_delta", "usage": {"output_tokens": 40}})
    listener.message("m1", "a", {"input_tokens": 10, "output_tokens": 1})
    listener.stream({"type": "message_stop"})
    hour = {"cache_creation": {"ephemeral_1h_input_tokens": 7, "ephemeral_5m_input_tokens": 2}, "input_tokens": 1}
    listener.message("m2", "b", hour)
    listener.message(None, "a", start)
    listener.message("m3", "<synthetic>", start)
    listener.finish()
    usage = listener.usage()
    assert (usage["a"].input_tokens, usage["a"].output_tokens, usage["a"].cache_read_tokens) == (10, 40, 5)
    assert usage["a"].cache_write_5m_tokens == 3
    assert (usage["b"].cache_write_1h_tokens, usage["b"].cache_write_5m_tokens) == (7, 2)
    assert [data["model"] for data in around.of_kind("usage")] == ["a", "b"]


def test_what_an_agent_says_always_fits_the_wire(around: Surroundings) -> None:
    listener = Listener("01JZZZZZZZZZZZZZZZZZZZZZZZ", around.emit)
    deep: JsonObject = {}
    for _ in range(100):
        deep = {"deeper": deep, "long": "y" * 5000, "many": list(range(1000)), "odd": float("inf")}
    listener.text("\ud800 lone" + "x" * 2_000_000)
    listener.tool_call("1", "Bash\udfff", deep)
    listener.tool_result("1", False, [{"type": "text", "text": "z" * 100_000}, {"type": "image"}])
    listener.retry(429, "rate\ud800", 1.5)
    listener.note("n" * 50_000)
    for message in around.said:
        assert isinstance(message, Progress | Started) and decode(encode(message)) == message
        assert len(body_of(message)) < 40_000
    assert listener.retry_after == 1.5 and listener.productive
    assert bounded({"command": "ls", "n": [1, {"a": None}]}) == {"command": "ls", "n": [1, {"a": None}]}


def test_transcripts_are_judged_by_what_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "-x"
    folder.mkdir(parents=True)
    rows = ['{"type":"user"}', "garbage", "[1]", '{"type":"assistant"}', '{"type":"cost-state","totalCostUSD":0.25}']
    (folder / "good.jsonl").write_text("\n".join([*rows, '{"type":"cut']))
    (folder / "early.jsonl").write_text('{"type":"queue-operation"}\n{"type":"assistant"}\n')
    (folder / "bad.jsonl").write_bytes(b"\x00\x01\x02" * 50)
    (folder / "folder.jsonl").mkdir()
    assert transcript.inspect(tmp_path, "good") == transcript.Transcript(True, True, True, 250_000)
    assert transcript.inspect(tmp_path, "early") == transcript.Transcript(True, True, False, 0)
    assert transcript.inspect(tmp_path, "bad") == transcript.inspect(tmp_path, "folder") == transcript.Transcript(True)
    assert transcript.inspect(tmp_path, "none") == transcript.Transcript()


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_transcript_that_lost_a_line_on_a_full_disk_was_resumed_without_its_task(tmp_path: Path, lost: int) -> None:
    kinds = ("user", "system", "assistant", "user")
    lines = [
        json.dumps({"type": kind, "uuid": f"u{n}", "parentUuid": f"u{n - 1}" if n else None})
        for n, kind in enumerate(kinds)
    ]
    folder = tmp_path / "projects" / "-p"
    folder.mkdir(parents=True)
    (folder / "s.jsonl").write_text("\n".join(lines) + "\n")
    assert transcript.inspect(tmp_path, "s").usable
    lines[lost] = ""
    (folder / "s.jsonl").write_text("\n".join(lines) + "\n")
    assert transcript.inspect(tmp_path, "s").usable == (lost == 3), "only the newest line may be missing"


def test_invocation_results_have_both_names_of_the_cost() -> None:
    assert InvocationResult(text="x", cost_usd=0.5).computed_cost_usd == 0.5
    assert InvocationResult(text="x", computed_cost_usd=0.5).cost_usd == 0.5
    assert json.dumps(InvocationResult(text="x").usage) == "{}"
