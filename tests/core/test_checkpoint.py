"""Checkpoints as text: the form of C2SP, read back byte for byte, and nothing else taken for one."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.core.checkpoint import Checkpoint, Key, Signed, find

SIGNED = Signed(Checkpoint("ai-producer/01J8Z", 1024, bytes(range(32))), b"\x01\x02\x03\x04", bytes(64))
NOTE = SIGNED.note()


def test_the_form_is_that_of_a_signed_note() -> None:
    root, tail = b64encode(bytes(range(32))).decode(), b64encode(b"\x01\x02\x03\x04" + bytes(64)).decode()
    assert f"ai-producer/01J8Z\n1024\n{root}\n\n— ai-producer/01J8Z {tail}\n" == NOTE
    assert SIGNED.checkpoint.text().decode() == NOTE.split("\n\n")[0] + "\n", "the text is signed with its last newline"


def test_the_key_id_and_the_text_of_a_key_are_those_of_signed_notes() -> None:
    """The example key of golang.org/x/mod/sumdb/note, whose format C2SP wrote down."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = Key.parse(text)
    assert key.name == "PeterNeumann" and key.id().hex() == "c74f20a3" and key.text() == text
    assert key.id() == sha256(b"PeterNeumann\n\x01" + key.raw).digest()[:4]


@pytest.mark.parametrize("text", [
    "", "PeterNeumann", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T=",
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz",
])  # fmt: skip
def test_what_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|base64|padding"):
        Key.parse(text)


def test_it_is_found_as_a_note_and_as_a_line_among_other_words() -> None:
    journal = f"12:00:01  info  audit checkpoint  head={SIGNED.line()}\nand something else\n"
    for text in (NOTE, f"see\n{NOTE}\nend", journal, SIGNED.line(), NOTE.replace("—", "\\u2014")):
        assert list(find(text)) == [SIGNED], text
    assert list(find(f"{NOTE}\n{NOTE}\n{journal}")) == [SIGNED] * 3


def test_a_witness_may_sign_above_or_below() -> None:
    other = "— witness.example/w " + b64encode(bytes(76)).decode() + "\n"
    head, tail = NOTE.split("\n\n")
    assert Signed.parse(NOTE + other) == Signed.parse(f"{head}\n\n{other}{tail}") == SIGNED


@pytest.mark.parametrize(("old", "new"), [
    ("1024", "01024"), ("1024", "-1"), ("1024", ""), ("1024", "1" * 19), ("\n\n", "\n"), ("— ", "- "), ("AAEC", "AAEC="),
    ("— ai-producer/01J8Z", "— ai-producer/other"), ("ai-producer/01J8Z\n", "ai producer\n"), ("AQIDBA", "AQIDB"),
])  # fmt: skip
def test_what_is_written_otherwise_is_none(old: str, new: str) -> None:
    assert old in NOTE
    with pytest.raises(ValueError, match="not a signed checkpoint"):
        Signed.parse(NOTE.replace(old, new, 1))


NAMES = st.from_regex(r"[A-Za-z0-9._/-]{1,40}", fullmatch=True)


@given(NAMES, st.integers(0, 10**18 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=68, max_size=68))
def test_whatever_is_signed_is_read_back(name: str, size: int, root: bytes, tail: bytes) -> None:
    signed = Signed(Checkpoint(name, size, root), tail[:4], tail[4:])
    assert Signed.parse(signed.note()) == signed
    assert list(find(signed.line())) == [signed]


@given(st.text(alphabet="a/1 \n—AQ=+", max_size=400))
def test_no_text_makes_it_raise(text: str) -> None:
    assert isinstance(list(find(text)), list)
