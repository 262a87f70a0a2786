"""Worktrees of tasks, as the loop sees them: a place at dispatch, an order when the task is done, what came of it.

1. What a task's worktree is for is remembered in the ledger, under the task's id, until the branch is dealt with.
2. The order goes into the outbox in the transaction that makes the task done, and is carried out by a lane of the
   courier (carrying.py). What came of it, with the follow-up task, is one transaction again: after a crash the order
   is carried out once more, which changes nothing that was done, and a follow-up task is filed once.
3. Tasks that depend on one whose branch is not dealt with yet wait for that, and for its follow-up tasks.
4. The branch to merge into is known from a task's first dispatch on: the operator may check out another one meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from producer import killswitch, sandbox, worktree
from producer.config import ProducerConfig
from producer.config.load import line_in
from producer.core.guards import Limits
from producer.core.workspace import Kind, Work, go_on, mode
from producer.errors import ConfigError, InvalidTask, NoWorkspace
from producer.ledger.model import Claim, Draft, Filing
from producer.ledger.records import Pending
from producer.ledger.views import Reader
from producer.ledger.workspaces import KIND
from producer.ledger.workspaces import Workspaces as Known
from producer.supervisor import carrying
from producer.supervisor.kernel import Kernel
from producer.supervisor.told import Told
from producer.worktree import Repository

AGAIN_SECONDS = 0.5
TEND_SECONDS = 60.0
TITLE_BYTES = 2000
FILES_LISTED = 100
NAMED = 5  # files in a notice
TITLES = {"conflict": "Resolve the conflict of", "revision": "Revise", "review": "Review"}
NOTE = """

