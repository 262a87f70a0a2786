"""The bound of a request, and lowering it."""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256

import pytest
from gateway_rig import body
from hypothesis import given
from hypothesis import strategies as st

from producer import pricing
from producer.errors import UnknownModel
from producer.gateway import clamp
from producer.gateway.clamp import CONTEXT_TOKENS, History, Invalid
from producer.gateway.prompt import IMAGE_TOKENS, parts_of, tokens_beyond, tokens_of

PRICES = pricing.load()


def plan(history=None, least=1024, **changes):
    return clamp.plan(json.dumps(body(**changes)).encode(), PRICES, history or History(), least)


def user(*content):
    return {"role": "user", "content": list(content)}


def image(size, **more):
    return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * size}, **more}


def test_no_prompt_has_more_tokens_than_bytes():
    text = "字" * 5000
    assert plan(messages=[user({"type": "text", "text": text})]).bound >= len(text.encode())


def test_what_has_no_form_in_utf_8_is_counted_in_ascii_and_stays_as_it_is():
    odd = {"type": "text", "text": "\ud83d" * 5000, "number": 2**256}
    p = plan(messages=[user(odd)])
    assert p.bound >= 6 * 5000
    lowered = p.lowered(100)
    assert json.loads(lowered)["messages"] == [user(odd)] and lowered.isascii()
    assert json.loads(plan(messages=[user({"type": "text", "text": "字"})]).lowered(100))["max_tokens"] == 100


@pytest.mark.parametrize("where", ["messages", "metadata", "tools"])
@pytest.mark.parametrize("depth", [300, 900, *range(970, 1000), 5000])
@pytest.mark.parametrize("odd", ["", "\ud800"])
def test_depth_is_refused_before_it_ends_anything(where, depth, odd):
    """Near Python's own limit it could be read, and not be written: an error after the money was granted."""
    deep = ("[" * depth + json.dumps(odd) + "]" * depth).encode()
    raw = json.dumps(body(**{where: ["DEEP"]})).encode().replace(b'"DEEP"', deep)
    with pytest.raises(Invalid):
        clamp.plan(raw, PRICES, History(), 1024)


@pytest.mark.parametrize("odd", ["", "\ud800"])
def test_what_is_as_deep_as_may_be_can_be_lowered(odd):
    deep = b"[" * 240 + json.dumps(odd).encode() + b"]" * 240
    raw = json.dumps(body(metadata="DEEP")).encode().replace(b'"DEEP"', deep)
    assert b"[" * 240 in clamp.plan(raw, PRICES, History(), 1024).lowered(100)


@pytest.mark.parametrize("odd", ["", "\ud800", 10**30])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t:")])
def test_a_dear_cache_mark_is_seen_however_it_is_written(odd, separators):
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    dear = body(messages=[user({"type": "text", "text": "x" * 10_000, **mark})], metadata={"odd": odd})
    raw = json.dumps(dear, separators=separators).encode()
    hidden = raw.replace(b'"1h"', b'"\\u0031\\u0068"')
    plain, odd, cheap = (clamp.plan(text, PRICES, History(), 1024) for text in (raw, hidden, raw.replace(b"1h", b"5m")))
    assert json.loads(hidden) == json.loads(raw) and hidden != raw
    assert odd.worst(1) == plain.worst(1) > cheap.worst(1)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b", "1h"]) | st.text(), inner),
    ),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_the_short_way_to_read_a_body_gives_what_the_strict_one_does(value, separators, ascii_only):
    raw = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    short = clamp._canonical(raw)
    if short is not None:
        assert short == clamp._strict(raw) and repr(short[0]) == repr(clamp._strict(raw)[0])


@pytest.mark.parametrize("raw", [
    b'{"a":1,"a":1}', b'{"a":1,"b":{"c":2,"c":2}}', b"1e999", b"-1e999", b"NaN", b"Infinity", b"[1,]", b'"\\ud800"',
    b'{"a":1,"\\u0061":1}', b"1" * 5000, b"18446744073709551616", b"-0", b"[" * 2000 + b"]" * 2000, b'"\xff"', b"",
])  # fmt: skip
def test_what_must_be_looked_at_closely_does_not_take_the_short_way(raw):
    assert clamp._canonical(raw) is None


def test_what_the_cli_writes_takes_the_short_way():
    raw = json.dumps(body(), separators=(",", ":"), ensure_ascii=False).encode()
    assert clamp._canonical(raw) == (body(), raw)


def test_an_image_counts_by_its_kind_and_not_by_its_bytes():
    small, large = (plan(messages=[user(image(size))]).bound for size in (10, 400_000))
    assert abs(small - large) < 100
    assert small > IMAGE_TOKENS
    nested = user({"type": "tool_result", "tool_use_id": "t", "content": [image(400_000), image(400_000)]})
    assert 2 * IMAGE_TOKENS < plan(messages=[nested]).bound < 3 * IMAGE_TOKENS


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "id": "t", "name": "n", "input": {"x": image(50_000)}},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"cache_control": {"type": "A" * 50_000}}},
        {"type": "text", "text": "x", "cache_control": {"type": "A" * 50_000}},
    ],
)
def test_text_that_only_looks_like_an_image_or_a_mark_is_counted(block):
    assert plan(messages=[user(block)]).bound > 50_000


def test_a_pdf_has_no_bound_until_it_is_counted():
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    p = plan(messages=[user(document)])
    assert p.unbounded
    assert p.bound >= CONTEXT_TOKENS
    assert p.counted(20_000).bound < 25_000
    text = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A" * 9000}}
    assert not plan(messages=[user(text)]).unbounded
    assert plan(messages=[user(text)]).bound > 9000


