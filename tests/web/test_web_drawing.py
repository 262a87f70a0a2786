"""The figures behind the charts, and text in the SVG."""

from __future__ import annotations

from typing import Any

import pytest
from driving import Project
from hypothesis import given
from hypothesis import strategies as st

from producer.ids import iso
from producer.ledger import Reader, browse, charts
from producer.web import drawing
from producer.web.changes import touched
from producer.web.show import duration, usd


def run(at: float, until: float | None, role: str = "code", **more: Any) -> dict[str, Any]:
    row = {"at": at, "until": until, "role": role, "state": "succeeded", "task": "t", "title": "T", "number": 1}
    return {**row, "error": None, **more}


def timeline(*runs: dict[str, Any], since: float = 0.0, until: float = 100.0) -> dict[str, Any]:
    return drawing.timeline({"since": since, "until": until, "attempts": list(runs), "marks": []})


def test_runs_at_one_time_have_lanes_of_their_own_and_a_free_lane_is_used_again() -> None:
    found = timeline(run(0, 40), run(10, 30), run(45, 60), run(35, 50), run(0, None, "qa"))
    lanes = [bar["y"] for bar in found["bars"]]
    assert lanes[0] == lanes[2] and lanes[1] == lanes[3] and len(set(lanes)) == 3
    assert [role["name"] for role in found["roles"]] == ["code", "qa"]
    assert found["bars"][4]["width"] == drawing.WIDTH, "what runs goes on to the edge"


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(0, 200)), max_size=60))
def test_every_bar_lies_within_the_picture(spans: list[tuple[float, float]]) -> None:
    found = timeline(*(run(at, at + length) for at, length in spans))
    for bar in found["bars"]:
        assert 0 <= bar["x"] < drawing.WIDTH and bar["x"] + bar["width"] <= drawing.WIDTH + drawing.NARROWEST
        assert bar["width"] >= drawing.NARROWEST and bar["y"] + drawing.LANE <= found["height"]


def test_titles_in_the_picture_are_text() -> None:
    drawn = timeline(run(1, 2, title="</title><script>x</script>", error='"><b>'))["drawn"]
    assert "<script" not in drawn and "<b>" not in drawn and "&lt;script&gt;" in drawn


@given(st.floats(0, 2e9), st.floats(20, 300_000))
def test_an_axis_has_a_few_round_times(since: float, length: float) -> None:
    found = drawing.ticks(since, since + length)
    assert len(found) <= drawing.TICKS + 1
    assert all(-0.01 <= tick["x"] <= drawing.WIDTH + 0.01 for tick in found)


@given(st.lists(st.lists(st.integers(0, 1000), min_size=2, max_size=2), min_size=1, max_size=50))
def test_columns_stand_on_the_ground_and_the_highest_fills_the_height(stacks: list[list[int]]) -> None:
    found = drawing.columns(stacks, 100.0)
    tops = [min(part["y"] for part in parts) for parts in found]
    assert min(tops) == pytest.approx(0 if any(map(sum, stacks)) else 100, abs=0.1)
    for parts in found:
        assert parts[0]["y"] + parts[0]["height"] == pytest.approx(100, abs=0.1)


def test_a_bar_of_money_never_leaves_its_rail() -> None:
    assert drawing.bar({"spent_usd": "1", "held_usd": "1", "cap_usd": "4"}) == {"spent": 25.0, "held": 25.0}
    assert drawing.bar({"spent_usd": "9", "held_usd": "9", "cap_usd": "4"}) == {"spent": 100.0, "held": 0.0}
    assert drawing.bar({"spent_usd": "0.00", "held_usd": "0.00", "cap_usd": "0.00"}) == {"spent": 0.0, "held": 0.0}


def test_a_page_of_counts_ends_at_its_bound_and_says_so(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "MOST_COUNTED", 0)
    with Reader(filled.state / "ledger.db") as reader:
        assert str(browse.counts(reader)["done"]) == "0+"
    monkeypatch.setattr(browse, "MOST_COUNTED", 1)
    with Reader(filled.state / "ledger.db") as reader:
        assert str(browse.counts(reader)["done"]) == "1"


def test_a_search_goes_on_where_its_window_ended(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "WINDOW", 3)
    with Reader(filled.state / "ledger.db") as reader:
        before, found, looks = None, [], 0
        while True:
            page = browse.tasks(reader, text="parser", before=before)
            found += [row["id"] for row in page.rows]
            looks += 1
            if page.next is None:
                break
            before = page.next
    assert found == ["parser"] and looks == 3


def test_requests_of_the_last_hours_only(filled: Project) -> None:
    with Reader(filled.state / "ledger.db") as reader:
        at = charts.requests(reader, 0).rows[0]["first"]
        assert charts.requests(reader, 0).rows[0]["cost"] == 250_000
        later = charts.from_iso(at) + 1
        assert charts.requests(reader, later).rows == []
    assert iso(later) > at


def test_what_an_agent_changed_is_shown_as_a_diff() -> None:
    def call(name: str, **given: Any) -> dict[str, Any]:
        return {"kind": "tool_call", "name": name, "input": given}

    found = touched(
        [
            call("Write", file_path="a", content="one\ntwo"),
            call("Edit", file_path="a", old_string="one\nx", new_string="one\ny"),
            call("Read", file_path="b"), call("Edit", file_path=["no"], old_string="", new_string="z"),
            {"kind": "text", "input": None}, call("MultiEdit", file_path="c", edits=["no", {"new_string": "n"}]),
        ]
    )  # fmt: skip
    assert [(one["path"], one["calls"]) for one in found] == [("a", 2), ("c", 1)]
    assert found[0]["lines"][:3] == [("note", "written whole"), ("add", "one"), ("add", "two")]
    assert found[0]["lines"][3:] == [("note", ""), ("same", "one"), ("cut", "x"), ("add", "y")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.42, "0.4 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"), [(None, "–"), ("0.00", "$0.00"), ("0.003924", "$0.0039"), ("1234.5", "$1,234.50")]
)
def test_amounts(amount: str | None, words: str) -> None:
    assert usd(amount) == words
