"""The scripted model: its form, its faults and its bill."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from gateway_rig import HELLO, body, events, live, until

from producer import pricing
from producer.errors import ConfigError
from producer.gateway import bill, rehearsal, script, serve
from producer.gateway.bill import Bill
from producer.gateway.conversation import Conversation
from producer.gateway.rehearsal import Model
from producer.wire.messages import Usage

DEMO = Path(rehearsal.__file__).parents[1] / "templates/rehearsal/demo.yaml"


@asynccontextmanager
async def model(tmp_path, play):
    it = Model(script.parse(play), Bill(tmp_path / "bill.jsonl", pricing.bundled()))
    async with serve.serving(it.app(), serve.listen()) as url, httpx.AsyncClient(base_url=url, verify=False) as client:
        yield client


def turns(*turns: str) -> str:
    return "roles:\n  code:\n    - turns:\n" + "".join(f"      - {{{turn}}}\n" for turn in turns)


def later(*answers: str):
    """The messages of a conversation in which the model already answered."""
    found = list(body()["messages"])
    for answer in answers:
        found += [{"role": "assistant", "content": answer}, {"role": "user", "content": "go on"}]
    return found


@live
async def test_a_stream_has_the_events_of_the_api_in_order(tmp_path):
    play = turns('text: "hello {title}", tools: [{name: Read, input: {file_path: "{cwd}/a"}}], output_tokens: 33')
    async with model(tmp_path, play) as client:
        system = [{"type": "text", "text": "# Env\n - Primary working directory: /some/where\n"}]
        seen = events(await client.post("/v1/messages", json=body(system=system)))
        order = list(dict.fromkeys(event["type"] for event in seen))
        assert order == ["message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop",
                         "message_delta", "message_stop"]  # fmt: skip
        assert "".join(event["delta"].get("text", "") for event in seen if "delta" in event) == "hello a title"
        inputs = [event["delta"]["partial_json"] for event in seen if event.get("delta", {}).get("partial_json")]
        assert json.loads("".join(inputs)) == {"file_path": "/some/where/a"}
        assert seen[-2]["delta"]["stop_reason"] == "tool_use"
        assert seen[-2]["usage"]["output_tokens"] == 33


@live
async def test_the_turn_is_the_number_of_the_models_own_answers(tmp_path):
    async with model(tmp_path, turns("text: one", "text: two", "text: three")) as client:
        asked = [[], ["one"], ["one", "No response requested."], ["one", "two", "API Error: 500"], ["1", "2", "3"]]
        texts = []
        for answers in asked:
            response = await client.post("/v1/messages", json=body(stream=False, messages=later(*answers)))
            texts.append(response.json()["content"][0]["text"])
        assert texts == ["one", "two", "two", "three", "Done."]


@live
async def test_a_fault_is_played_so_often_and_not_again_by_the_next_process(tmp_path):
    play = turns("text: x, error: {status: 529, type: overloaded_error, times: 2}")
    async with model(tmp_path, play) as client:
        assert (await client.post("/v1/messages", json=body())).status_code == 529
    async with model(tmp_path, play) as client:
        assert [(await client.post("/v1/messages", json=body())).status_code for _ in range(2)] == [529, 200]
    assert [line["cost_micros"] > 0 for line in bill.lines(tmp_path / "bill.jsonl")] == [False, False, True]


@live
async def test_it_bills_what_it_sent(tmp_path):
    play = turns("text: " + "word " * 99 + ", output_tokens: 1000, tokens_per_second: 200")
    async with model(tmp_path, play) as client:
        async with client.stream("POST", "/v1/messages", json=body()) as response:
            async for chunk in response.aiter_bytes():
                if b"content_block_delta" in chunk:
                    break
        await until(lambda: bill.lines(tmp_path / "bill.jsonl"))
        (line,) = bill.lines(tmp_path / "bill.jsonl")
        assert line["status"] == 499
        assert 0 < line["usage"]["output_tokens"] < 1000


@live
async def test_a_stall_and_a_delay_are_waited_for(tmp_path):
    async with model(tmp_path, turns("text: x, delay_seconds: 0.2, stall_seconds: 0.3")) as client:
        begin = time.monotonic()
        await client.post("/v1/messages", json=body())
        assert time.monotonic() - begin >= 0.5
        assert bill.lines(tmp_path / "bill.jsonl")[0]["fault"] == "stall"


@live
async def test_no_prompt_is_billed_beyond_its_bytes_nor_an_answer_beyond_max_tokens(tmp_path):
    play = turns("text: x, input_tokens: 9999999, cache_read_tokens: 500, output_tokens: 99999")
    async with model(tmp_path, play) as client:
        content = json.dumps(body(stream=False, max_tokens=64)).encode()
        usage = (await client.post("/v1/messages", content=content)).json()["usage"]
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len(content)
        assert usage["output_tokens"] == 64


@live
async def test_requests_that_belong_to_no_dispatch_are_answered_and_unknown_roles_are_not(tmp_path):
    async with model(tmp_path, turns("text: x").replace("code", "other")) as client:
        title = body(stream=False, messages=[{"role": "user", "content": "Summarise this"}])
        assert (await client.post("/v1/messages", json=title)).json()["content"][0]["text"] == "OK"
        stranger = await client.post("/v1/messages", json=body())
        assert stranger.status_code == 400
        assert "'code'" in stranger.text
        assert (await client.post("/v1/messages", content=b"{")).status_code == 400


def test_the_bill_and_the_price_table_agree_without_sharing_code(tmp_path):
    own, table = Bill(tmp_path / "bill.jsonl", pricing.bundled()), pricing.load()
    for model_name in [*table.prices, "opus", "claude-haiku-4-5-20251001"]:
        for plain, geo in ((7, "us"), (100_001, "global")):
            usage = Usage(
                input_tokens=plain,
                output_tokens=13,
                cache_read_tokens=11,
                cache_write_5m_tokens=3,
                cache_write_1h_tokens=5,
            )
            raw = {
                "input_tokens": plain, "output_tokens": 13, "cache_read_input_tokens": 11, "inference_geo": geo,
                "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 5},
            }  # fmt: skip
            assert own.price(model_name, raw) == table.lookup(model_name).cost_of(usage, geo=geo)


def test_the_first_matching_title_plays():
    play = script.parse("""
