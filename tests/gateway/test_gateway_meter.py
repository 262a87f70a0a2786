"""Reading usage out of what passes by, and what is booked when it breaks off."""

from __future__ import annotations

import json

import pytest
from gateway_rig import body
from hypothesis import given
from hypothesis import strategies as st

from producer import pricing
from producer.gateway import clamp
from producer.gateway.clamp import History
from producer.gateway.meter import Meter
from producer.gateway.settle import Left, settle
from producer.wire.messages import Usage

START = {
    "type": "message_start",
    "message": {
        "model": "m",
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 25, "ephemeral_1h_input_tokens": 5},
            "output_tokens": 1,
        },
    },
}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": '"message_stop" é'}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 99}}
STOP = {"type": "message_stop"}
SEARCH = {"server_tool_use": {"web_search_requests": 2}, "input_tokens": 500}


def sse(*events):
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()


@given(st.lists(st.integers(1, 60), max_size=30), st.booleans())
def test_a_stream_is_read_however_it_is_cut_into_pieces(sizes, windows):
    stream = sse(START, TEXT, DELTA, STOP)
    stream = stream.replace(b"\n", b"\r\n") if windows else stream
    meter = Meter()
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        meter.feed(piece)
    assert meter.started
    assert meter.final
    assert meter.stopped
    assert meter.usage() == Usage(
        input_tokens=10, output_tokens=99, cache_read_tokens=20, cache_write_5m_tokens=25, cache_write_1h_tokens=5
    )


def test_text_that_looks_like_an_event_is_none():
    meter = Meter()
    meter.feed(sse(START, TEXT))
    assert not meter.stopped
    assert not meter.final


def test_later_counts_overwrite_and_searches_count():
    meter = Meter()
    meter.feed(sse(START, {**DELTA, "usage": {"output_tokens": 7, **SEARCH}}))
    assert meter.usage().input_tokens == 500
    assert meter.usage().web_searches == 2
    assert meter.usage().output_tokens == 7


@pytest.mark.parametrize(("hour", "field"), [(False, "cache_write_5m_tokens"), (True, "cache_write_1h_tokens")])
def test_cache_writes_of_unsaid_length_count_as_the_request_asked(hour, field):
    meter = Meter(cache_1h=hour)
    meter.whole(
        b'{"type": "message", "usage": {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 9}}'
    )
    assert getattr(meter.usage(), field) == 9


@pytest.mark.parametrize("count", ["10", -1, 1.5, True, [1]])
def test_counts_that_make_no_sense_are_as_good_as_none(count):
    meter = Meter()
    meter.whole(json.dumps({"type": "message", "usage": {"input_tokens": count, "output_tokens": 1}}).encode())
    assert meter.usage() is None


def plan(**changes):
    return clamp.plan(json.dumps(body(**changes)).encode(), pricing.load(), History(), 1024)


def metered(*events):
    meter = Meter()
    meter.feed(sse(*events))
    return meter


def test_the_four_ways_to_end():
    p = plan()
    whole = settle(Left.SENT, p, 1000, metered(START, DELTA, STOP))
    cut = settle(Left.SENT, p, 1000, metered(START, TEXT))
    silent = settle(Left.SENT, p, 1000, Meter())
    assert (whole.exact, whole.usage.output_tokens) == (True, 99)
    assert (cut.exact, cut.usage.output_tokens, cut.usage.cache_read_tokens) == (False, 1000, 20)
    assert (silent.exact, silent.cost) == (False, p.worst(1000))
    assert whole.cost < cut.cost
    for left in (Left.NEVER, Left.FAILED):
        assert settle(left, p, 1000, Meter()).cost == 0


def test_a_speed_without_a_price_in_the_answer_is_the_worst_case_and_not_nothing():
    p = plan()
    fast = {**START, "message": {"usage": {**START["message"]["usage"], "speed": "warp"}}}
    charge = settle(Left.SENT, p, 1000, metered(fast, DELTA, STOP))
    assert (charge.exact, charge.cost) == (False, p.worst(1000))
