"""A supervisor and an ntfy server that misbehaves: what a person is told, and that nothing waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from driving import Project, Supervisor
from ntfy_stand_in import Answer, Ntfy

Supervise = Callable[..., Supervisor]
TOPIC = "shop-0123456789abcdef0123456789abcdef"


def configure(project: Project, ntfy: Ntfy, roles: dict[str, Any] | None = None, **settings: Any) -> None:
    more = {name: settings.pop(name) for name in ("report",) if name in settings}
    notifications = {
        "ntfy_topic": TOPIC, "ntfy_server": ntfy.url, "subject_prefix": "Shop", "idle_wakeup_enabled": False,
        **settings,
    }  # fmt: skip
    project.configure(roles or {"code": None}, notifications=notifications, **more)


def waiting(project: Project) -> list[tuple[Any, ...]]:
    return project.rows("SELECT kind, tries, error FROM outbox")


def test_a_server_that_never_answers_delays_no_claim_and_no_file(
    project: Project, ntfy: Ntfy, supervise: Supervise
) -> None:
    ntfy.always = Answer(silent_seconds=3600)
    configure(project, ntfy)
    supervisor = supervise().ready()
    lost = project.file_task("hopeless", payload={"fail": "permanent"})
    supervisor.until(lambda: ntfy.requests, what="the push")
    done = [project.file_task(f"task {number}") for number in range(20)]
    supervisor.until_count("done", 20)
    supervisor.until(lambda: (project.state / "escalations" / f"{lost}.md").exists())
    supervisor.until(lambda: lost in project.attention())
    assert len(ntfy.requests) == 1, "the first request is still waiting for its answer"
    assert [kind for kind, tries, error in waiting(project)] == ["push"]
    assert len(done) == 20


def test_a_push_survives_failures_limits_and_a_restart_and_arrives_once(
    project: Project, ntfy: Ntfy, supervise: Supervise
) -> None:
    ntfy.script.extend([Answer(503), Answer(429, {"Retry-After": "1"})])
    configure(project, ntfy)
    supervisor = supervise().ready()
    first = project.file_task("hopeless", payload={"fail": "permanent"})
    supervisor.until(lambda: ntfy.messages, what="the push after two failures")
    assert [request.status for request in ntfy.requests] == [503, 429, 200]
    supervisor.until(lambda: not waiting(project))
    ntfy.always = Answer(500)
    second = project.file_task("hopeless too", payload={"fail": "permanent"})
    supervisor.until(lambda: len(ntfy.requests) > 3)
    supervisor.until(lambda: [tries for kind, tries, error in waiting(project) if tries])
    assert supervisor.stop() == 0
    ntfy.always = None
    again = supervise().ready()
    again.until(lambda: len(ntfy.messages) == 2, what="the push of the supervisor before")
    again.until(lambda: not waiting(project))
    assert [message["message"] for message in ntfy.messages] == [first, second]


def test_a_refused_push_is_given_up_and_audited(
    project: Project, serve: Callable[..., Ntfy], supervise: Supervise
) -> None:
    ntfy = serve(token="tk_right")
    configure(project, ntfy, ntfy_token_env="MY_TOKEN")
    supervisor = supervise(env={"MY_TOKEN": "tk_wrong"}).ready()
    project.file_task("hopeless", payload={"fail": "permanent"})
    row = supervisor.until_action("push_given_up")
    assert row["detail"]["event"] == "escalation" and "HTTP 403" in row["detail"]["error"]
    supervisor.until(lambda: not waiting(project))
    assert "tk_wrong" not in str(project.actions("push_given_up"))
    assert "needs you" in project.attention()


def test_words_of_agents_stay_on_the_machine(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    supervisor = supervise().ready()
    task = project.file_task("the launch code is 1234", payload={"fail": "permanent"}, description="the code is 5678")
    with project.client("eve") as client:
        client.append_audit(agent_owner="eve", action="x", detail={})
    supervisor.until(lambda: ntfy.messages)
    (got,) = ntfy.messages
    assert got["message"] == task and got["title"] == "Shop: a task of code needs you"
    supervisor.until(lambda: task in project.attention())
    assert "told to fail" in project.attention() and "told to fail" not in str(got)


def test_the_switch_armed_by_a_mere_file_is_pushed_with_the_highest_priority(
    project: Project, ntfy: Ntfy, supervise: Supervise
) -> None:
    configure(project, ntfy)
    supervisor = supervise().ready()
    (project.state / "kill_switch").touch()
    supervisor.until(lambda: ntfy.messages)
    assert ntfy.messages[0]["title"] == "Shop: the kill switch is armed"
    assert ntfy.messages[0]["priority"] == 5


def test_caps_and_soft_caps_are_pushed_and_an_event_that_is_off_is_only_written(
    project: Project, ntfy: Ntfy, supervise: Supervise
) -> None:
    roles = {"code": {"daily_cap_usd": 1}}
    configure(project, ntfy, roles, events={"soft_cap": False})
    supervisor = supervise().ready()
    project.file_task("dear", payload={"cost_usd": 0.999})
    project.file_task("one too many")
    supervisor.until(lambda: ntfy.messages)
    assert ntfy.titles() == ["Shop: role code is at its cap"]
    assert ntfy.messages[0]["message"].startswith("$0.999")
    supervisor.until(lambda: "soft cap" in project.attention() and "is at its cap" in project.attention())
    via = {row["detail"]["event"]: row["detail"]["via"] for row in project.actions("notify_human")}
    assert via == {"soft_cap": "file", "cap": "ntfy+file"}


def test_the_same_notice_over_and_over_is_told_a_few_times(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    supervisor = supervise().ready()
    for _ in range(8):
        supervisor.ask("kill", reason="flapping")
        supervisor.ask("resume")
    supervisor.ask("kill", reason="another reason")
    supervisor.until(lambda: "another reason" in project.attention())
    assert project.attention().count("flapping") == 3
    assert len(project.actions("kill_switch_observed")) == 9, "the audit log has every one"


def test_a_link_in_the_place_of_the_file_is_not_followed(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    victim = project.root / "profile"
    victim.write_text("untouched\n")
    project.state.mkdir()
    (project.state / "needs-attention.md").symlink_to(victim)
    supervisor = supervise().ready()
    project.file_task("hopeless", payload={"fail": "permanent"})
    supervisor.until(lambda: [kind for kind, tries, error in waiting(project) if kind == "notice" and tries])
    assert victim.read_text() == "untouched\n"
    supervisor.until(lambda: ntfy.messages, what="the push, which does not wait for the file")
    (project.state / "needs-attention.md").unlink()
    supervisor.until(lambda: "needs you" in project.attention(), what="the notice, once the link is gone")


def test_once_leaves_with_everything_told(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    task = project.file_task("hopeless", payload={"fail": "permanent"})
    assert supervise("--once").exits() == 1
    assert [message["message"] for message in ntfy.messages] == [task]
    assert task in project.attention()
    assert waiting(project) == []


def test_once_does_not_wait_for_the_end_of_the_quiet_hours(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    now = datetime.now(UTC)
    hours = "-".join((now + timedelta(hours=hours)).strftime("%H:%M") for hours in (-1, 2))
    configure(project, ntfy, quiet_hours=hours, report={"timezone": "UTC"})
    task = project.file_task("hopeless", payload={"fail": "permanent"})
    assert supervise("--once").exits() == 1
    assert task in project.attention()
    assert ntfy.requests == []
    assert waiting(project) == [("push", 0, None)], "held, which is no failure"


def test_the_audit_logs_head_is_pushed_and_proves_the_log(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    supervisor = supervise().ready()
    assert project.producerctl("kill", "stop").returncode == 0
    heads = supervisor.until(lambda: [m for m in ntfy.messages if "audit log" in m["title"]], what="the head")
    phone = project.root / "phone.txt"
    phone.write_text(heads[0]["message"])
    told = project.producerctl("audit", "verify", "--head", str(phone))
    assert told.returncode == 0 and "by the head from elsewhere" in told.stdout
