"""A task's own git worktree: made for it, committed when it is done, merged, removed.

1. One worktree and one branch a task, at a path that stays the same over its attempts. The worker makes it before the
   agent starts; everything after the run is done by the supervisor's git lane, one thing at a time.
2. A merge is worked out in git's object store (merge-tree, commit-tree): no checked-out file is touched for it. Then
   the target branch moves on. Where it is checked out, `git merge --ff-only` moves it, which refuses rather than
   overwrite a change or a file that is not in the history; else a compare-and-swap of the ref does.
3. Every step may be done twice: after a crash in the middle, doing all of it again finishes what is missing.
4. A worktree that holds uncommitted work is never removed. What .gitignore names counts as a by-product.
5. A merge that would change what is warded (producer.yaml, prompts, settings) is not made: what an agent wrote there
   would be obeyed by the next run. git can commit it without a file, so the sandbox alone does not keep it out.
6. A conflict is worked into the worktree of its follow-up task, with git's markers in the files. It counts as solved
   when no marker is left in them.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from producer.errors import NoWorkspace, WorkspaceError
from producer.git import OLDEST, Git

READY = "producer-ready"  # in the worktree's administrative directory: its files are all there
TRIES = 5
MARKER = re.compile(rb"^(<{7}|>{7}) ", re.M)


@dataclass(frozen=True)
class Repository:
    """The repository that a project lies in. ``inside``: the project's place below its top; ``branch``: checked out."""

    top: str
    inside: str
    branch: str


