"""Worktrees with a real git: what a task changes is committed and merged once, and nobody's changes are lost."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from driving import until
from workspace_rig import AUTHOR, git, merges, place

from producer import git as our_git
from producer import helper, worktree
from producer.errors import NoWorkspace, WorkspaceError
from producer.worktree import Conflict, Merged, Warded


def work(repo: Path, state: Path, task: str, **files: str) -> worktree.Place:
    """A task that changed these files and is committed."""
    here = place(repo, state, task)
    worktree.prepare(here)
    for name, text in files.items():
        (Path(here.path) / name).write_text(text)
    assert worktree.commit(here, f"Do {task}", AUTHOR) is None
    return here


def test_a_change_is_committed_with_trailers_merged_into_the_checked_out_branch_and_cleared_away(
    repo: Path, state: Path
) -> None:
    here = work(repo, state, "T1", new="hello")
    assert (repo / "new").exists() is False
    merged = worktree.merge(here, "Merge it", AUTHOR)
    assert isinstance(merged, Merged) and merged.commit == git(repo, "rev-parse", "main")
    assert (repo / "new").read_text() == "hello" and git(repo, "status", "--porcelain") == ""
    assert git(repo, "log", "-1", "--format=%(trailers:key=Producer-Task,valueonly)", "main^2") == "T1"
    assert git(repo, "log", "-1", "--format=%an <%ae>", "main^2") == "code (ai-producer) <code@ai-producer.invalid>"
    assert worktree.remove(here)
    assert not Path(here.path).exists() and git(repo, "branch", "--format=%(refname:short)") == "main"


def test_everything_may_be_done_twice(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    worktree.prepare(here)
    assert worktree.commit(here, "Again", AUTHOR) is None
    first = worktree.merge(here, "Merge it", AUTHOR)
    assert worktree.merge(here, "Merge it", AUTHOR) == first, "the merge that was made is found, not made again"
    assert worktree.remove(here) and worktree.remove(here)
    assert worktree.merge(here, "Merge it", AUTHOR) == Merged(None)
    assert merges(repo) == ["Merge it"]


def test_a_task_that_changed_nothing_leaves_no_trace(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1")
    assert worktree.merge(here, "Merge it", AUTHOR) == Merged(None)
    assert worktree.remove(here) and merges(repo) == [] and git(repo, "rev-list", "--count", "main") == "1"


def test_what_the_operator_has_not_committed_stays_where_it_is_not_touched(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    (repo / "shared.txt").write_text("mine\n")
    (repo / "notes").write_text("mine too")
    worktree.merge(here, "Merge it", AUTHOR)
    assert (repo / "shared.txt").read_text() == "mine\n" and (repo / "notes").read_text() == "mine too"
    assert (repo / "new").exists()


@pytest.mark.parametrize("name", ["shared.txt", "new"])
def test_a_merge_that_would_overwrite_the_operators_change_waits(repo: Path, state: Path, name: str) -> None:
    here = work(repo, state, "T1", **{"shared.txt": "theirs\n", "new": "theirs"})
    (repo / name).write_text("mine")
    with pytest.raises(WorkspaceError, match=r"main is checked out in .*repo: .*would be overwritten"):
        worktree.merge(here, "Merge it", AUTHOR)
    assert (repo / name).read_text() == "mine" and git(repo, "rev-list", "--count", "main") == "1"
    (repo / name).unlink()
    git(repo, "checkout", "-q", "--", "shared.txt")
    assert isinstance(worktree.merge(here, "Merge it", AUTHOR), Merged)
    assert (repo / "new").read_text() == "theirs"


def test_a_target_that_nobody_has_checked_out_moves_on_by_itself(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    git(repo, "checkout", "-q", "-b", "other")
    worktree.merge(here, "Merge it", AUTHOR)
    assert not (repo / "new").exists() and git(repo, "show", "main:new") == "hello"


WARDED = ("producer.yaml", "agents", ".claude", "sub/prompt.md")


@pytest.mark.parametrize(
    "name", ["producer.yaml", "Producer.YAML", "agents/code/prompt.md", ".claude/settings.json", "sub", ".claude"]
)
def test_a_branch_that_changes_what_no_agent_may_is_not_merged(repo: Path, state: Path, name: str) -> None:
    """Through git alone too, without a file in the worktree, where the sandbox would have it read-only."""
    here = work(repo, state, "T1", new="hello")
    before = git(repo, "rev-parse", "main")
    blob = git(Path(here.path), "hash-object", "-w", "new")
    git(Path(here.path), "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    git(Path(here.path), "commit", "-q", "-m", "planted")
    git(Path(here.path), "reset", "-q", "--hard")
    assert worktree.merge(here, "Merge it", AUTHOR, WARDED) == Warded((name,))
    assert git(repo, "rev-parse", "main") == before and not (repo / "new").exists()
    assert worktree.remove(here) and git(repo, "rev-parse", here.branch), "the branch stays for a person"
    assert isinstance(worktree.merge(here, "Merge it", AUTHOR), Merged), "the operator may"


def test_what_only_looks_like_something_warded_is_merged(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", **{"producer.yaml.md": "x", "agents.py": "x", "claude": "x"})
    assert isinstance(worktree.merge(here, "Merge it", AUTHOR, WARDED), Merged)


def test_a_branch_that_lags_behind_an_operators_change_of_the_configuration_is_merged(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    (repo / "producer.yaml").write_text("by the operator")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "Configure")
    assert isinstance(worktree.merge(here, "Merge it", AUTHOR, WARDED), Merged)
    assert (repo / "producer.yaml").read_text() == "by the operator"


def test_a_conflict_changes_nothing_and_is_worked_into_the_worktree_of_who_solves_it(repo: Path, state: Path) -> None:
    first = work(repo, state, "T1", **{"shared.txt": "one\nfirst\nthree\n"})
    second = work(repo, state, "T2", **{"shared.txt": "one\nsecond\nthree\n", "other": "x"})
    assert isinstance(worktree.merge(first, "Merge first", AUTHOR), Merged)
    before = git(repo, "rev-parse", "main")
    assert worktree.merge(second, "Merge second", AUTHOR) == Conflict(("shared.txt",))
    assert git(repo, "rev-parse", "main") == before and git(repo, "status", "--porcelain") == ""

    solving = replace(second, bring=True)
    worktree.prepare(solving)
    text = (Path(second.path) / "shared.txt").read_text()
    assert "<<<<<<< " in text and "first" in text and "second" in text
    assert worktree.commit(solving, "Solved?", AUTHOR) == Conflict(("shared.txt",)), "the markers are still there"
    worktree.prepare(solving)
    (Path(second.path) / "shared.txt").write_text("one\nfirst\nsecond\nthree\n")
    assert worktree.commit(solving, "Solved", AUTHOR) is None
    assert isinstance(worktree.merge(solving, "Merge second", AUTHOR), Merged)
    assert (repo / "shared.txt").read_text() == "one\nfirst\nsecond\nthree\n" and (repo / "other").exists()


def test_uncommitted_work_is_never_removed(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1")
    (Path(here.path) / "draft").write_text("unfinished")
    assert worktree.remove(here) is False and (Path(here.path) / "draft").exists()
    (Path(here.path) / "draft").unlink()
    (Path(here.path) / "shared.txt").write_text("changed")
    assert worktree.remove(here) is False


def test_a_branch_that_is_not_merged_outlives_its_worktree(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    assert worktree.remove(here) and not Path(here.path).exists()
    assert git(repo, "show", "producer/T1:new") == "hello"
    worktree.prepare(here)
    assert (Path(here.path) / "new").read_text() == "hello", "a task that is tried again finds its branch"


def test_a_worktree_whose_making_was_cut_off_is_made_whole_before_an_agent_sees_it(repo: Path, state: Path) -> None:
    here = place(repo, state)
    git(repo, "worktree", "add", "-q", "--no-checkout", "-b", here.branch, here.path)
    worktree.prepare(here)
    assert (Path(here.path) / "shared.txt").exists()
    assert worktree.commit(here, "Nothing", AUTHOR) is None and git(repo, "rev-list", "--count", here.branch) == "1"


def test_an_agent_that_went_to_a_branch_of_its_own_takes_the_tasks_branch_along(repo: Path, state: Path) -> None:
    here = work(repo, state, "T1", new="hello")
    git(Path(here.path), "checkout", "-q", "-b", "feature")
    (Path(here.path) / "more").write_text("more")
    worktree.commit(here, "More", AUTHOR)
    worktree.merge(here, "Merge it", AUTHOR)
    assert (repo / "more").exists()
    git(Path(here.path), "checkout", "-q", "--detach", "main^1")
    with pytest.raises(WorkspaceError, match="the agent left producer/T1"):
        worktree.commit(here, "Elsewhere", AUTHOR)


TRAP = "touch {mark}; exit 1\n"


def test_git_runs_nothing_that_somebody_planted(repo: Path, state: Path, tmp_path: Path) -> None:
    mark, script = tmp_path / "ran", tmp_path / "trap"
    script.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    for hook in (
        "pre-commit",
        "post-commit",
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "post-index-change",
    ):
        (repo / ".git/hooks").mkdir(exist_ok=True)
        (repo / ".git/hooks" / hook).symlink_to(script)
    (repo / ".gitattributes").write_text("*.txt filter=trap merge=trap diff=trap\n")
    git(repo, "-c", "core.hooksPath=/dev/null", "add", "-A")
    git(repo, "-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "Attributes")
    for name in ("filter.trap.clean", "filter.trap.smudge", "filter.trap.process", "merge.trap.driver", "core.fsmonitor",
                 "core.editor", "diff.trap.command", "diff.trap.textconv", "gpg.program", "core.sshCommand"):  # fmt: skip
        git(repo, "config", name, str(script))
    git(repo, "config", "commit.gpgSign", "true")
    git(repo, "config", "filter.trap.required", "true")
    mark.unlink(missing_ok=True)

    first = work(repo, state, "T1", **{"shared.txt": "one\nfirst\nthree\n"})
    second = work(repo, state, "T2", **{"shared.txt": "one\nsecond\nthree\n"})
    (Path(second.path) / ".git").write_text("gitdir: /nonexistent\n")
    assert isinstance(worktree.merge(first, "Merge", AUTHOR), Merged)
    assert isinstance(worktree.merge(second, "Merge", AUTHOR), Conflict), "a planted driver does not decide"
    assert worktree.commit(second, "Again", AUTHOR) is None
    worktree.remove(first)
    assert not mark.exists()
    assert (repo / "shared.txt").read_text() == "one\nfirst\nthree\n"


def test_git_that_does_not_end_is_ended(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(our_git, "LIMIT", 0.2)
    with pytest.raises(WorkspaceError, match="took longer than"):
        our_git.Git(repo)("status")
    with our_git.still() as running:
        assert running == frozenset()


def test_a_sweep_knows_git_that_is_under_way_and_none_starts_meanwhile(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, slow = tmp_path / "go", tmp_path / "bin/git"
    slow.parent.mkdir()
    slow.write_text(f"#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.02; done\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    one = threading.Thread(target=lambda: our_git.Git(repo).run("status"))
    one.start()
    until(lambda: helper._running, what="git under way")
    with our_git.still() as running:
        [pid] = running
        assert psutil.Process(pid).ppid() == os.getpid()
        two = threading.Thread(target=lambda: our_git.Git(repo).run("status"))
        two.start()
        go.touch()
        until(lambda: not helper._running, what="the first one gone")
        assert two.is_alive(), "the second one waits for the end of the sweep"
    one.join(20)
    two.join(20)
    assert not two.is_alive() and not helper._running


def test_four_at_once_make_their_worktrees_and_are_merged_one_after_the_other(repo: Path, state: Path) -> None:
    places = [place(repo, state, f"T{number}") for number in range(4)]

    def one(here: worktree.Place) -> None:
        worktree.prepare(here)
        (Path(here.path) / here.branch.replace("/", "-")).write_text("x")
        worktree.commit(here, here.branch, AUTHOR)
        worktree.merge(here, f"Merge {here.branch}", AUTHOR)

    threads = [threading.Thread(target=one, args=(here,)) for here in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(merges(repo)) == [f"Merge producer/T{number}" for number in range(4)]
    assert git(repo, "status", "--porcelain") == ""


def test_where_worktrees_cannot_be(tmp_path: Path, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, empty = tmp_path / "plain", tmp_path / "empty"
    plain.mkdir()
    empty.mkdir()
    git(empty, "init", "-q")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(NoWorkspace, match="is not in a git repository"):
        worktree.examine(plain)
    with pytest.raises(NoWorkspace, match="has no commit yet"):
        worktree.examine(empty)
    (repo / "game").mkdir()
    assert worktree.examine(repo / "game") == worktree.Repository(str(repo), "game", "main")
    git(repo, "checkout", "-q", "--detach")
    assert worktree.examine(repo).branch == ""
    monkeypatch.setenv("PATH", str(plain))
    with pytest.raises(NoWorkspace, match="git cannot be started"):
        worktree.examine(repo)


def test_a_kill_in_the_middle_is_finished_by_doing_it_again(repo: Path, state: Path) -> None:
    """The ref of a merge moves, and the process is gone before it can say so."""
    here = work(repo, state, "T1", new="hello")
    program = (
        "import os; from pathlib import Path; from producer import worktree; from producer.worktree import *\n"
        f"here = {here!r}\n"
        "real = worktree._advance\n"
        "def advance(*given):\n    real(*given); os._exit(9)\n"
        "worktree._advance = advance\n"
        "worktree.merge(here, 'Merge it', Author('code', {}))\n"
    )
    import sys

    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 9
    merged = worktree.merge(here, "Merge it", AUTHOR)
    assert merged == Merged(git(repo, "rev-parse", "main")) and merges(repo) == ["Merge it"]
