"""The proxy's path, with real HTTP on both sides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from gateway_rig import SECRET, body, events, live, rig, until

from producer import ids, killswitch, pricing
from producer.gateway import asgi, bill, serve
from producer.gateway.upstream import Key
from producer.wire import tokens
from producer.wire.messages import Open

SLOW = """
roles:
  code:
    - turns:
        - {text: "a long answer, told slowly, word by word, for a long time", output_tokens: 600, tokens_per_second: 20}
"""


@asynccontextmanager
async def raw_upstream(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """An upstream that behaves as badly as a test wants."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@live
async def test_the_meter_equals_the_models_own_bill_streaming_and_whole(tmp_path):
    play = """
roles:
  code:
    - turns:
        - {text: hello, output_tokens: 333, cache_read_tokens: 11, cache_write_5m_tokens: 7, cache_write_1h_tokens: 5}
"""
    async with rig(tmp_path, play) as r:
        attempt = r.attempt()
        streamed = await r.ask(attempt)
        whole = await r.ask(attempt, stream=False)
        assert events(streamed)[-1]["type"] == "message_stop"
        assert whole.json()["usage"]["output_tokens"] == 333
        assert [record.exact for record in r.records()] == [True, True]
        assert [record.cost for record in r.records()] == [line["cost_micros"] for line in bill.lines(r.bill)]
        assert r.billed() > 333 * 10 * 2
        usage = r.records()[0].usage
        assert (usage.cache_read_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) == (11, 7, 5)


@live
async def test_the_line_is_in_the_journal_before_the_last_byte(tmp_path):
    async with rig(tmp_path) as r:
        attempt = r.attempt()
        response = await r.begin(attempt)
        async for chunk in response.aiter_bytes():
            if b"message_stop" in chunk:
                break
        found = r.journal(attempt)
        assert len(found.opened) == len(found.metered) == 1
        (opened,) = found.opened.values()
        assert opened.worst >= next(iter(found.metered.values())).cost > 0
        await response.aclose()


@live
async def test_max_tokens_is_lowered_to_what_the_cap_affords(tmp_path):
    async with rig(tmp_path, limit=60_000) as r:  # $0.06 at $10 a million output tokens, less the prompt
        response = await r.ask(r.attempt(), max_tokens=128_000)
        assert response.status_code == 200
        opened = next(iter(r.journal(r.records()[0].attempt).opened.values()))
        assert opened.worst <= 60_000
        assert r.supervisor.asked[0].need > 1_000_000


@live
async def test_a_request_that_the_cap_does_not_afford_is_refused_before_it_leaves(tmp_path):
    async with rig(tmp_path, limit=5_000) as r:
        response = await r.ask(r.attempt())
        assert response.status_code == 402
        assert response.json()["error"]["message"].startswith("ai-producer:budget: project")
        assert bill.lines(r.bill) == []
        assert not r.records()


@live
async def test_an_unknown_model_is_refused_by_name_before_any_call(tmp_path):
    async with rig(tmp_path) as r:
        response = await r.ask(r.attempt(), model="claude-sonnet-99")
        assert response.status_code == 400
        assert response.json()["error"]["message"].startswith("ai-producer:unknown-model:")
        assert "claude-sonnet-99" in response.text
        assert bill.lines(r.bill) == []


@pytest.mark.parametrize("content", ["", "1\n", "now\n", "anything"])
@live
async def test_an_armed_switch_lets_nothing_leave(tmp_path, content):
    async with rig(tmp_path) as r:
        r.gateway.kill_switch.write_text(content)
        response = await r.ask(r.attempt())
        assert response.status_code == 402
        assert "ai-producer:kill-switch:" in response.text
        assert bill.lines(r.bill) == []
        r.gateway.kill_switch.write_text("0\n")
        assert (await r.ask(r.attempt())).status_code == 200


@live
async def test_a_switch_that_says_now_cuts_open_streams_and_books_at_least_what_was_billed(tmp_path):
    async with rig(tmp_path, SLOW) as r:
        response = await r.begin(r.attempt())
        pieces = response.aiter_bytes()
        await anext(pieces)
        killswitch.arm(r.gateway.kill_switch, "a drill", now=True)
        with pytest.raises(httpx.HTTPError):
            async for _ in pieces:
                pass
        await until(lambda: r.records() and r.billed())
        (record,) = r.records()
        assert not record.exact
        assert record.cost >= r.billed() > 0
        assert record.usage.output_tokens == 4096  # all that it was allowed


