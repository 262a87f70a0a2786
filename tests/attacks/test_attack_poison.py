"""A message at which the supervisor breaks, by a fault that nobody knows of: it costs a new beginning, and ends nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attack_rig import filed
from driving import Project, Supervisor

from producer.errors import LedgerError, LedgerRefused
from producer.supervisor.suspects import Suspects
from producer.wire.auth import Peer
from producer.wire.messages import Progress
from producer.wire.server import Incoming

# The unknown fault: a result with this text is one that the code cannot settle. The worker keeps it, and sends it again.
FAULT = """
from producer.supervisor import runs
def conclude(self, run, message, before=runs.Runs._conclude):
    if message.text == "POISON":
        self._kernel.store.db.run("UPDATE tasks SET title = 'half done'")
        raise ZeroDivisionError("a fault that nobody knows of")
    return before(self, run, message)
runs.Runs._conclude = conclude
"""


@pytest.mark.parametrize("over", ["ipc", "tcp"])
def test_a_message_that_breaks_the_loop_is_tried_twice_and_dropped(
    project: Project, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise(prelude=FAULT).ready()
    [worker] = supervisor.workers()
    held = pidfds(supervisor)
    poisoned = supervisor.ask("insert_tasks", tasks=[{"agent_owner": "code", "title": "t", "description": "POISON"}])[0]
    supervisor.until_status(poisoned, "escalated")
    assert 0 < pidfds(supervisor) <= held, "a loop that is over holds none"
    assert len(project.actions("producer_boot")) == 3 and len(project.actions("message_dropped")) == 1
    assert project.task(poisoned)["title"] == "t", "what the broken turn did is undone"
    supervisor.until_status(filed(supervisor, title="honest"), "done")
    assert [found["pid"] for found in supervisor.workers()] == [worker["pid"]], "its worker goes on"
    assert len(project.actions("producer_boot")) == 3
    assert "ZeroDivisionError: a fault that nobody knows of" in supervisor.log()


def pidfds(supervisor: Supervisor) -> int:
    """How many descriptors of processes a supervisor has open."""
    links = [os.readlink(file) for file in Path(f"/proc/{supervisor.pid}/fd").iterdir() if file.is_symlink()]
    return sum("pidfd" in link for link in links)


def said(text: str, name: str = "w") -> Incoming:
    message = Progress(attempt="01JZZZZZZZZZZZZZZZZZZZZZZZ", kind="note", data={"text": text}, at=0.0)
    return Incoming("results", Peer("worker", name, "code"), b"", message)


@pytest.mark.parametrize(
    ("error", "blamed"), [(ValueError("x"), True), (LedgerRefused("x"), True), (LedgerError("the disk is full"), False)]
)
def test_only_what_is_the_messages_fault_is_held_against_it(error: Exception, blamed: bool) -> None:
    suspects = Suspects()
    answers: list[Any] = []
    for _ in range(2):
        assert not suspects.drops(said("a"))
        suspects.blame(said("a"), error)
        answers.append(suspects.news())
    assert suspects.drops(said("a")) is blamed
    assert answers == ["Progress of w on results" if blamed else None] * 2 and suspects.news() is None
    assert not suspects.drops(said("b")) and not suspects.drops(said("a", "another")), "others are heard"
    assert [suspects.first(said("a")), suspects.first(said("a"))] == [True, False]


def test_it_does_not_grow_without_end() -> None:
    suspects = Suspects()
    for number in range(3_000):
        suspects.blame(said(str(number)), ValueError())
    assert len(suspects._failed) == 1_000


# The same where SQLite refuses what the message would change, together with what others change.
REFUSED = """
from producer.supervisor import runs
def conclude(self, run, message, before=runs.Runs._conclude):
    if message.text == "POISON":
        self._kernel.store.db.defer("tasks", run.task, "UPDATE tasks SET status = ? WHERE id = ?", "nonsense", run.task)
        return
    return before(self, run, message)
runs.Runs._conclude = conclude
"""


def test_a_value_that_the_ledger_refuses_is_traced_to_its_message(
    project: Project, supervise: Callable[..., Supervisor]
) -> None:
    supervisor = supervise(prelude=REFUSED).ready()
    poisoned = supervisor.ask("insert_tasks", tasks=[{"agent_owner": "code", "title": "t", "description": "POISON"}])[0]
    supervisor.until_status(poisoned, "escalated")
    assert len(project.actions("message_dropped")) == 1
    assert len(project.actions("producer_boot")) == 4, "one to know that it is one of several, two tries"
    supervisor.until_status(filed(supervisor, title="honest"), "done")
    assert len(project.actions("producer_boot")) == 4
