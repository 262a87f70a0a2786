"""Frames to messages and back: what goes in comes out, and what is not ours is refused saying what is wrong."""

from __future__ import annotations

import json
import math
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import WireError
from producer.wire.codec import BATCH, MAX_BODY, MAX_DEPTH, apart, decode, encode, nesting, strict_json
from producer.wire.messages import (
    TYPES,
    Ack,
    Call,
    Event,
    Message,
    Ping,
    Progress,
    Ready,
    Reply,
    Request,
    Result,
    Usage,
)

ULID = "01M82JHDFZBPSJQCPB2AHS6PDN"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=4)
ULIDS = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26)


def value(annotation: Any) -> st.SearchStrategy[Any]:
    """Values for a field of a message, by its annotation."""
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if "pattern" in str(getattr(annotation, "__metadata__", "")):
        return ULIDS
    if hasattr(annotation, "__metadata__"):
        return value(annotation.__origin__)
    if annotation is Any:
        return JSON
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(1, 2**31 - 1)  # within the bounds of all of them, a process id too
    if annotation is float:
        return st.floats(0, 1e11)
    if annotation is str:
        return TEXT
    if annotation is Usage:
        return st.builds(Usage, input_tokens=st.integers(0, 10**9), output_tokens=st.integers(0, 10**9))
    if str(origin) == "typing.Literal":
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(value(arguments[0]), max_size=3)
    if origin is dict:
        return OBJECT if arguments[1] is Any else st.dictionaries(TEXT, value(arguments[1]), max_size=3)
    return st.one_of(*(st.none() if part is type(None) else value(part) for part in arguments))


@pytest.mark.parametrize("cls", TYPES.values(), ids=TYPES)
def test_every_message_comes_out_as_it_went_in(cls: type[Message]) -> None:
    fields = {name: value(annotation) for name, annotation in get_type_hints(cls, include_extras=True).items()}

    @settings(max_examples=15, deadline=None)
    @given(st.fixed_dictionaries(fields))
    def round_trip(given_fields: dict[str, Any]) -> None:
        message = cls(**given_fields)
        frames = encode(message)
        assert [len(frames), frames[0], frames[1]] == [3, b"PRD1", cls.__name__.encode()]
        assert decode(frames) == message

    round_trip()


def test_all_types_have_their_own_name() -> None:
    ours = {cls.__name__ for cls in Message.__subclasses__() if cls.__module__ == Message.__module__}
    assert ours - {"Usage"} == set(TYPES)


# ---- JSON


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "nul", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", '{"a": NaN}', '{"a": [1e400]}',
        '{"a": 1, "a": 1}', '{"x": {"a": 1, "b": 2, "a": 3}}', '"\\ud800"', '{"a": "x\\udc00"}', '{"\\ud800": 1}',
        "[" * 33 + "]" * 33, '{"a":' * 33 + "1" + "}" * 33, "[" * 100_000, '{"a": 1} x', "{'a': 1}", "[1,]",
        "1" * 5000, "\ufeff{}", '"\n"',
    ],
)  # fmt: skip
def test_json_that_is_not_strict_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        strict_json(text.encode())


@pytest.mark.parametrize("body", [b"\xff", b'"\xed\xa0\x80"', b'{"a": "\xc3"}', b" " * (MAX_BODY + 1)])
def test_bytes_that_are_no_text_or_too_many_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        strict_json(body)


@pytest.mark.parametrize(
    "text",
    ["{}", "[" * 32 + "]" * 32, '"\\ud83d\\ude00"', "1e308", "[{}]" + " " * 1000, '{"a": {"a": 1}}', "[[],[],[]]"],
)
def test_json_that_only_looks_odd_is_taken(text: str) -> None:
    assert strict_json(text.encode()) == json.loads(text)


@settings(max_examples=80, deadline=None)
@given(JSON)
def test_json_of_others_reads_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps(value)
    if nesting(value) <= MAX_DEPTH:
        assert strict_json(text.encode()) == json.loads(text)


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for name in (b"Ready", b"Reply", body):
        try:
            decode([b"PRD1", name, body])
        except WireError:
            continue


def test_nesting_counts_levels() -> None:
    assert [nesting(v) for v in (1, [], {}, [[]], {"a": [{"b": []}]})] == [0, 1, 1, 2, 4]
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    assert nesting(deep) == MAX_DEPTH + 1