@live
async def test_a_switch_that_only_arms_lets_open_streams_end(tmp_path):
    async with rig(tmp_path, SLOW.replace("tokens_per_second: 20", "tokens_per_second: 600")) as r:
        attempt = r.attempt()
        asked = asyncio.create_task(r.ask(attempt))
        await until(lambda: any(not flow.waiting for flow in r.gateway.attempts.flows))
        killswitch.arm(r.gateway.kill_switch, "enough")
        response = await asked
        assert events(response)[-1]["type"] == "message_stop"
        assert r.records()[0].exact


@live
async def test_a_client_that_leaves_is_booked_once_and_at_least_with_the_bill(tmp_path):
    async with rig(tmp_path, SLOW) as r:
        response = await r.begin(r.attempt())
        await anext(response.aiter_bytes())
        await response.aclose()
        await until(lambda: r.records() and r.billed())
        (record,) = r.records()
        assert not record.exact
        assert record.cost >= r.billed() > 0
        assert not r.supervisor.open


@live
async def test_a_stream_that_the_api_cuts_is_booked_as_the_most_and_the_client_sees_the_cut(tmp_path):
    play = 'roles: {code: [{turns: [{text: "' + "word " * 60 + '", output_tokens: 100, cut: true}]}]}'
    async with rig(tmp_path, play) as r:
        attempt = r.attempt()
        with pytest.raises(httpx.HTTPError):
            await r.ask(attempt)
        await until(r.records)
        assert not r.records()[0].exact
        assert r.records()[0].cost >= r.billed() > 0
        assert (await r.ask(attempt)).status_code == 200  # it is cut once
        assert r.records()[1].exact


@live
async def test_closing_an_attempt_cuts_its_streams_and_is_reported_after_its_bill(tmp_path):
    async with rig(tmp_path, SLOW) as r:
        attempt = r.attempt()
        response = await r.begin(attempt)
        assert not r.gateway.attempts.close(attempt)
        with pytest.raises(httpx.HTTPError):
            await response.aread()
        await until(lambda: r.supervisor.ended)
        assert len(r.records()) == 1
        assert r.supervisor.ended == [attempt]
        assert (await r.ask(attempt)).status_code == 403


@live
async def test_errors_of_the_api_pass_through_with_their_headers_and_cost_nothing(tmp_path):
    play = """
roles:
  code:
    - turns:
        - {text: hello, error: {status: 429, type: rate_limit_error, message: slow down, retry_after: 7}}
"""
    async with rig(tmp_path, play) as r:
        attempt = r.attempt()
        response = await r.ask(attempt)
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")
        error = response.json()["error"]
        assert error["type"] == "rate_limit_error" and error["message"].startswith("slow down (ai-producer:retry-at:")
        assert [(record.status, record.cost) for record in r.records()] == [(429, 0)]
        assert (await r.ask(attempt)).status_code == 200


@pytest.mark.parametrize("upstream", ["down", "nonsense"])
@live
async def test_an_upstream_that_is_down_or_none_is_a_502_that_costs_nothing(tmp_path, upstream):
    listener = serve.listen()
    dead = serve.url_of(listener) if upstream == "down" else upstream
    listener.close()
    async with rig(tmp_path, upstream=dead) as r:
        response = await r.ask(r.attempt())
        assert response.status_code == 502
        assert [(record.status, record.cost) for record in r.records()] == [(502, 0)]


@live
async def test_an_upstream_that_takes_the_request_and_dies_costs_the_worst_case(tmp_path):
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with raw_upstream(die) as url, rig(tmp_path, upstream=url) as r:
        response = await r.ask(r.attempt())
        assert response.status_code == 502
        (record,) = r.records()
        assert not record.exact
        assert record.cost == next(iter(r.journal(record.attempt).opened.values())).worst > 0


async def waiting(r):
    """A request that waits for money, of a supervisor that is away."""
    r.supervisor.away = True
    asked = asyncio.create_task(r.ask(r.attempt()))
    await until(lambda: r.supervisor.asked)
    return asked