@dataclass(frozen=True)
class Place:
    """A worktree: whose ``repository``, its ``path``, its ``branch``, and the branch that it is to be merged into.

    ``bring``: begin with the target merged in, conflicts and all.
    """

    repository: str
    path: str
    branch: str
    target: str
    bring: bool = False

    @classmethod
    def of(cls, fact: Mapping[str, Any]) -> Place:
        """The inverse of ``fact``; other keys are ignored."""
        repository, path, branch, target = (str(fact[name]) for name in ("repository", "path", "branch", "target"))
        return cls(repository, path, branch, target, bool(fact.get("bring")))

    def fact(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Author:
    """Who commits, and the trailers of what is committed."""

    name: str
    trailers: Mapping[str, str]

    def message(self, subject: str) -> str:
        """A commit's message."""
        return f"{subject}\n\n" + "\n".join(f"{name}: {value}" for name, value in self.trailers.items()) + "\n"

    def env(self) -> dict[str, str]:
        """git's variables for author and committer."""
        both = {"NAME": f"{self.name} (ai-producer)", "EMAIL": f"{self.name}@ai-producer.invalid"}
        return {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in both.items()}


@dataclass(frozen=True)
class Merged:
    """The branch is in the target; ``commit`` is None where there was nothing to merge."""

    commit: str | None


@dataclass(frozen=True)
class Conflict:
    """The branch and the target changed the same places of these files, or markers are left in them."""

    files: tuple[str, ...]


@dataclass(frozen=True)
class Warded:
    """The merge would change these files, which only a person may."""

    files: tuple[str, ...]


def examine(root: Path) -> Repository:
    """The repository of a project. Raises NoWorkspace with what is missing."""
    git = Git(root)
    try:
        version = tuple(int(part) for part in re.findall(r"\d+", git("version"))[:2])
        if version < OLDEST:
            raise NoWorkspace(f"needs git {OLDEST[0]}.{OLDEST[1]} or newer, this is {'.'.join(map(str, version))}")
        found = git.run("rev-parse", "--show-toplevel", "--show-prefix")
        if found.code:
            why = "" if "not a git repository" in found.why else f" that can be used ({found.why})"
            raise NoWorkspace(f"{root} is not in a git repository{why}: run `git init` and commit")
        top, _, inside = found.out.partition("\n")
        if git.run("rev-parse", "-q", "--verify", "HEAD^{commit}").code:
            raise NoWorkspace(f"{top} has no commit yet: commit something")
        return Repository(
            top, inside.strip("\n").rstrip("/"), git.run("symbolic-ref", "-q", "--short", "HEAD").out.strip()
        )
    except NoWorkspace:
        raise
    except WorkspaceError as error:
        raise NoWorkspace(str(error)) from None


def has_branch(repository: str, branch: str) -> bool:
    """Whether a local branch exists. Raises WorkspaceError."""
    return not Git(repository).run("rev-parse", "-q", "--verify", f"refs/heads/{branch}^{{commit}}").code


@contextmanager
def locked(place: Place) -> Iterator[tuple[int, ...]]:
    """Hold the repository for oneself; the processes that are started inherit the lock, and keep it till they end."""
    path = Path(place.path).parent / ".lock"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield (handle,)
    finally:
        os.close(handle)


# ---- before the run


def prepare(place: Place, cwd: Path | None = None) -> None:
    """Make the worktree where there is none yet, and bring the target in where that is asked. Raises WorkspaceError.

    ``cwd``: the agent's directory in it, which is made where nothing in it is tracked.
    """
    with locked(place) as held:
        git = Git(place.repository, held=held)
        if not (Path(place.path) / ".git").exists():
            _add(git, place)
        admin = _admin(git, place)
        own = Git(place.path, git_dir=admin, held=held)
        if not (admin / READY).exists():
            (admin / "index.lock").unlink(missing_ok=True)  # of a `git worktree add` that was killed: we hold the lock
            own("reset", "-q", "--hard")
            (admin / READY).touch()
        if cwd is not None:
            cwd.mkdir(parents=True, exist_ok=True)
        target = f"refs/heads/{place.target}"
        if place.bring and not (admin / "MERGE_HEAD").exists() and not _contains(own, "HEAD", target):
            own.run("merge", "-q", "--no-ff", "--no-commit", target, env=Author("git", {}).env())


def _add(git: Git, place: Place) -> None:
    path = Path(place.path)
    if path.exists() and any(path.iterdir()):
        path.rename(_free(path))  # not a worktree any more, and not ours to throw away
    known = not git.run("rev-parse", "-q", "--verify", f"refs/heads/{place.branch}").code
    new = [str(path), place.branch] if known else ["-b", place.branch, str(path), f"refs/heads/{place.target}"]
    git("worktree", "add", "-q", "-f", *new)


def _free(path: Path) -> Path:
    number = 1
    while (found := path.with_name(f"{path.name}.kept-{number}")).exists():
        number += 1
    return found


def _admin(git: Git, place: Place) -> Path:
    """The worktree's administrative directory: by the repository's word, not by the worktree's, where agents write."""
    common = Path(git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    for entry in sorted(common.glob("worktrees/*/gitdir")):
        with suppress(OSError):
            if Path(entry.read_text().strip()).parent.resolve() == Path(place.path).resolve():
                return entry.parent
    raise WorkspaceError(f"{place.path} is not a worktree of {place.repository}")


# ---- after the run


def commit(place: Place, subject: str, author: Author) -> Conflict | None:
    """Commit what the run left uncommitted to its branch; Conflict where conflict markers are left. Idempotent.

    Raises WorkspaceError.
    """
    with locked(place) as held:
        if not Path(place.path).exists():
            return None  # it was finished before
        admin = _admin(Git(place.repository, held=held), place)
        git = Git(place.path, git_dir=admin, held=held)
        if files := _unsolved(git, place):
            return Conflict(files)
        _on_branch(git, place)
        git("add", "-A")
        if (admin / "MERGE_HEAD").exists() or git.run("diff", "--cached", "--quiet").code:
            git("commit", "-q", "--no-verify", "-F", "-", stdin=author.message(subject), env=author.env())
        return None


def _unsolved(git: Git, place: Place) -> tuple[str, ...]:
    """Files of a conflict that still hold a marker."""
    names = [name for name in git("diff", "--name-only", "--diff-filter=U", "-z").split("\0") if name]
    return tuple(name for name in names if _has_marker(Path(place.path) / name))


def _has_marker(path: Path) -> bool:
    try:
        return not path.is_symlink() and bool(MARKER.search(path.read_bytes()))
    except OSError:
        return False


def _on_branch(git: Git, place: Place) -> None:
    """The agent may have checked something else out: the task's branch moves there, if that loses nothing."""
    own = f"refs/heads/{place.branch}"
    if git.run("symbolic-ref", "-q", "HEAD").out.strip() == own:
        return
    if not _contains(git, "HEAD", own):
        raise WorkspaceError(f"{place.path}: the agent left {place.branch} for something that does not contain it")
    head = git("rev-parse", "HEAD^{commit}")
    git("update-ref", own, head)
    git("symbolic-ref", "HEAD", own)


def merge(place: Place, subject: str, author: Author, warded: Collection[str] = ()) -> Merged | Conflict | Warded:
    """Merge the task's branch into its target, unless that changes what is ``warded``. Idempotent.

    Raises WorkspaceError where it cannot be done now.
    """
    with locked(place) as held:
        git = Git(place.repository, held=held)
        branch, target = f"refs/heads/{place.branch}", f"refs/heads/{place.target}"
        for _ in range(TRIES):
            if git.run("rev-parse", "-q", "--verify", branch).code:
                return Merged(None)  # merged and removed before
            theirs, ours = git("rev-parse", f"{target}^{{commit}}"), git("rev-parse", f"{branch}^{{commit}}")
            if _contains(git, theirs, ours):
                return Merged(_merge_of(git, theirs, ours))
            tree = git.run("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", theirs, ours)
            if tree.code == 1:
                return Conflict(tuple(sorted({name for name in tree.out.split("\0")[1:] if name})))
            if tree.code:
                raise WorkspaceError(f"git merge-tree: {tree.why}")
            content = tree.out.split("\0")[0].strip()
            if files := _touched(git, theirs, content, warded):
                return Warded(files)
            made = git(
                "commit-tree", content, "-p", theirs, "-p", ours, "-F", "-",
                stdin=author.message(subject), env=author.env(),
            )  # fmt: skip
            if _advance(git, place, theirs, made, held):
                return Merged(made)
        raise WorkspaceError(f"{place.target} moves on faster than it can be merged into")


def _touched(git: Git, before: str, after: str, warded: Collection[str]) -> tuple[str, ...]:
    """The files that differ and lie at, below or above something warded; whatever the case, for some file systems."""
    names = git("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--ignore-submodules=none", before, after)
    kept = [f"{name.casefold()}/" for name in warded]

    def within(name: str) -> bool:
        path = f"{name.casefold()}/"
        return any(path.startswith(place) or place.startswith(path) for place in kept)

    return tuple(name for name in names.split("\0") if name and within(name))


def _merge_of(git: Git, target: str, branch: str) -> str | None:
    """The merge that brought the branch into the target; None where the branch has nothing of its own."""
    lines = git("rev-list", "--merges", "--parents", "--ancestry-path", f"{branch}..{target}").splitlines()
    return next((line.split()[0] for line in lines if branch in line.split()[2:]), None)


def _advance(git: Git, place: Place, before: str, after: str, held: tuple[int, ...]) -> bool:
    """Move the target from one commit to the next; False where it is not at ``before`` any more."""
    home = _checked_out(git, place.target)
    if home is None:
        reason = f"merge of {place.branch}"
        return not git.run("update-ref", "-m", reason, f"refs/heads/{place.target}", after, before).code
    ran = Git(home, held=held).run("merge", "-q", "--ff-only", after)
    if ran.code and git("rev-parse", f"refs/heads/{place.target}^{{commit}}") == before:
        raise WorkspaceError(f"{place.target} is checked out in {home}: {ran.why}")
    return not ran.code


def _checked_out(git: Git, branch: str) -> str | None:
    """The directory in which a branch is checked out."""
    for entry in git("worktree", "list", "--porcelain", "-z").split("\0\0"):
        fields = dict(line.partition(" ")[::2] for line in entry.strip("\0").split("\0"))
        if fields.get("branch") == f"refs/heads/{branch}" and "prunable" not in fields:
            return fields["worktree"]
    return None


def remove(place: Place) -> bool:
    """Remove a worktree, and its branch where the target contains it; False where it holds uncommitted work.

    Raises WorkspaceError.
    """
    with locked(place) as held:
        git = Git(place.repository, held=held)
        if Path(place.path).exists():
            own = Git(place.path, git_dir=_admin(git, place), held=held)
            if own("status", "--porcelain", "-z", "--untracked-files=all"):
                return False
            git("worktree", "remove", place.path)
        branch = git.run("rev-parse", "-q", "--verify", f"refs/heads/{place.branch}").out.strip()
        if branch and _contains(git, f"refs/heads/{place.target}", branch):
            git("update-ref", "-d", f"refs/heads/{place.branch}", branch)
        return True


def _contains(git: Git, outer: str, inner: str) -> bool:
    """Whether ``inner`` is an ancestor of, or the same as, ``outer``."""
    return not git.run("merge-base", "--is-ancestor", inner, outer).code