Your working directory is a git worktree of your own, on the branch {branch}. What you leave there is committed when you
are done, and then {then}. Do not push, and do not check out anything else.
"""
THEN = {"merge": "merged into {target}", "branch": "left as that branch", "review": "reviewed by the role {reviewer}"}


def check(config: ProducerConfig) -> Repository | None:
    """The repository of a project with worktrees, None where no role wants one. Raises ConfigError."""
    repository: Repository | None = None
    for name, role in config.roles.items():
        if role.workspace != "worktree":
            continue
        key = ("budget", "agents", name, "workspace")
        try:
            repository = repository or worktree.examine(config.project_root)
        except NoWorkspace as error:
            raise _refused(config, key, f"worktree is not possible: {error}") from None
        if role.merge_into is None and not repository.branch:
            problem = f"{repository.top} has no branch checked out: check one out, or name one with merge_into"
            raise _refused(config, key, f"worktree is not possible: {problem}")
        if role.merge_into is not None and not worktree.has_branch(repository.top, role.merge_into):
            problem = f"{role.merge_into} is not allowed: it must be a branch of {repository.top}"
            raise _refused(config, (*key[:-1], "merge_into"), problem)
    return repository


def _refused(config: ProducerConfig, key: tuple[str, ...], problem: str) -> ConfigError:
    line = line_in(config.source, key) if config.source else None
    return ConfigError(problem, file=config.source, line=line, key=".".join(key))


class Workspaces:
    """Runs inside the batch's transaction, except ``deliver``, which the courier calls."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._known = kernel, Known(kernel.store.db, kernel.store.audit)
        self._unfinished = self._known.ordered()
        self._next_tend, self._tended = 0.0, False
        self._used = bool(self._known.marks.all())
        self.reload()

    def reload(self) -> None:
        """The configuration was replaced."""
        self._repository = check(self._kernel.config)
        self._used |= self._repository is not None

    # ---- dispatch

    def message(self, claim: Claim, prompt: str) -> dict[str, Any]:
        """The fields of a task's message that say where it works; none where that is the project's directory."""
        fact = (self._known.marks.get(claim.task) or self._new(claim)) if self._used else None
        if fact is None:
            return {}
        place, work = worktree.Place.of(fact), Work(**fact["work"])
        then = THEN["merge" if work.kind == "conflict" else work.on_done]
        if work.kind == "review":
            then = "merged into {target} if you approve"
        note = NOTE.format(branch=place.branch, then=then.format(target=place.target, reviewer=work.reviewer))
        cwd = "/".join(part for part in (place.path, fact["inside"]) if part)
        return {"workspace": place.fact(), "cwd": cwd, "prompt": prompt + note}

    def _new(self, claim: Claim) -> dict[str, Any] | None:
        role, repository = self._kernel.config.roles.get(claim.role), self._repository
        if role is None or repository is None or role.workspace != "worktree":
            return None
        path = self._kernel.places.worktrees / claim.task
        target = role.merge_into or repository.branch
        place = worktree.Place(repository.top, str(path), f"producer/{claim.task}", target)
        work = Work("task", claim.role, role.on_done, role.reviewer)
        fact = {**place.fact(), "inside": repository.inside, "origin": claim.task, "work": asdict(work)}
        self._known.marks.set(claim.task, fact)
        return fact

    def waits(self, task: str) -> bool:
        """Whether a task has to wait for a branch; then it is put back for a moment."""
        return bool(self._unfinished) and self._known.waits(task, self._unfinished, AGAIN_SECONDS)

    def busy(self) -> bool:
        """Whether an order is still to be carried out for the first time."""
        return not all(self._unfinished.values())

    # ---- orders

    def done(self, task: str, attempt: str) -> None:
        """A task is done: order what is to become of its branch."""
        fact = self._known.marks.get(task) if self._used else None
        if fact is None:
            return
        work = Work(**fact["work"])
        verdict = self._known.verdict(task) if work.kind == "review" else None
        words = "" if verdict is None else f"{verdict[0]}\n\n{verdict[1]}"
        self._order(task, attempt, mode(work, verdict and verdict[0]), fact, words)

    def _order(self, task: str, attempt: str | None, what: str, fact: Mapping[str, Any], words: str = "") -> None:
        role, title, _, _, cost = self._known.about(task)
        body = {
            "task": task, "attempt": attempt, "mode": what, "fact": dict(fact), "words": words, "role": role,
            "title": title, "about": self._known.about(fact["origin"])[1], "cost_micros": cost,
            "warded": sandbox.warded(self._kernel.config, Path(fact["repository"])),
        }  # fmt: skip
        self._kernel.store.outbox.put(KIND, body)
        self._unfinished[task] = False

    def tend(self) -> None:
        """Now and then: worktrees whose task is over, and that nobody ordered anything for, may go."""
        now = self._kernel.monotonic()
        if now < self._next_tend or not self._used:
            return
        self._next_tend = now + TEND_SECONDS
        facts, first = self._known.marks.all(), not self._tended
        self._tended = True  # what was kept is looked at again once a start: a person may have dealt with it
        idle = [
            task for task, fact in facts.items() if task not in self._unfinished and (first or not fact.get("kept"))
        ]
        for task in self._known.over(idle):
            if self._kernel.store.attempts.running_of_task(task) is None:
                self._order(task, None, "clean", facts[task])

    def deliver(self, due: Sequence[Pending], reader: Reader) -> Iterator[Told]:
        """Carry orders out, off the loop; none while the kill switch is armed."""
        for entry in due:
            if killswitch.read(self._kernel.config.kill_switch).armed:
                yield carrying.later(entry)
            else:
                outcome = carrying.carry_out(entry)
                if isinstance(outcome, carrying.Stuck):
                    yield outcome.told(entry, partial(self._stuck, entry, outcome))
                else:
                    yield Told(entry.id, then=partial(self._finish, entry.body, outcome))

    # ---- what came of it

    def _stuck(self, entry: Pending, outcome: carrying.Stuck, kernel: Kernel) -> None:
        self._unfinished[entry.body["task"]] = True
        if entry.tries:
            return
        task, branch = entry.body["task"], entry.body["fact"]["branch"]
        kernel.audit("workspace_stuck", task=task, branch=branch, error=outcome.why)
        kernel.notify("workspace", "a branch waits to be merged", f"{task}: {branch}: {outcome.why}", push=task)

    def _finish(self, body: Mapping[str, Any], outcome: carrying.Outcome, kernel: Kernel) -> None:
        task, fact = str(body["task"]), body["fact"]
        self._unfinished.pop(task, None)
        branch, target = fact["branch"], fact["target"]
        match outcome.what:
            case "merged":
                kernel.audit("workspace_merged", task=task, branch=branch, into=target, commit=outcome.commit)
                self._keep_or_forget(task, fact, outcome.removed)
            case "left":
                kernel.audit("workspace_left", task=task, branch=branch)
                if body["mode"] == "undecided":
                    self._tell(task, branch, "the reviewer recorded no decision of the kind review")
                self._keep_or_forget(task, fact, outcome.removed)
            case "warded":
                listed = ", ".join(outcome.files[:NAMED]) + (", ..." if len(outcome.files) > NAMED else "")
                self._tell(task, branch, f"it changes {listed}, which only you may: look at it and merge it yourself")
                self._keep_or_forget(task, fact, outcome.removed)
            case "cleaned":
                self._keep_or_forget(task, fact, outcome.removed)
            case "conflict" | "revision" | "review":
                self._follow_up(body, outcome.what, outcome.files)

    def _keep_or_forget(self, task: str, fact: Mapping[str, Any], removed: bool) -> None:
        if removed:
            self._known.marks.forget(task)
            return
        if fact.get("kept"):
            return  # it was told
        self._known.marks.set(task, {**fact, "kept": True})
        self._kernel.audit("workspace_kept", task=task, path=fact["path"])
        self._kernel.notify(
            "workspace",
            "a worktree was kept",
            f"{task}: {fact['path']} holds uncommitted work, or is damaged",
            push=task,
        )

    def _follow_up(self, body: Mapping[str, Any], kind: Kind, files: Sequence[str]) -> None:
        task, fact, before = str(body["task"]), body["fact"], Work(**body["fact"]["work"])
        work = go_on(before, kind)
        if work is None:
            self._tell(task, fact["branch"], f"given back {before.round} times")
            return
        listed = list(files)[:FILES_LISTED]
        draft = self._draft(task, fact, kind, work, listed, body["words"])
        try:
            [ident] = self._kernel.store.queue.file([draft], Filing("producer"), Limits(title_bytes=TITLE_BYTES))
        except InvalidTask as error:
            self._tell(task, fact["branch"], str(error))
            return
        self._kernel.audit(f"workspace_{kind}", task=task, branch=fact["branch"], follow_up=ident, files=listed)
        self._known.marks.set(ident, {**fact, "bring": kind == "conflict", "work": asdict(work)})
        self._known.marks.forget(task)
        self._known.wait_also(task, ident)

    def _draft(self, task: str, fact: Mapping[str, Any], kind: Kind, work: Work, files: list[str], words: str) -> Draft:
        """The follow-up task; it speaks of the task that the branch was begun for."""
        _, title, description, priority, _ = self._known.about(fact["origin"])
        time = work.round + (kind == "review")
        payload = {"kind": kind, "of": task, "branch": fact["branch"], "into": fact["target"], "files": files}
        return Draft(
            work.reviewer if kind == "review" and work.reviewer else work.role,
            f"{TITLES[kind]} {title}" + (f" ({time})" if time > 1 else ""),
            carrying.instructions(kind, fact, files, words, description),
            {"workspace": payload},
            priority,
            parent_task_id=task,
        )

    def _tell(self, task: str, branch: str, why: str) -> None:
        self._kernel.audit("workspace_needs_you", task=task, branch=branch, reason=why)
        body = f"{task}: the branch {branch} is not merged: {why}"
        self._kernel.notify("workspace", "a branch needs you", body, push=task)