@live
async def test_who_leaves_while_waiting_for_money_gives_back_what_may_still_be_granted(tmp_path):
    async with rig(tmp_path) as r:
        asked = await waiting(r)
        asked.cancel()
        await until(r.records)
        assert (r.records()[0].cost, r.records()[0].status) == (0, 499)
        assert bill.lines(r.bill) == []


@live
async def test_a_request_that_is_cancelled_by_others_than_us_is_booked_and_not_taken_for_cut(tmp_path):
    async with rig(tmp_path) as r:
        asked = await waiting(r)
        (flow,) = r.gateway.attempts.flows
        flow.task.cancel()
        assert (await asked).status_code == 500
        assert [record.cost for record in r.records()] == [0] and bill.lines(r.bill) == []


@live
async def test_a_refusal_that_is_being_said_is_not_cut(tmp_path, monkeypatch):
    async with rig(tmp_path) as r:
        r.supervisor.limit = 0
        said = asgi.send_error

        async def slowly(*words):
            (flow,) = r.gateway.attempts.flows
            flow.cut("closed")
            await asyncio.sleep(0)
            await said(*words)

        monkeypatch.setattr(asgi, "send_error", slowly)
        response = await r.ask(r.attempt())
        assert response.status_code == 402 and "ai-producer:budget" in response.text


@live
async def test_the_last_piece_does_not_wait_for_the_supervisor_to_be_told(tmp_path, monkeypatch):
    order = []
    async with rig(tmp_path) as r:
        report, passed = r.supervisor.report, asgi.piece

        async def piece(send, content, **last):
            await passed(send, content, **last)
            order.extend(["stopped"] if b"message_stop" in content else [])

        monkeypatch.setattr(r.supervisor, "report", lambda record: (order.append("told"), report(record)))
        monkeypatch.setattr(asgi, "piece", piece)
        assert (await r.ask(r.attempt())).status_code == 200
        assert order == ["stopped", "stopped", "told"]  # the scripted model's own piece, then ours


@live
async def test_a_reserve_waits_for_a_supervisor_that_is_away(tmp_path):
    async with rig(tmp_path) as r:
        asked = await waiting(r)
        r.supervisor.away = False
        r.supervisor.review()
        assert (await asked).status_code == 200


@live
async def test_who_waits_too_long_for_a_supervisor_is_told_to_come_back_and_pays_nothing(tmp_path):
    async with rig(tmp_path, grant_seconds=0.2) as r:
        attempt = r.attempt()
        r.supervisor.away = True
        response = await r.ask(attempt)
        assert response.status_code == 429 and response.json()["error"]["type"] == "rate_limit_error"
        assert "ai-producer:retry-at:" in response.text and int(response.headers["retry-after"]) >= 3600
        assert bill.lines(r.bill) == [] and [record.cost for record in r.records()] == [0]
        r.supervisor.away = False
        assert (await r.ask(attempt)).status_code == 200


@live
async def test_an_armed_switch_ends_who_waits_for_money(tmp_path):
    async with rig(tmp_path) as r:
        asked = await waiting(r)
        killswitch.arm(r.gateway.kill_switch, "stop")
        response = await asked
        assert response.status_code == 402
        assert "ai-producer:kill-switch: armed: stop" in response.text
        assert bill.lines(r.bill) == []


@live
async def test_tokens_of_no_open_attempt_are_refused_with_a_status_that_is_not_retried(tmp_path):
    async with rig(tmp_path) as r:
        stranger = ids.new_id()
        for token in (tokens.mint(SECRET, stranger), tokens.mint(b"x" * 32, r.attempt()), "sk-ant-stolen", ""):
            response = await r.client.post(f"{r.url}/v1/messages", headers={"x-api-key": token}, json=body())
            assert response.status_code == 403
        bearer = {"authorization": f"Bearer {tokens.mint(SECRET, r.attempt())}"}
        assert (await r.client.post(f"{r.url}/v1/messages", headers=bearer, json=body())).status_code == 200


@live
async def test_an_attempt_that_is_opened_a_moment_later_is_served(tmp_path):
    async with rig(tmp_path) as r:
        r.gateway.open_seconds = 20
        attempt = ids.new_id()
        asked = asyncio.create_task(r.ask(attempt))
        await asyncio.sleep(0.05)
        r.gateway.attempts.open(Open(attempt=attempt, role="code", task=ids.new_id()))
        assert (await asked).status_code == 200