roles:
  code:
    - {title: "Write *", turns: [{text: write}]}
    - {turns: [{text: else}]}
  "*":
    - {title: only this, turns: []}
""")
    assert play.find("code", "Write it").turns[0].text == "write"
    assert play.find("code", "write it").turns[0].text == "else"
    assert play.find("qa", "only this").turns == ()
    assert play.find("qa", "other") is None


def test_slots_are_filled_and_other_braces_stand():
    prompt = 'Role: qa\nTask: T1\nAttempt: A1\nTitle: a {task} title\nPayload: {"n": "x", "deep": [1]}'
    talk = Conversation.of({"messages": [{"role": "user", "content": prompt}]})
    assert talk.fill("{role} {task} {attempt} {payload[n]} {payload[deep]} {payload[no]|default} {payload[no]}.") == (
        "qa T1 A1 x [1] default ."
    )
    assert talk.fill({"a": ["{title}", 1]}) == {"a": ["a {task} title", 1]}
    assert talk.fill('f"{x}" {} {{role}}') == 'f"{x}" {} {qa}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "play: empty"),
        ("[]", "play:1: must be a mapping"),
        ("defaults: {}", "play:1: roles is missing"),
        ("roles:\n  a:\n    - turns:\n      - tokens: 1", "play:4: roles.a[0].turns[0].tokens: unknown key"),
        ("roles: {a: [{turns: [{output_tokens: -1}]}]}", "roles.a[0].turns[0].output_tokens: must be a whole number"),
        ("roles: {a: [{turns: [{delay_seconds: .nan}]}]}", "delay_seconds: must be a number"),
        ("roles: {a: [{turns: [{text: 5}]}]}", "text: must be text"),
        ("roles: {a: [{turns: [{tools: [{input: {}}]}]}]}", "tools[0]: name is missing"),
        ("roles: {a: [{turns: [{error: {status: 200}}]}]}", "error.status: must be a whole number from 400 to 599"),
        ("roles: {a: 1, a: 2}", "roles.a: given twice"),
        ("roles: &r {a: *r}", "roles.a: refers to itself"),
        ("roles:\n  a: [", "play:2: not YAML"),
        ("roles: {a: [{title: x}]}", "turns is missing"),
    ],
)
def test_a_bad_script_is_refused_with_file_line_and_key(text, said):
    with pytest.raises(ConfigError) as error:
        script.parse(text, "play")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_it_runs_alone_and_prints_its_url(tmp_path):
    (tmp_path / "play.yaml").write_text(HELLO)
    command = [sys.executable, "-m", "producer.gateway.rehearsal", str(tmp_path / "play.yaml")]
    child = subprocess.Popen([*command, "--bill", str(tmp_path / "bill.jsonl")], stdout=subprocess.PIPE, text=True,
                             cwd=Path(__file__).parents[2])  # fmt: skip
    try:
        url = child.stdout.readline().strip()
        assert httpx.post(f"{url}/v1/messages", json=body(stream=False)).json()["content"][0]["text"] == "hello"
        assert bill.total(tmp_path / "bill.jsonl") > 0
    finally:
        child.kill()
        child.communicate()


def test_the_demos_script_plays_design_code_and_qa():
    play = script.load(DEMO)
    assert list(play.roles) == ["design", "code", "qa"]
    names = {tool.name for scenes in play.roles.values() for s in scenes for turn in s.turns for tool in turn.tools}
    assert names >= {"Read", "Write", "Bash", "mcp__ledger__insert_task", "mcp__ledger__record_asset"}
    assert [turn.error.status for s in play.roles["code"] for turn in s.turns if turn.error] == [500]


@pytest.mark.e2e
@live
async def test_the_demos_files_are_real_and_its_tests_pass(tmp_path):
    from gateway_rig import rig
    from test_gateway_cli import run

    async with rig(tmp_path, DEMO.read_text()) as r:
        for role, title in (("design", "Design"), ("code", "Write"), ("qa", "Check")):
            attempt = r.attempt()
            prompts = [
                f'Role: {role}\nTask: {attempt}\nTitle: {title} {name}\nPayload: {{"name": "{name}"}}'
                for name in ("wordcount", "celsius", "primes")
            ]
            runs = [run(r, tmp_path, "", attempt, prompt=prompt) for prompt in prompts]
            ran = await asyncio.gather(*runs)
            assert [one.error for one in ran] == [None] * 3
    project = tmp_path / "project"
    made = {str(path.relative_to(project)) for path in project.rglob("*") if path.suffix in (".py", ".md")}
    names = ("wordcount", "celsius", "primes")
    assert made == {f"{n}.py" for n in names} | {f"test_{n}.py" for n in names} | {f"docs/{n}.md" for n in names} | {
        f"docs/qa-{n}.md" for n in names
    }
    checked = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-m", "unittest", "-q"], cwd=project, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "Ran 6 tests" in checked.stderr
