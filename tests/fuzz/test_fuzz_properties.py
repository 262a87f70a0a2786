"""What hypothesis finds: whatever the bytes, each reader answers or refuses, and what it takes is plain."""

from __future__ import annotations

import json

from examples import examples
from fuzz_targets import FINE, TARGETS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from producer.errors import ProducerError
from producer.ledger.checks import draft_of, payload_json
from producer.wire.codec import MAX_DEPTH, nesting, strict_json

FUZZ = settings(max_examples=examples(300), deadline=None)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8))
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
KEYS = st.sampled_from(["agent_owner", "title", "description", "priority", "payload", "dependencies", "task_id"])
ARGUMENTS = st.dictionaries(KEYS | st.text(max_size=6), VALUES, max_size=8)
BYTES = st.one_of(st.binary(max_size=200), VALUES.map(lambda value: json.dumps(value).encode()))


@FUZZ
@given(BYTES)
@example(b"[" * 33 + b"]" * 33)
@example(b'{"a": 1e999}')
@example(b'"\\ud800"')
def test_json_is_refused_or_plain(data: bytes) -> None:
    try:
        value = strict_json(data)
    except ProducerError as error:
        assert "\n" not in str(error)
        return
    assert nesting(value) <= MAX_DEPTH
    assert strict_json(json.dumps(value, allow_nan=False, ensure_ascii=False).encode()) == value


@FUZZ
@given(ARGUMENTS)
def test_the_arguments_of_a_tool_are_refused_or_stored_as_json(arguments: dict[str, object]) -> None:
    full = {"agent_owner": "code", "title": "t", "description": "d", **arguments}
    try:
        text = payload_json(draft_of(full).payload)
    except ProducerError:
        return
    assert json.loads(text, parse_constant=lambda name: 1 / 0) == dict(arguments.get("payload") or {})


@FUZZ
@given(BYTES, st.integers(0, 255))
def test_no_target_ends_in_a_traceback(data: bytes, seed: int) -> None:
    for target in TARGETS:
        try:
            target(data, seed)
        except FINE:
            continue
