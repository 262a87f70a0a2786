"""Wake-ups: the task that asks the role `wakeup` what is left to do, and what came of it.

One is open at a time. Its id is remembered in the ledger until its verdict is audited: `queued` where it filed tasks,
`done` where it completed and filed none, `failed` where it was given up and filed none. What the agent answered goes to
needs-attention.md; what is pushed is how many tasks it filed, and their ids.
"""

from __future__ import annotations

from producer.core.guards import Limits
from producer.core.idle import WAKEUP, verdict
from producer.core.text import one_line
from producer.ids import new_id
from producer.ledger.model import Draft, Filing
from producer.ledger.quiet import Quiet
from producer.supervisor.kernel import Kernel

MEMORY = "wakeup"  # the remembered fact: the id of the wake-up that has no verdict yet
ENDED = ("done", "escalated", "killed", "failed")
MOST = 5
LISTED = 20
TITLE = "Idle wake-up: review and re-queue"
TASK = """\
The queue has been empty for {seconds} s. Find out which of the two it is: the goals are met, or somebody forgot to file
what comes next.

1. Read the goals in {goals}, then look at the project's files, as far as it takes to compare them with the goals.
2. The lists below are the ledger's, as they are now; mcp__ledger__list_tasks shows more.
3. Where work is missing, file it with mcp__ledger__insert_task: at most {most} tasks, for the roles {roles}.
   Say in each which goal it serves. It is linked to this wake-up by itself; a script that files through LedgerClient
   passes caused_by_task_id="{task}".
4. Where nothing is missing, file nothing and say so. Work that waits for a person stays where it is.
5. Never file a task for the role {wakeup}; it is refused. Change no file.

Your last answer is what a person reads about this: ten lines at most.

Done last:
{done}

Waiting for other tasks, for an approval or for a role:
{open}

Waiting for a person (escalated or failed):
{stuck}
"""


class Wakeups:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._quiet = kernel, Quiet(kernel.store.db)
        self.open = kernel.store.meta(MEMORY) or None

    def send(self, seconds: float) -> None:
        """File a wake-up, after ``seconds`` of quiet."""
        kernel, ident = self._kernel, new_id()
        payload = {
            "trigger": "idle_threshold", "idle_seconds": int(seconds),
            "idle_polls": kernel.config.idle_threshold_polls, "wakeup_task_id": ident,
        }  # fmt: skip
        draft = Draft(WAKEUP, TITLE, self._description(ident, seconds), payload, priority=0, task_id=ident)
        kernel.store.queue.file([draft], Filing("producer"), Limits())
        kernel.audit("idle_wakeup_dispatched", task=ident, idle_seconds=int(seconds))
        self._remember(ident)

    def settle(self) -> None:
        """Audit the verdict of the open wake-up, once it has ended."""
        if self.open is None:
            return
        outcome = self._quiet.outcome(self.open)
        if outcome is None:
            self._remember(None)
        elif outcome[0] in ENDED:
            self._conclude(self.open, *outcome)
            self._remember(None)

    def _conclude(self, task: str, status: str, answer: str) -> None:
        kernel, (count, filed) = self._kernel, self._quiet.filed_by(task)
        word = verdict(status == "done", count)
        kernel.audit("idle_wakeup_verdict", task=task, verdict=word, tasks_queued=count, filed=filed)
        title = {
            "queued": f"wake-up: {count} task{'s' if count != 1 else ''} filed",
            "done": "wake-up: nothing left to do",
            "failed": "wake-up: failed",
        }[word]
        most = kernel.config.notifications.idle_wakeup_max_consecutive_done
        ids = ", ".join([task, *filed])
        if word != "queued" and self._quiet.idle_in_a_row(most) >= most:
            ids += "; no more wake-ups until something is filed or done, or the kill switch is turned"
        kernel.notify("wakeup", title, f"{one_line(answer, 2000) or 'no answer'} ({ids})", push=ids)

    def _remember(self, task: str | None) -> None:
        self.open = task
        self._kernel.store.set_meta(MEMORY, task or "")

    def _description(self, ident: str, seconds: float) -> str:
        config = self._kernel.config
        goals = config.roles["producer"].prompt if "producer" in config.roles else None
        lists = {kind: self._list(kind) for kind in ("done", "open", "stuck")}
        return TASK.format(
            seconds=int(seconds), goals=goals or "the project's own documents", most=MOST, task=ident, wakeup=WAKEUP,
            roles=", ".join(name for name in config.roles if name != WAKEUP) or "of producer.yaml", **lists,
        )  # fmt: skip

    def _list(self, kind: str) -> str:
        rows = self._quiet.recent(kind, LISTED)
        lines = [f"- {r['id']} {r['status']} [{r['agent_owner']}] {one_line(r['title'], 120)}" for r in rows]
        return "\n".join(lines) or "- none"
