"""How the tasks of a 0.3 ledger hang together: lineage, and dependencies as edges. Pure.

1. Every task has a root and a depth along its parents. A parent that does not exist, or a circle of parents, ends the
   line.
2. A dependency on a task that exists becomes an edge. Edges never close a cycle: others rely on that.
3. A task that would wait for ever (for a task that does not exist, or in a cycle) is escalated with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from producer.core.lifecycle import TaskState
from producer.ledger.takeover_notes import New, Note, Notes, Old


def set_lineage(tasks: Mapping[str, New]) -> None:
    """Root and depth of every task, along its parents; a circle of parents ends where it was entered."""
    for task in tasks.values():
        chain: dict[str, New] = {}
        here: New | None = task
        while here and "depth" not in here and here["id"] not in chain:
            chain[here["id"]] = here
            here = tasks.get(here["parent_task_id"] or "")
        above = here if here and "depth" in here else None
        for one in reversed(chain.values()):
            one["root_task_id"] = above["root_task_id"] if above else one["id"]
            one["depth"] = above["depth"] + 1 if above else 0
            above = one


def link(olds: Mapping[int, Old], tasks: Mapping[int, New], notes: Notes) -> list[tuple[str, str]]:
    """The dependencies that can be waited for; a task that waits for another kind is escalated."""
    rows = {task["id"]: rowid for rowid, task in tasks.items()}

    def refuse(ident: str, reason: str) -> None:
        task, row = tasks[rows[ident]], olds[rows[ident]]
        if row["status"] in _WAITING:
            notes.escalate(task, row, reason)
        else:
            notes.changed.append(Note("tasks", ident, "dependencies", reason))

    graph: dict[str, dict[str, None]] = {}
    for ident in rows:
        needed = dict.fromkeys(json.loads(tasks[rows[ident]]["dependencies"]))
        graph[ident] = {item: None for item in needed if item in rows}
        if missing := [item for item in needed if item not in rows]:
            refuse(ident, f"depends on {', '.join(missing)}, which does not exist")
    done = {task["id"] for task in tasks.values() if task["status"] == TaskState.DONE}
    for circle in _break_cycles(graph, done):
        for ident in dict.fromkeys(circle):
            refuse(ident, f"its dependencies close a cycle: {' -> '.join(circle)}")
    return [(task, item) for task, needed in graph.items() for item in needed]


_WAITING = (TaskState.PENDING, TaskState.IN_PROGRESS)


def _break_cycles(graph: dict[str, dict[str, None]], done: set[str]) -> list[list[str]]:
    """Take the edges of every cycle out of the graph; the cycles in which each waited for the next.

    A task that is done waits for nothing: where a cycle leads through one, only that task's edges are taken out.
    """
    found: list[list[str]] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return found
        except CycleError as error:
            circle = list(reversed(error.args[1]))
        settled = [here for here in circle[:-1] if here in done]
        for here, needed in pairwise(circle):
            if not settled or here in settled:
                del graph[here][needed]
        if not settled:
            found.append(circle)
