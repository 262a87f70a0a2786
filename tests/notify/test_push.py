"""Pushes against an ntfy server that fails, delays, limits and refuses: real HTTP, a clock of the test's own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from driving import Project
from ntfy_stand_in import Answer, Ntfy

from producer.config import ProducerConfig
from producer.core.notice import GIVE_UP_AFTER, LONGEST_WAIT
from producer.ledger.records import Pending
from producer.ledger.store import Store
from producer.supervisor.notify import Post, Pusher
from producer.supervisor.told import Told

NOON = datetime(2026, 5, 6, 12, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
NIGHT = datetime(2026, 5, 6, 23, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
TOPIC = "shop-0123456789abcdef0123456789abcdef"


class Desk:
    """A pusher with a clock that only the test moves."""

    def __init__(self, project: Project, ntfy: Ntfy, env: dict[str, str] | None = None, **settings: Any) -> None:
        self.now = NOON
        self.configure(project, ntfy_topic=TOPIC, ntfy_server=ntfy.url, **settings)
        self.pusher = Pusher(
            lambda: self.config, env or {}, clock=lambda: self.now, jitter=lambda: 0.5, post=Post(seconds=2.0)
        )
        self.number = 0

    def configure(self, project: Project, **settings: Any) -> None:
        project.configure(
            {"code": None}, notifications={"subject_prefix": "Shop", **settings}, report={"timezone": "Europe/Berlin"}
        )
        self.config: ProducerConfig = project.config()

    def entry(self, event: str = "idle", title: str = "idle", text: str = "2 tasks", tries: int = 0) -> Pending:
        self.number += 1
        body = {"event": event, "title": title, "text": text, "at": self.now}
        return Pending(f"E{self.number}", "push", body, tries)

    def send(self, *entries: Pending) -> list[Told]:
        return list(self.pusher.deliver(entries))

    def whats(self, *entries: Pending) -> list[str]:
        return [told.what for told in self.send(*entries)]


MakeDesk = Callable[..., Desk]


@pytest.fixture
def desk(project: Project, ntfy: Ntfy) -> Desk:
    return Desk(project, ntfy)


def test_a_push_arrives_with_title_priority_and_tags(desk: Desk, ntfy: Ntfy) -> None:
    assert desk.whats(desk.entry("kill_switch", "the kill switch is armed", "")) == ["done"]
    (got,) = ntfy.messages
    assert got == {
        "topic": TOPIC, "title": "Shop: the kill switch is armed", "message": "see needs-attention.md", "priority": 5,
        "tags": ["octagonal_sign"],
    }  # fmt: skip
    assert ntfy.requests[0].path == "/", "the topic is a secret and stands in no URL"


def test_titles_that_are_not_ascii_arrive_as_they_are(desk: Desk, ntfy: Ntfy) -> None:
    desk.send(desk.entry(title="Rolle »código« ist zurück 日本\r\nPriority: max"))
    assert ntfy.titles() == ["Shop: Rolle »código« ist zurück 日本 Priority: max"]


def test_a_click_leads_to_the_dashboard_where_one_is_configured(project: Project, ntfy: Ntfy) -> None:
    desk = Desk(project, ntfy, dashboard_url="https://producer.example.com/")
    desk.send(desk.entry())
    assert ntfy.messages[0]["click"] == "https://producer.example.com"


@pytest.mark.parametrize("token", ["tk_secret", "  tk_secret\n"])
def test_the_token_goes_to_the_server(project: Project, serve: Callable[..., Ntfy], token: str) -> None:
    ntfy = serve(token="tk_secret")
    desk = Desk(project, ntfy, {"MY_TOKEN": token}, ntfy_token_env="MY_TOKEN")
    assert desk.whats(desk.entry()) == ["done"]
    assert len(ntfy.messages) == 1


def test_a_name_and_a_password_are_basic_authentication(project: Project, ntfy: Ntfy) -> None:
    desk = Desk(project, ntfy, {"MY_TOKEN": "phil:se:cret"}, ntfy_token_env="MY_TOKEN")
    desk.send(desk.entry())
    assert ntfy.requests[0].headers["authorization"] == "Basic cGhpbDpzZTpjcmV0"


def test_the_token_follows_no_redirect(project: Project, ntfy: Ntfy, serve: Callable[..., Ntfy]) -> None:
    other = serve()
    ntfy.script.append(Answer(307, {"Location": other.url + "/"}))
    desk = Desk(project, ntfy, {"MY_TOKEN": "tk_secret"}, ntfy_token_env="MY_TOKEN")
    assert desk.whats(desk.entry()) == ["done"]
    assert other.requests == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
def test_what_the_server_never_takes_is_given_up_with_an_audit_row(
    desk: Desk, ntfy: Ntfy, tmp_path: Any, status: int
) -> None:
    ntfy.always = Answer(status)
    found = desk.send(desk.entry(), desk.entry())
    assert [told.what for told in found] == ["done", "done"]
    assert audited(found, tmp_path) == [{"event": "idle", "count": 2, "error": f"HTTP {status}: {error(status)}"}]
    assert len(ntfy.requests) == 1


def test_a_token_that_is_not_set_is_said_and_nothing_is_sent(project: Project, ntfy: Ntfy, tmp_path: Any) -> None:
    desk = Desk(project, ntfy, ntfy_token_env="MY_TOKEN")
    (row,) = audited(desk.send(desk.entry()), tmp_path)
    assert "MY_TOKEN is not set" in row["error"]
    assert ntfy.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_the_server_cannot_take_now_is_tried_later_and_later(desk: Desk, ntfy: Ntfy, status: int) -> None:
    ntfy.always = Answer(status)
    waits = []
    for tries in range(12):
        (told,) = desk.send(desk.entry(tries=tries))
        assert told.what == "again" and f"HTTP {status}" in told.error
        waits.append(told.not_before - desk.now)
        desk.now = told.not_before
    assert waits == sorted(waits) and waits[0] < 3 and waits[-1] <= LONGEST_WAIT
    ntfy.always = None
    assert desk.whats(desk.entry()) == ["done"]


def test_retry_after_counts(desk: Desk, ntfy: Ntfy) -> None:
    ntfy.script.append(Answer(429, {"Retry-After": "120"}))
    (told,) = desk.send(desk.entry())
    assert 120 <= told.not_before - desk.now <= 121


def test_a_server_that_limits_is_left_alone_until_it_may_be_asked(desk: Desk, ntfy: Ntfy) -> None:
    ntfy.script.append(Answer(429, {"Retry-After": "120"}))
    (first,) = desk.send(desk.entry())
    (second,) = desk.send(desk.entry("kill_switch"))
    assert (second.what, second.not_before) == ("later", first.not_before)
    assert len(ntfy.requests) == 1
    desk.now = first.not_before
    assert desk.whats(desk.entry("kill_switch")) == ["done"]


def test_of_several_events_only_one_tries_a_server_that_is_down(desk: Desk, ntfy: Ntfy) -> None:
    ntfy.close()
    assert desk.whats(desk.entry("idle"), desk.entry("cap"), desk.entry("escalation")) == ["again", "later", "later"]


@pytest.mark.parametrize("how", [Answer(silent_seconds=90), Answer(503, drip=True)])
def test_a_server_that_hangs_or_drips_is_given_a_bounded_time(desk: Desk, ntfy: Ntfy, how: Answer) -> None:
    ntfy.always = how
    (told,) = desk.send(desk.entry())
    assert told.what == "again" and "Timeout" in told.error


def test_a_server_that_hangs_up_is_asked_again(desk: Desk, ntfy: Ntfy) -> None:
    ntfy.always = Answer(drop=True)
    assert desk.whats(desk.entry()) == ["again"]


def test_a_server_that_is_not_there(desk: Desk, ntfy: Ntfy) -> None:
    ntfy.close()
    (told,) = desk.send(desk.entry())
    assert told.what == "again" and "ConnectError" in told.error


def test_what_could_not_be_sent_for_days_is_given_up(desk: Desk, ntfy: Ntfy, tmp_path: Any) -> None:
    ntfy.always = Answer(500)
    old, fresh = desk.entry(), desk.entry()
    old.body["at"] -= GIVE_UP_AFTER + 1
    found = desk.send(old, fresh)
    assert [(told.id, told.what) for told in found] == [(old.id, "done"), (fresh.id, "again")]
    assert [row["count"] for row in audited(found, tmp_path)] == [1]


def test_a_storm_is_one_message_an_event(desk: Desk, ntfy: Ntfy) -> None:
    entries = [desk.entry("escalation", "a task of code needs you", f"{n:026}") for n in range(50)]
    assert desk.whats(*entries, desk.entry()) == ["done"] * 51
    assert ntfy.titles() == ["Shop: a task of code needs you (and 49 more)", "Shop: idle"]
    assert f"{49:026}" in ntfy.messages[0]["message"]


def test_quiet_hours_hold_everything_but_the_highest_priority(project: Project, ntfy: Ntfy) -> None:
    desk = Desk(project, ntfy, quiet_hours="22:00-07:00")
    desk.now = NIGHT
    found = desk.send(desk.entry("escalation"), desk.entry("kill_switch"))
    assert [told.what for told in found] == ["later", "done"]
    assert found[0].not_before == NIGHT + 8 * 3600
    desk.now = found[0].not_before
    assert desk.whats(desk.entry("escalation")) == ["done"]


def test_heads_of_the_audit_log_leave_in_the_quiet_hours_without_a_sound(project: Project, ntfy: Ntfy) -> None:
    desk = Desk(project, ntfy, quiet_hours="22:00-07:00")
    desk.now = NIGHT
    assert desk.whats(desk.entry("audit_head", "audit log: 9 rows", "ai-producer/x 9 abc def")) == ["done"]
    (message,) = ntfy.messages
    assert message["priority"] == 1 and message["message"] == "ai-producer/x 9 abc def"


def test_a_configured_priority_of_max_breaks_the_quiet(project: Project, ntfy: Ntfy) -> None:
    desk = Desk(project, ntfy, quiet_hours="22:00-07:00", priority="max")
    desk.now = NIGHT
    assert desk.whats(desk.entry("idle"), desk.entry("back_online")) == ["done", "later"]


def test_an_event_that_is_switched_off_while_it_waits_is_dropped(desk: Desk, ntfy: Ntfy) -> None:
    events = dataclasses.replace(desk.config.notifications.events, idle=False)
    notifications = dataclasses.replace(desk.config.notifications, events=events)
    desk.config = dataclasses.replace(desk.config, notifications=notifications)
    assert desk.whats(desk.entry("idle"), desk.entry("wakeup"), desk.entry("cap")) == ["done"] * 3
    assert ntfy.titles() == ["Shop: idle"] and ntfy.messages[0]["tags"] == ["moneybag"]


class Rows:
    """As much of a kernel as the recording of a push needs, over a real ledger."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def audit(self, action: str, **detail: Any) -> None:
        self.store.audit.append(action, "producer", **detail)


def audited(found: list[Told], tmp_path: Any) -> list[dict[str, Any]]:
    """The details of the `push_given_up` rows that recording these would write."""
    store = Store(tmp_path / "ledger.db", head_file=None)
    try:
        with store.transaction():
            for told in found:
                if told.then:
                    told.then(Rows(store))  # type: ignore[arg-type]
        rows = store.db.rows("SELECT CAST(body AS TEXT) FROM audit WHERE action = 'push_given_up'")
        return [json.loads(text)["detail"] for (text,) in rows]
    finally:
        store.close()


def error(status: int) -> str:
    codes = {400: 40001, 401: 40101, 403: 40301}
    return f'{{"code": {codes.get(status, status * 100)}, "http": {status}, "error": "told to answer {status}"}}'
