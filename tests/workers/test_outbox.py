"""Results on disk: what survives, what is refused, what is forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from producer.ids import new_id
from producer.wire import outbox as module
from producer.wire.messages import Result
from producer.wire.outbox import LOG, Outbox, read


def result(text: str = "done") -> Result:
    return Result(attempt=new_id(), task=new_id(), outcome="succeeded", text=text)


def test_a_result_stays_until_it_is_removed(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "w", "code")
    first, second = result("first"), result("zwei\nlines\u2028 and \x00")
    box.put(first)
    box.put(second)
    assert box.results() == [first, second] and box.attempts() == [first.attempt, second.attempt]
    assert read(box.path).results == {first.attempt: first, second.attempt: second}
    assert box.remove(first.attempt) and not box.remove(first.attempt) and not box.remove(new_id())
    assert read(box.path).results == {second.attempt: second}
    assert box.remove(second.attempt)
    assert read(box.path).results == {} and len(box) == 0
    third, fourth, fifth = result("3"), result("4"), result("5")
    for one in (third, fourth, fifth):
        box.put(one)
    assert box.remove(third.attempt, new_id(), fifth.attempt, third.attempt) == 2
    assert read(box.path).results == {fourth.attempt: fourth}


def test_what_a_killed_process_had_put_is_read_back(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from producer.wire.outbox import Outbox;"
        "from producer.wire.messages import Result; from producer.ids import new_id\n"
        "box = Outbox(Path(sys.argv[1]), 'code')\n"
        "for number in range(100000):\n"
        "    r = Result(attempt=new_id(), task=new_id(), outcome='succeeded', text=str(number)); box.put(r)\n"
        "    print(r.attempt, flush=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "w")], stdout=subprocess.PIPE, env=env)
    assert child.stdout is not None
    said = [child.stdout.readline().decode().strip() for _ in range(200)]
    child.send_signal(signal.SIGKILL)
    child.wait()
    contents = read(tmp_path / "w" / LOG)
    assert said == list(contents.results)[:200]
    again = Outbox(tmp_path / "w", "code")
    assert again.attempts() == list(contents.results)


def test_damage_is_named_and_never_guessed_at(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "w", "code")
    good = [result(str(number)) for number in range(4)]
    for each in good:
        box.put(each)
    lines = box.path.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b'"text":"1"', b'"text":"9"')
    lines[2] = lines[2][:-20]
    rubbish = [b"R zzzzzzzz {}", b"A ../../evil", b"\x00\xff", b"R 00000000 "]
    box.path.write_bytes(b"\n".join([*lines[:4], *rubbish, lines[3][:30]]))
    contents = read(box.path)
    assert list(contents.results) == [good[0].attempt, good[3].attempt]
    assert len(contents.damage) == 2 + len(rubbish) + 1
    assert "cut off" in contents.damage[-1]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(tmp_path / "w", "code")
    kept, refused, later = result(), result("x" * 100), result()
    box.put(kept)
    honest = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) > 150:
            return honest(handle, data[:100])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(module.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            box.put(refused)
        assert refused.attempt not in box
    box.put(later)
    contents = read(box.path)
    assert list(contents.results) == [kept.attempt, later.attempt] and contents.damage == []


def test_the_file_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REWRITE_BYTES", 20_000)
    box = Outbox(tmp_path / "w", "code")
    big = result("x" * module.EMPTY_BYTES)
    box.put(big)
    box.remove(big.attempt)
    assert box.path.stat().st_size == 0
    old = result("stays")
    box.put(old)
    for number in range(500):
        each = result(str(number))
        box.put(each)
        box.remove(each.attempt)
    assert box.path.stat().st_size < 21_000
    assert read(box.path).results == {old.attempt: old}
    after = result()
    box.put(after)
    assert list(read(box.path).results) == [old.attempt, after.attempt]


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "w", "code")
    with pytest.raises(OSError, match="unavailable"):
        Outbox(tmp_path / "w", "code")
    box.put(result())
    box.close()
    assert len(Outbox(tmp_path / "w", "code")) == 1
