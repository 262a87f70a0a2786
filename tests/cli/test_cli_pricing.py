"""`pricing update`: from a file and from an address; what is refused changes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cli_rig import Project

from producer import pricing
from producer.errors import UnknownModel

OLD_SHAPE = {  # as 0.3.x had it: no hour rate, no aliases
    "last_updated": "2026-11-23",
    "source_url": "https://docs.anthropic.com/en/docs/about-claude/pricing",
    "currency": "USD",
    "models": {
        "claude-sonnet-5-5": {
            "input_per_mtok_usd": 2.50, "output_per_mtok_usd": 11.00,
            "cache_creation_per_mtok_usd": 3.125, "cache_read_per_mtok_usd": 0.20,
        },
        "claude-nova-6": {
            "input_per_mtok_usd": 7, "output_per_mtok_usd": 35,
            "cache_creation_per_mtok_usd": 8.75, "cache_read_per_mtok_usd": 0.7,
        },
    },
}  # fmt: skip


class Publisher:
    """An address with prices on it."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(OLD_SHAPE).encode()
        publisher = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.send_response(publisher.status)
                self.send_header("location", "https://example.com/elsewhere")
                self.end_headers()
                with suppress(ConnectionError):  # whoever asks may leave in the middle of it
                    self.wfile.write(publisher.body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/pricing.json"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    found = Publisher()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(OLD_SHAPE))
    return path


def own_file(project: Project) -> Path:
    return project.places.state / "pricing.json"


def updates(project: Project) -> list[dict[str, Any]]:
    with project.reader() as reader:
        return [row for row in reader.audit_tail(100) if row["action"] == "pricing_updated"]


def test_a_table_is_taken_over_and_what_it_does_not_name_stays(project: Project, table: Path) -> None:
    shipped = Path(pricing.__file__).with_name("pricing.json").read_bytes()
    out = project.out("pricing", "update", "--file", str(table))
    assert "models.claude-sonnet-5-5.input_per_mtok_usd: 2 -> 2.5" in out
    prices = pricing.load(own_file(project))
    sonnet, bundled = prices.lookup("sonnet"), pricing.load().lookup("sonnet")  # the alias is kept, too
    assert (sonnet.input, sonnet.output, sonnet.write_1h) == (2_500_000, 11_000_000, 5_000_000)
    assert sonnet.regions == bundled.regions and prices.lookup("claude-nova-6").read == 700_000
    assert prices.lookup("opus") == pricing.load().lookup("opus")
    assert pricing.merged(own_file(project))["last_updated"] == "2026-11-23"
    assert Path(pricing.__file__).with_name("pricing.json").read_bytes() == shipped
    (row,) = updates(project)
    assert row["actor"].startswith("operator:") and row["detail"]["source"] == str(table)
    assert any("claude-nova-6" in line for line in row["detail"]["changes"])
    project.run("pricing", "update", "--file", str(table))
    assert updates(project)[-1]["detail"]["changes"] == []


def test_a_dry_run_shows_the_difference_and_changes_nothing(project: Project, table: Path) -> None:
    found = json.loads(project.out("pricing", "update", "--file", str(table), "--dry-run", "--json"))
    assert found["changed"] is False
    assert "models.claude-sonnet-5-5.output_per_mtok_usd: 10 -> 11" in found["changes"]
    assert not own_file(project).exists() and not project.ledger.exists()


def test_an_address_is_asked_and_remembered(project: Project, publisher: Publisher) -> None:
    project.run("pricing", "update", PRODUCER_PRICING_URL=publisher.url)
    assert pricing.merged(own_file(project))["source_url"] == publisher.url
    publisher.body = json.dumps(
        {"models": {"claude-nova-6": OLD_SHAPE["models"]["claude-nova-6"] | {"output_per_mtok_usd": 36}}}
    ).encode()
    assert "models.claude-nova-6.output_per_mtok_usd: 35 -> 36" in project.out("pricing", "update")
    prices = pricing.load(own_file(project))
    assert (prices.lookup("claude-nova-6").output, prices.lookup("sonnet").output) == (36_000_000, 11_000_000)


def test_without_a_source_it_says_that_there_is_none(project: Project) -> None:
    said = project.refused("pricing", "update")
    assert "not as JSON" in said and "PRODUCER_PRICING_URL" in said and "--file" in said
    assert "https" in project.refused("pricing", "update", "--url", "http://example.com/pricing.json")
    assert "https" in project.refused("pricing", "update", "--url", "file:///etc/passwd")


ROW = OLD_SHAPE["models"]["claude-sonnet-5-5"]


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("<html>prices</html>", "not JSON"),
        ("", "not JSON"),
        ("[]", "must be a mapping"),
        ({"models": {}}, "at least one model"),
        ({"models": {"m": ROW}, "mood": "good"}, "mood"),
        ({"models": {"claude-sonnet-5-5": ROW | {"input_per_mtok_usd": 0}}}, "above 0"),
        ({"models": {"claude-sonnet-5-5": ROW | {"cache_read_per_mtok_usd": 0}}}, "would become 0"),
        ({"models": {"sonnet": ROW | {"cache_creation_per_mtok_usd": 0}}}, "would become 0"),
        ({"models": {"m": ROW}, "web_search_usd": 0}, "web_search_usd"),
        ({"models": {"m": ROW | {"input_per_mtok_usd": -1}}}, "input_per_mtok_usd"),
        ({"models": {"m": ROW | {"input_per_mtok_usd": "2"}}}, "input_per_mtok_usd"),
        ('{"models": {"m": {"input_per_mtok_usd": NaN}}}', "not JSON"),
        ({"models": {"m": {"input_per_mtok_usd": 1}}}, "missing"),
        ({"models": {"m": ROW}, "currency": "EUR"}, "USD"),
        ({"models": {"m": ROW | {"aliases": ["opus"]}}}, "opus"),
        ({"models": {"m": ROW}, "last_updated": "soon"}, "last_updated"),
    ],
)
def test_what_is_no_table_is_refused_with_one_line_and_nothing_changes(
    project: Project, tmp_path: Path, answer: object, named: str
) -> None:
    path = tmp_path / "answer.json"
    path.write_text(answer if isinstance(answer, str) else json.dumps(answer))
    said = project.refused("pricing", "update", "--file", str(path), code=1)
    assert named in said and said.endswith("nothing was changed")
    assert not own_file(project).exists() and not project.ledger.exists()


