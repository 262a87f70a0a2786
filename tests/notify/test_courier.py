"""The courier's threads against a real ledger: everything is told, once, and in spite of what fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from driving import Project, until
from ntfy_stand_in import Answer, Ntfy

from producer.ledger.store import Store
from producer.supervisor import notices
from producer.supervisor.courier import Courier

TOPIC = "shop-0123456789abcdef0123456789abcdef"


class Desk:
    """The loop's part: it commits, records what was told, and wakes."""

    def __init__(self, project: Project, **settings: Any) -> None:
        project.configure({"code": None}, notifications={"ntfy_topic": TOPIC, **settings})
        self.config, self.project = project.config(), project
        self.places = project.places.make()
        self.config.ledger_db.parent.mkdir(exist_ok=True)
        self.store = Store(self.config.ledger_db, head_file=None)
        self.after: deque[Callable[[], object]] = deque()
        self.courier = Courier(lambda: self.config, self.places, {})
        self.courier.start()

    def audit(self, action: str, **detail: Any) -> None:
        self.store.audit.append(action, "producer", **detail)

    def turn(self, *titles: str) -> int:
        """One turn of the loop that tells a person something; how many entries wait after it."""
        with self.store.transaction():
            for title in titles:
                notices.put(self.store, self.config, "idle", title, title, title)
            self.courier.collect(self)  # type: ignore[arg-type]
        while self.after:
            self.after.popleft()()
        self.courier.wake(self.store.outbox)
        return int(self.store.db.value("SELECT count(*) FROM outbox"))

    def lines(self) -> list[str]:
        return self.project.attention().splitlines()

    def close(self) -> None:
        self.courier.stop()
        self.store.close()


@pytest.fixture
def desk(project: Project, ntfy: Ntfy) -> Iterator[Desk]:
    made = Desk(project, ntfy_server=ntfy.url)
    yield made
    made.close()


def test_everything_is_told_once_while_the_loop_records(desk: Desk, ntfy: Ntfy) -> None:
    for number in range(300):
        desk.turn(f"number {number} ends")
    until(lambda: desk.turn() == 0, what="an empty outbox")
    lines = desk.lines()
    assert len(lines) == 300
    assert all(sum(f"**number {number} ends**" in line for line in lines) == 1 for number in range(300))
    text = "\n".join(message["title"] + "\n" + message["message"] for message in ntfy.messages)
    assert all(text.count(f"number {number} ends") >= 1 for number in range(300))


def test_a_notice_is_harmless_and_one_line(desk: Desk) -> None:
    desk.turn("evil\n# heading <img src=x> [link](http://x) \x1b[31m \u202e")
    until(lambda: desk.turn() == 0)
    (line,) = desk.lines()
    assert "\\<img src=x>" in line and "\\[link\\](http://x)" in line and "\\\\x1b" in line and "\\\\u202e" in line


def test_a_full_disk_or_a_wrong_file_holds_up_no_push(desk: Desk, ntfy: Ntfy) -> None:
    (desk.project.state / "needs-attention.md").mkdir()
    desk.turn("a title")
    until(lambda: desk.turn() == 1 and ntfy.messages)
    (kind, tries, error) = desk.store.db.rows("SELECT kind, tries, error FROM outbox")[0]
    assert kind == "notice" and tries >= 1 and "IsADirectoryError" in error


def test_how_the_last_push_went_is_remembered(desk: Desk, ntfy: Ntfy) -> None:
    desk.turn("a title")
    until(lambda: desk.turn() == 0)
    assert '"ok": true' in (desk.store.meta("ntfy") or "")
    ntfy.always = Answer(401)
    desk.turn("another")
    until(lambda: desk.turn() == 0)
    assert '"ok": false' in (desk.store.meta("ntfy") or "") and "HTTP 401" in (desk.store.meta("ntfy") or "")


def test_without_a_topic_nothing_is_pushed(project: Project) -> None:
    desk = Desk(project, ntfy_topic="")
    try:
        desk.turn("a title")
        until(lambda: desk.turn() == 0)
        assert len(desk.lines()) == 1
        assert desk.store.db.value("SELECT json_extract(CAST(body AS TEXT), '$.detail.via') FROM audit"
                                   " WHERE action = 'notify_human'") == "file"  # fmt: skip
    finally:
        desk.close()


def test_an_entry_that_nobody_knows_is_not_taken_for_told(desk: Desk) -> None:
    """It used to count as delivered: one of a newer version was lost by going back."""
    with desk.store.transaction():
        desk.store.outbox.put("carrier_pigeon", {"to": "you"})
    until(lambda: desk.turn() == 1 and desk.store.db.value("SELECT tries FROM outbox") == 1)
    assert "carrier_pigeon" in desk.store.db.value("SELECT error FROM outbox")
    desk.turn("others are told")
    until(lambda: desk.turn() == 1 and len(desk.lines()) == 1)
