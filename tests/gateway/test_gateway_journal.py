"""The journal survives what the gateway does not."""

from __future__ import annotations

import os

import pytest
from gateway_rig import live

from producer import ids
from producer.gateway.journal import Journal
from producer.places import Places
from producer.wire import journal as lines
from producer.wire import tokens
from producer.wire.journal import Opened
from producer.wire.messages import Metered, Usage


def opened(attempt, worst=900):
    return Opened(request=ids.new_id(), attempt=attempt, model="claude-opus-5-5", worst=worst, at=1.0)


def metered(record, cost=500):
    return Metered(
        request=record.request,
        attempt=record.attempt,
        model=record.model,
        usage=Usage(input_tokens=1),
        cost=cost,
        at=2.0,
    )


@live
async def test_what_began_and_did_not_end_is_the_worst_case_also_for_the_next_gateway(tmp_path):
    attempt = ids.new_id()
    journal = Journal(tmp_path, lambda _: True)
    done, lost = opened(attempt), opened(attempt)
    journal.opened(done)
    journal.metered(metered(done))
    journal.opened(lost)
    journal.close()  # and the process dies

    records = Journal(tmp_path, lambda _: False).recover()
    assert [(record.request, record.cost, record.exact) for record in records] == [
        (done.request, 500, True),
        (lost.request, 900, False),
    ]
    again = Journal(tmp_path, lambda _: False).recover()
    assert again == records  # saying it twice says the same


@live
async def test_a_torn_line_is_skipped_and_the_next_one_is_whole(tmp_path):
    attempt = ids.new_id()
    record = opened(attempt)
    path = lines.path_of(tmp_path, attempt)
    path.write_bytes(lines.line(record) + lines.line(metered(record))[:40])
    journal = Journal(tmp_path, lambda _: True)
    second = opened(attempt, 300)
    journal.opened(second)
    found = lines.read(path)
    assert list(found.opened) == [record.request, second.request]
    assert found.damaged == 1
    assert [bill.cost for bill in found.records()] == [900, 300]


@live
async def test_a_file_stays_until_all_is_booked_and_the_attempt_is_closed(tmp_path):
    attempt, is_open = ids.new_id(), True
    journal = Journal(tmp_path, lambda _: is_open)
    first, second = opened(attempt), opened(attempt)
    for record in (first, second):
        journal.opened(record)
        journal.metered(metered(record))
    path = lines.path_of(tmp_path, attempt)
    journal.booked(attempt, first.request)
    is_open = False
    journal.tidy(attempt)
    assert path.exists()
    journal.booked(attempt, second.request)
    assert not path.exists()
    assert lines.attempts(tmp_path) == []


def test_only_an_attempts_id_names_a_file(tmp_path):
    with pytest.raises(ValueError, match="evil"):
        lines.path_of(tmp_path, "../../evil")
    (tmp_path / "notes.jsonl").write_text("x")
    assert lines.attempts(tmp_path) == []
    assert lines.read(tmp_path / "absent.jsonl").records() == []


def test_a_token_names_its_attempt_and_cannot_be_made_up(tmp_path):
    places = Places.of(tmp_path / "l.db", dict(os.environ)).make()
    key = tokens.secret(places)
    assert tokens.secret(places) == key
    assert (places.keys / tokens.FILE).stat().st_mode & 0o777 == 0o600
    attempt, other = ids.new_id(), ids.new_id()
    token = tokens.mint(key, attempt)
    assert tokens.verify(key, token) == attempt
    for bad in (token.replace(attempt, other), token + "0", token.upper(), "", tokens.mint(b"k" * 32, attempt)):
        assert tokens.verify(key, bad) is None