def test_what_an_address_must_not_answer(project: Project, publisher: Publisher) -> None:
    for publisher.status, named in ((302, "302"), (404, "404"), (500, "500")):
        assert named in project.refused("pricing", "update", "--url", publisher.url, code=1)
    publisher.status, publisher.body = 200, b" " * (1 << 20) + b"{}"
    assert "bytes" in project.refused("pricing", "update", "--url", publisher.url, code=1)
    publisher.server.shutdown()
    publisher.server.server_close()
    assert "nothing was changed" in project.refused("pricing", "update", "--url", publisher.url, code=1)
    assert not own_file(project).exists()


def test_a_refused_answer_leaves_the_table_of_the_project_as_it_was(project: Project, table: Path) -> None:
    project.run("pricing", "update", "--file", str(table))
    before = own_file(project).read_bytes()
    table.write_text("{")
    project.refused("pricing", "update", "--file", str(table), code=1)
    assert own_file(project).read_bytes() == before
    assert len(updates(project)) == 1
    assert [path.name for path in own_file(project).parent.glob(".pricing*")] == []


def test_prices_that_change_on_the_disk_are_seen_and_a_bad_table_changes_nothing(tmp_path: Path) -> None:
    own, rows = tmp_path / "pricing.json", tmp_path / "rows.json"
    rows.write_text("{}")
    watched = pricing.Watched(own, rows)
    first = watched.table()
    assert watched.table() is first
    with pytest.raises(UnknownModel):
        first.lookup("claude-nova-6")
    own.write_text(json.dumps(OLD_SHAPE))
    second = watched.table()
    assert second.lookup("claude-nova-6").input == 7_000_000
    own.write_text("{")
    assert watched.table() is second
    rows.write_text(json.dumps({"claude-nova-6": ROW}))
    assert watched.table() is second, "the other file is still bad"
    own.unlink()
    assert watched.table().lookup("claude-nova-6").input == 2_500_000