def test_a_request_that_repeats_an_earlier_one_is_bounded_by_what_that_one_was():
    history = History()
    first = [user({"type": "text", "text": "x" * 80_000, "cache_control": {"type": "ephemeral"}})]
    before = plan(history, messages=first)
    history.learn(before, 20_000)
    first[0]["content"][0].pop("cache_control")  # marks move on to the newest message
    more = [*first, {"role": "assistant", "content": "y" * 100}, user({"type": "text", "text": "z" * 3000})]
    after = plan(history, messages=more)
    assert 23_000 < after.bound < 26_000
    assert plan(history, messages=more, model="claude-opus-5-5").bound > 80_000  # another tokenizer


def test_a_pdf_that_was_counted_once_is_bounded_from_then_on():
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    history = History()
    first = plan(history, messages=[user(document)])
    history.learn(first, 7_000)
    again = plan(history, messages=[user(document), user({"type": "text", "text": "and?"})])
    assert not again.unbounded
    assert 7_000 < again.bound < 10_000
    other = user({**document, "source": {**document["source"], "data": "BBBB"}})
    assert plan(history, messages=[other]).unbounded


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())), st.lists(st.sampled_from("abcd")))
def test_what_is_new_is_counted_as_often_as_it_is_new(new, known):
    def parts(names):
        sources = ({"type": "url", "url": "x"} if unbounded else {"type": "text"} for _, unbounded in names)
        blocks = ({"type": "document", "source": source} for source in sources)
        return parts_of({"messages": [user(name, block) for (name, _), block in zip(names, blocks, strict=True)]})

    before = [(name, False) for name in known]
    left = list((Counter(new) - Counter(before)).elements())
    unbounded = any(unbounded for _, unbounded in left)
    assert tokens_beyond(parts(new), parts(before)) == (None if unbounded else tokens_of(parts(left)))


def test_what_looks_like_an_image_that_was_left_out_does_not_hide_one():
    real = image(10)
    digest = sha256(json.dumps(real["source"], separators=(",", ":")).encode()).hexdigest()
    fake, real = (parts_of({"messages": [user(block)]}) for block in ({**real, "source": digest}, real))
    assert tokens_of(real) == tokens_of(fake) + IMAGE_TOKENS
    assert tokens_beyond(real, fake) == tokens_of(real)


def test_a_new_image_is_not_hidden_by_an_earlier_request():
    history = History()
    history.learn(plan(history), 50)
    with_image = plan(history, messages=[*body()["messages"], user(image(10))])
    assert with_image.bound > IMAGE_TOKENS


def test_a_bound_that_failed_is_not_built_upon():
    history = History()
    first = plan(history)
    history.learn(first, first.bound + 1)
    assert plan(history).bound == first.bound


@given(st.integers(0, 3_000_000), st.integers(1, 200_000), st.sampled_from(["opus", "haiku", "claude-sonnet-5-5"]))
def test_what_fits_a_grant_never_costs_more_than_it(granted, wanted, model):
    p = plan(model=model, max_tokens=wanted)
    tokens = p.fitting(granted)
    assert tokens <= wanted
    if tokens >= 0:
        assert p.worst(tokens) <= granted
    if granted >= p.floor:
        assert tokens >= p.floor_tokens


def test_lowering_lowers_the_thinking_budget_with_it_and_nothing_else():
    p = plan(max_tokens=64_000, thinking={"type": "enabled", "budget_tokens": 50_000})
    lowered = json.loads(p.lowered(6000))
    assert lowered["max_tokens"] == 6000
    assert lowered["thinking"] == {"type": "enabled", "budget_tokens": 3000}
    assert {**lowered, "max_tokens": 0, "thinking": 0} == {**p.body, "max_tokens": 0, "thinking": 0}
    assert p.lowered(64_000) is p.raw
    assert p.floor_tokens == 2048  # 1,024 of thinking, and as much to say


def test_the_floor_is_never_above_what_was_asked():
    assert plan(max_tokens=100).floor_tokens == 100
    assert plan(max_tokens=100_000, least=5000).floor_tokens == 5000


def test_searches_are_counted_and_bounded():
    tool = {"type": "web_search_20250305", "name": "web_search"}
    p = plan(tools=[tool])
    assert p.searches == 8
    assert json.loads(p.raw)["tools"][0]["max_uses"] == 8
    few = plan(tools=[{**tool, "max_uses": 1}])
    assert few.searches == 1
    assert plan().bound < few.bound < p.bound


@pytest.mark.parametrize("change", [{"tools": [{"type": "code_execution_20250825", "name": "c"}]}, {"mcp_servers": [1]},
                                    {"speed": "fast"}, {"model": "gpt-9"}])  # fmt: skip
def test_what_has_no_price_is_refused(change):
    with pytest.raises(UnknownModel):
        plan(**change)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"[]", b"{}", b'{"model": 1}', b'{"model": "opus", "messages": [], "max_tokens": 0}', b"\xff",
        b'{"model": "opus", "messages": [], "max_tokens": true}',
        b'{"model": "opus", "messages": [], "max_tokens": 1e9}',
        b'{"model": "opus", "messages": [], "max_tokens": 1, "max_tokens": 128000}',
        b'{"model": "opus", "messages": [], "max_tokens": NaN}', b'{"model": "opus", "messages": [1e999], "max_tokens": 1}',
        b'{"model": "opus", "messages": [{"a": 1, "a": 2}], "max_tokens": 1}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_cannot_be_priced_is_not_sent(raw):
    with pytest.raises(Invalid):
        clamp.plan(raw, PRICES, History(), 1024)
