"""Identifiers: their form is that of their specifications, and no two are the same."""

from __future__ import annotations

import os
import time
import uuid

import pytest

from producer.ids import first_id, is_id, new_id, new_session

# From the ULID specification: the largest there is, and the alphabet in order.
LARGEST = "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def number(ulid: str) -> int:
    """What a ULID says, read a character at a time."""
    value = 0
    for character in ulid:
        value = value * 32 + ALPHABET.index(character)
    return value


def test_a_ulid_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    assert before <= number(made) >> 80 <= time.time_ns() // 1_000_000
    assert is_id(made) and made <= LARGEST


def test_the_first_of_a_moment_is_before_all_others_of_it() -> None:
    assert first_id(0) == first_id(-5) == "0" * 26
    assert number(first_id(1_700_000_000.1239)) == 1_700_000_000_123 << 80
    now = time.time()
    assert first_id(now - 1) < first_id(now) <= new_id() < first_id(now + 60)


def test_they_are_in_the_order_of_their_making() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)


def test_a_forked_process_does_not_go_on_where_its_parent_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    read, write = os.pipe()
    new_id()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            os.write(write, "".join(new_id() for _ in range(50)).encode())
            os._exit(0)
        children.append(child)
    own = [new_id() for _ in range(50)]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    os.close(write)
    with open(read) as pipe:
        theirs = pipe.read()
    assert len({*own, *(theirs[at : at + 26] for at in range(0, len(theirs), 26))}) == 250


def test_none_comes_twice() -> None:
    assert len({new_id() for _ in range(10_000)}) == len({new_session() for _ in range(10_000)}) == 10_000


def test_a_session_is_a_random_uuid() -> None:
    for _ in range(100):
        made = uuid.UUID(text := new_session())
        assert (str(made), made.version, made.variant) == (text, 4, uuid.RFC_4122)