# ---- messages


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([], "3 frames"), ([b"PRD1", b"Ping"], "3 frames"), ([b"PRD1", b"Ping", b"{}", b""], "3 frames"),
        ([b"PRD2", b"Ping", b"{}"], "PRD2"), ([b"", b"Ping", b"{}"], "protocol"),
        ([b"PRD1", b"Ready", b"{}"], "Ready.free"), ([b"PRD1", b"Ready", b'{"free": "1"}'], "Ready.free"),
        ([b"PRD1", b"Ready", b'{"free": 1.5}'], "Ready.free"), ([b"PRD1", b"Ready", b'{"free": true}'], "Ready.free"),
        ([b"PRD1", b"Ready", b"[]"], "Ready"), ([b"PRD1", b"Ready", b"null"], "Ready"),
        ([b"PRD1", b"Ack", b'{"attempts": ["x"]}'], "Ack.attempts"),
        ([b"PRD1", b"Ack", b'{"attempts": ["../../../../../etc/passwd"]}'], "Ack.attempts"),
        ([b"PRD1", b"Ack", f'{{"attempts": ["{ULID}\\n"]}}'.encode()], "Ack.attempts"),
        ([b"PRD1", b"Call", b'{"call": "1", "attempt": "%s", "tool": "rm"}' % ULID.encode()], "Call.tool"),
    ],
)  # fmt: skip
def test_what_is_no_message_of_ours_is_refused_naming_it(frames: list[bytes], says: str) -> None:
    with pytest.raises(WireError, match=says):
        decode(frames)


@pytest.mark.parametrize("cost", [-1, 1.5, "1", True])
def test_money_is_a_whole_number_from_zero_on(cost: object) -> None:
    body = {"attempt": ULID, "task": ULID, "outcome": "failed", "cost": cost}
    with pytest.raises(WireError, match="cost"):
        decode([b"PRD1", b"Result", json.dumps(body).encode()])


def test_a_field_that_a_newer_version_added_is_ignored() -> None:
    assert decode([b"PRD1", b"Ack", json.dumps({"attempts": [ULID], "colour": "red"}).encode()]) == Ack(attempts=[ULID])


def test_a_type_that_a_newer_version_added_is_nothing() -> None:
    for name in (b"Sing", b"", b"\xff\xfe", b"Message", b"Usage", b"ping"):
        assert decode([b"PRD1", name, b"not even json"]) is None


def test_the_newest_row_of_a_field_decides_nothing() -> None:
    with pytest.raises(WireError, match="duplicate"):
        decode([b"PRD1", b"Ready", b'{"free": 1, "free": 9}'])


# ---- what would be refused there is not sent


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "message",
    [
        Reply(call="1", ok=True, result="x" * MAX_BODY),
        Call(call="1", attempt=ULID, tool="get_task", arguments=deep(40)),
        Progress(attempt=ULID, kind="text", data={"text": "\ud800"}),
        Event(at=0, kind="\udfff"),
        Request(call="1", op="x", arguments={"a": object()}),
    ],
    ids=["too long", "too deep", "a surrogate", "a surrogate in a name", "no JSON"],
)
def test_what_the_other_end_would_refuse_is_refused_here(message: Message) -> None:
    with pytest.raises(WireError, match=type(message).__name__):
        encode(message)


def test_the_limits_are_met_exactly() -> None:
    for levels in (30, 31, 32, 33):
        message = Call(call="1", attempt=ULID, tool="get_task", arguments=deep(levels))
        if levels < MAX_DEPTH:
            assert decode(encode(message)) == message
        else:
            with pytest.raises(WireError, match="deeper"):
                encode(message)
    room = MAX_BODY - len(encode(Reply(call="1", ok=True, result=""))[2])
    assert decode(encode(Reply(call="1", ok=True, result="x" * room))) is not None
    with pytest.raises(WireError, match="over the limit"):
        encode(Reply(call="1", ok=True, result="x" * (room + 1)))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_does_not_cross(number: float) -> None:
    for make in (lambda: Progress(attempt=ULID, kind="usage", data={"x": number}), lambda: Event(at=number, kind="x")):
        try:
            frames = encode(make())
        except (ValueError, WireError):
            continue
        assert b"NaN" not in frames[2] and b"Infinity" not in frames[2]


def test_messages_are_frozen_and_strict() -> None:
    with pytest.raises(AttributeError):
        Ready(free=1).free = 2  # type: ignore[misc]
    for wrong in (
        Ready(free="1"),  # type: ignore[arg-type]
        Result(attempt=ULID, task=ULID, outcome="won"),  # type: ignore[arg-type]
        Result(attempt=ULID, task=ULID, outcome="failed", cost=-1),
        Ack(attempts=[f"{ULID}\n"]),
    ):
        with pytest.raises(WireError, match=type(wrong).__name__):
            encode(wrong)
    assert decode(encode(Ping())) == Ping()


def test_messages_that_came_as_one_are_taken_apart_and_nothing_else_is() -> None:
    ready, ping = encode(Ready(free=1)), encode(Ping())
    together = [*ready, *ping[1:], *ready[1:]]
    assert [decode(one) for one in apart(together)] == [Ready(free=1), Ping(), Ready(free=1)]
    assert [decode(one) for one in apart(ready)] == [Ready(free=1)]
    for strange in ([], ready[:1], ready[:2], together[:-1], [*ready, *ping[1:] * BATCH]):
        (one,) = apart(strange)
        with pytest.raises(WireError):
            decode(one)


def test_one_bad_message_does_not_take_the_others_with_it() -> None:
    one, bad, other = apart([*encode(Ping()), b"Ready", b"[]", *encode(Ready(free=2))[1:]])
    assert (decode(one), decode(other)) == (Ping(), Ready(free=2))
    with pytest.raises(WireError):
        decode(bad)
