"""A supervisor with nothing to do: what it tells, whom it wakes, and when it stops asking."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from driving import Project, Supervisor
from ntfy_stand_in import Ntfy

from producer.errors import LimitReached
from producer.ids import from_iso

Supervise = Callable[..., Supervisor]
TOPIC = "shop-0123456789abcdef0123456789abcdef"
AGENT = '''
import re
from producer import LedgerClient, InvocationResult


class Agent:
    """Files a task when it is woken, as a script that follows the prompt of 0.3.x does."""

    def invoke(self, agent_role, prompt, **more):
        if agent_role == "wakeup":
            task = re.search(r"^Task: (\\S+)$", prompt, re.M).group(1)
            client = LedgerClient("agent-state/ledger.db")
            client.insert_task(agent_owner="code", title="found", description="found", caused_by_task_id=task)
            client.close()
        return InvocationResult(text="all is well", cost_usd=0.0)
'''


def configure(project: Project, ntfy: Ntfy | None = None, wakeup: bool = False, **settings: Any) -> None:
    """Idle after a fifth of a second."""
    notifications = {"idle_wakeup_enabled": wakeup, "idle_wakeup_cooldown_seconds": 0, **settings}
    if ntfy:
        notifications |= {"ntfy_topic": TOPIC, "ntfy_server": ntfy.url, "subject_prefix": "Shop"}
    roles = {"code": None, "wakeup": None} if wakeup else {"code": None}
    project.configure(roles, notifications=notifications, poll_interval_seconds=0.05, idle_threshold_polls=4)


def notices(project: Project) -> list[str]:
    return [row["detail"]["event"] for row in project.actions("notify_human")]


def verdicts(project: Project) -> list[str]:
    return [row["detail"]["verdict"] for row in project.actions("idle_wakeup_verdict")]


def skips(project: Project) -> list[str]:
    return [row["detail"]["reason"] for row in project.actions("idle_wakeup_skipped")]


def test_idleness_and_its_end_are_told_once_each(project: Project, ntfy: Ntfy, supervise: Supervise) -> None:
    configure(project, ntfy)
    supervisor = supervise().ready()
    supervisor.until(lambda: notices(project) == ["idle"])
    task = project.file_task("work", payload={"sleep_seconds": 1.5})
    supervisor.until_status(task, "done")
    supervisor.until(lambda: len(notices(project)) >= 3, what="idle, back online, idle")
    assert notices(project) == ["idle", "back_online", "idle"]
    supervisor.until(lambda: len(ntfy.messages) == 3)
    assert ntfy.titles() == ["Shop: idle", "Shop: back online", "Shop: idle"]
    assert ntfy.messages[1]["priority"] == 1
    supervisor.until(lambda: project.attention().count("**idle**") == 2)
    assert project.attention().count("**back online**") == 1


def test_a_restart_does_not_tell_it_again(project: Project, supervise: Supervise) -> None:
    configure(project)
    supervisor = supervise().ready()
    supervisor.until(lambda: notices(project) == ["idle"])
    supervisor.stop()
    again = supervise().ready()
    task = project.file_task("work")
    again.until_status(task, "done")
    again.until(lambda: len(notices(project)) > 1)
    assert notices(project)[1] == "back_online"


def test_a_queue_that_waits_for_a_retry_is_not_idle_and_one_that_waits_for_a_person_is(
    project: Project, supervise: Supervise
) -> None:
    configure(project)
    task = project.file_task("a page", payload={"fail": True})
    supervisor = supervise().ready()
    supervisor.until_action("task_failed")  # tried again in half a minute or later, as configured
    project.file_task("a question", requires_approval=True)
    supervisor.ask("kill_task", task_id=task, reason="enough")
    supervisor.until(lambda: "idle" in notices(project))
    (row,) = [row for row in project.actions("notify_human") if row["detail"]["event"] == "idle"]
    killed = project.actions("task_killed")[-1]
    assert row["seq"] > killed["seq"], "not idle while a retry was to come"
    supervisor.until(lambda: "pending: 1" in project.attention())


def test_an_armed_switch_is_not_idleness(project: Project, supervise: Supervise) -> None:
    configure(project)
    project.state.mkdir()
    (project.state / "kill_switch").touch()
    supervisor = supervise().ready(0)
    began = from_iso(supervisor.until_action("kill_switch_observed")["at"])
    supervisor.until(lambda: time.time() > began + 1, what="five times the threshold")
    assert notices(project) == ["kill_switch"]
    supervisor.ask("resume")
    supervisor.until(lambda: notices(project) == ["kill_switch", "idle"])


def test_wakeups_that_find_nothing_end_until_something_is_filed(
    project: Project, ntfy: Ntfy, supervise: Supervise
) -> None:
    configure(project, ntfy, wakeup=True)
    supervisor = supervise().ready()
    supervisor.until(lambda: verdicts(project) == ["done", "done"])
    supervisor.until(lambda: "suppressed" in skips(project))
    assert notices(project).count("idle") == 1, "a wake-up is neither work nor the end of the spell"
    assert "back_online" not in notices(project)
    supervisor.until(lambda: len(ntfy.messages) == 3)
    assert "no more wake-ups" in ntfy.messages[2]["message"] and "no more" not in ntfy.messages[1]["message"]
    [idle] = [line for line in project.attention().splitlines() if "**idle**" in line]
    assert "pending" not in idle, "nothing waits but the wake-up"

    project.file_task("work", requires_approval=True)  # filed, though nothing runs: the count begins anew
    supervisor.until(lambda: verdicts(project) == ["done"] * 4)
    supervisor.ask("kill", reason="a toggle")
    supervisor.ask("resume")
    supervisor.until(lambda: len(verdicts(project)) == 6)
    assert len(project.actions("idle_wakeup_dispatched")) == 6


def test_a_wakeup_carries_what_its_agent_needs(project: Project, supervise: Supervise) -> None:
    configure(project, wakeup=True, idle_wakeup_cooldown_seconds=3600)
    done = project.file_task("the page is built")
    lost = project.file_task("the `other` page", payload={"fail": "permanent"})
    supervisor = supervise().ready()
    ident = supervisor.until_action("idle_wakeup_dispatched")["task"]
    task = project.task(ident)
    assert (task["agent_owner"], task["priority"], task["parent_task_id"]) == ("wakeup", 0, None)
    assert task["payload"]["trigger"] == "idle_threshold" and task["payload"]["idle_polls"] == 4
    assert task["payload"]["wakeup_task_id"] == ident
    for needed in (ident, "insert_task", "for the roles code", f"- {done} done [code] the page is built", lost):
        assert needed in task["description"]
    supervisor.until(lambda: verdicts(project) == ["done"])
    assert verdicts(project) == ["done"]


def test_the_cooldown_outlives_the_supervisor_and_is_noted_once(project: Project, supervise: Supervise) -> None:
    configure(project, wakeup=True, idle_wakeup_cooldown_seconds=3600)
    supervisor = supervise().ready()
    supervisor.until(lambda: verdicts(project) == ["done"])
    row = supervisor.until_action("idle_wakeup_skipped")
    assert row["detail"]["reason"] == "cooldown" and row["detail"]["until"]
    supervisor.stop()
    again = supervise().ready()
    again.until(lambda: skips(project) == ["cooldown"] * 2)
    assert len(project.actions("idle_wakeup_dispatched")) == 1


def test_a_wakeup_under_way_is_taken_up_by_the_next_supervisor(project: Project, supervise: Supervise) -> None:
    configure(project, wakeup=True, idle_wakeup_cooldown_seconds=3600)
    (project.root / "slow.py").write_text(
        "import time\nfrom producer import InvocationResult\n"
        "class Agent:\n    def invoke(self, *a, **m):\n        time.sleep(2)\n"
        "        return InvocationResult(text='nothing', cost_usd=0.0)\n"
    )
    supervisor = supervise(invoker="slow:Agent").ready()
    supervisor.until_action("dispatch")
    supervisor.kill()
    again = supervise(invoker="slow:Agent").ready()
    again.until(lambda: verdicts(project) == ["done"])
    assert len(project.actions("idle_wakeup_dispatched")) == 1


def test_a_wakeup_that_filed_is_queued_and_work_resumes(project: Project, supervise: Supervise) -> None:
    configure(project, wakeup=True, idle_wakeup_cooldown_seconds=3600)
    (project.root / "woken.py").write_text(AGENT)
    supervisor = supervise(invoker="woken:Agent").ready()
    row = supervisor.until_action("idle_wakeup_verdict")
    assert row["detail"]["verdict"] == "queued" and row["detail"]["tasks_queued"] == 1
    (filed,) = row["detail"]["filed"]
    supervisor.until_status(filed, "done")
    supervisor.until(lambda: "back_online" in notices(project))
    supervisor.until(lambda: "wake-up: 1 task filed" in project.attention() and "all is well" in project.attention())


def test_a_wakeup_that_is_given_up_counts_as_one_that_found_nothing(project: Project, supervise: Supervise) -> None:
    configure(project, wakeup=True)
    (project.root / "broken.py").write_text(
        "from producer import InvocationResult\n"
        "class Agent:\n    def invoke(self, *a, **m):\n"
        "        return InvocationResult(text='', cost_usd=0.0, sdk_error='invalid_request: no')\n"
    )
    project.configure(
        {"code": None, "wakeup": {"retry": {"max": 1}}}, poll_interval_seconds=0.05, idle_threshold_polls=4,
        notifications={"idle_wakeup_cooldown_seconds": 0},
    )  # fmt: skip
    supervisor = supervise(invoker="broken:Agent").ready()
    supervisor.until(lambda: verdicts(project) == ["failed", "failed"])
    supervisor.until(lambda: "suppressed" in skips(project))


@pytest.mark.parametrize(
    ("roles", "op", "reason"),
    [
        ({"code": None}, None, "no_role"),
        ({"code": None, "wakeup": {"workers": 0}}, None, "role_without_workers"),
        ({"code": None, "wakeup": None}, {"role": "wakeup"}, "role_draining"),
        ({"code": None, "wakeup": None}, {"role": "code"}, "stuck_work"),
    ],
)
def test_no_wakeup_where_it_could_not_run_or_would_not_help(
    project: Project, supervise: Supervise, roles: dict[str, Any], op: dict[str, str] | None, reason: str
) -> None:
    project.configure(roles, poll_interval_seconds=0.05, idle_threshold_polls=4)
    project.state.mkdir()
    (project.state / "kill_switch").touch()  # until everything is as the test wants it
    supervisor = supervise()
    supervisor.until_action("kill_switch_observed")
    if op:
        supervisor.ready(0).ask("drain", **op)
    if reason == "stuck_work":
        project.file_task("work")
    supervisor.ready(0).ask("resume")
    assert supervisor.until_action("idle_wakeup_skipped")["detail"]["reason"] == reason
    assert project.actions("idle_wakeup_dispatched") == []
    supervisor.until(lambda: re.search(r"\*\*idle\*\*.*no wake-up", project.attention()))


def test_a_wakeup_files_no_wakeup(project: Project) -> None:
    woken = project.file_task("wake up", role="wakeup")
    child = project.file_task("found", caused_by_task_id=woken, parent_task_id=woken)
    with project.client() as client:
        for cause in ({"caused_by_task_id": woken}, {"parent_task_id": woken}, {"parent_task_id": child}):
            with pytest.raises(LimitReached, match="a wake-up files no wake-up"):
                client.insert_task(agent_owner="wakeup", title="again", description="again", **cause)
    assert project.file_task("by hand", role="wakeup")