@live
async def test_a_token_waits_for_its_attempt_as_long_as_there_is_no_supervisor(tmp_path):
    async with rig(tmp_path) as r:
        r.gateway.open_seconds = 0.05
        r.supervisor.away = True
        attempts = [ids.new_id(), ids.new_id()]
        asked = [asyncio.create_task(r.ask(attempt)) for attempt in attempts]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in asked)
        r.gateway.attempts.close(attempts[1])
        assert (await asked[1]).status_code == 403
        r.gateway.attempts.open(Open(attempt=attempts[0], role="code", task=ids.new_id()))
        await until(lambda: r.supervisor.asked)
        r.supervisor.away = False
        r.supervisor.review()
        assert (await asked[0]).status_code == 200


@live
async def test_the_real_key_goes_upstream_and_the_clients_does_not(tmp_path):
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        content = json.dumps({"type": "error", "error": {"type": "x", "message": "y"}}).encode()
        writer.write(b"HTTP/1.1 400 Bad\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    keys = ((Key(api_key="sk-real"), b"x-api-key: sk-real"), (Key(oauth="oat"), b"authorization: Bearer oat"))
    async with raw_upstream(answer) as url:
        for key, line in keys:
            async with rig(tmp_path, upstream=url, key=key) as r:
                headers = {**r.headers(r.attempt()), "anthropic-beta": "a,b"}
                await r.client.post(f"{r.url}/v1/messages", headers=headers, json=body())
                head = seen.pop()
                assert line in head
                assert b"ap-" not in head
                assert (b"anthropic-beta: a,b,oauth-2025-04-20" in head) == bool(key.oauth)


def test_the_key_is_taken_out_of_the_environment_and_does_not_print():
    env = {"ANTHROPIC_API_KEY": "sk-one", "CLAUDE_CODE_OAUTH_TOKEN": "oat-two", "HOME": "/"}
    key = Key.take(env)
    assert (key.api_key, key.oauth, env) == ("sk-one", None, {"HOME": "/"})
    assert "sk-one" not in repr(key)


@live
async def test_free_routes_pass_and_the_rest_does_not(tmp_path):
    async with rig(tmp_path) as r:
        attempt = r.attempt()
        counted = await r.client.post(f"{r.url}/v1/messages/count_tokens", headers=r.headers(attempt), json=body())
        assert counted.json()["input_tokens"] > 10
        assert (await r.client.head(f"{r.url}/")).status_code == 200
        assert (await r.client.get(f"{r.url}/health")).json() == {"gateway": True}
        for path in ("/v1/files", "/v1/messages/batches", "/v1/complete"):
            assert (await r.client.post(r.url + path, headers=r.headers(attempt), json={})).status_code == 404
        assert not r.records()


@live
async def test_eight_attempts_under_one_ceiling_never_pass_it(tmp_path):
    play = """
roles:
  code:
    - turns:
        - {text: expensive, output_tokens: 6000, tokens_per_second: 60000}
"""
    ceiling = 400_000  # $0.40; an answer costs $0.06 if it is not lowered, and asks for $1.28
    async with rig(tmp_path, play, limit=ceiling) as r:
        refused = []

        async def spend() -> None:
            attempt = r.attempt()
            for _ in range(6):
                response = await r.ask(attempt, max_tokens=128_000)
                if response.status_code == 402:
                    refused.append(response.text)
                    return

        await asyncio.gather(*(spend() for _ in range(8)))
        assert refused
        assert r.billed() == r.supervisor.spent <= ceiling
        assert r.supervisor.spent > ceiling * 0.7  # what was there was put to use
        assert not r.supervisor.open


@live
async def test_a_pdf_is_counted_by_the_api_before_it_is_priced(tmp_path):
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 4000}}
    messages = [*body()["messages"], {"role": "user", "content": [pdf]}]
    async with rig(tmp_path) as r:
        assert (await r.ask(r.attempt(), messages=messages)).status_code == 200
        assert r.supervisor.asked[0].need < pricing.load().lookup("sonnet").worst_case(10_000, 4096)


@live
async def test_what_cannot_be_written_down_does_not_leave(tmp_path):
    async with rig(tmp_path) as r:
        attempt = r.attempt()
        (tmp_path / "journal" / f"{attempt}.jsonl").mkdir()
        response = await r.ask(attempt)
        assert response.status_code == 500
        assert bill.lines(r.bill) == []
        assert not r.supervisor.open
