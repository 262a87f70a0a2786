"""What an earlier attempt may have left behind for the next one's sandbox, and configurations that cannot be held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from driving import Project, Supervisor

from producer import sandbox
from producer.cli import execute
from producer.config import load_config
from producer.errors import SandboxMissing
from producer.sandbox import Ground, Way, Wishes, bwrap, choice, narrowed, walls
from producer.sandbox.plan import Access, access, plan


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A project with a repository, its private directories, and an attempt in it."""
    root, task = tmp_path / "project", tmp_path / "state" / "key" / "tasks" / "T"
    for path in (root / "agents", root / "agent-state", root / "src", tmp_path / "outside", tmp_path / "home"):
        path.mkdir(parents=True)
    for name in ("claude", "home", "tmp"):
        (task / name).mkdir(parents=True)
    (root / "producer.yaml").write_text("x")
    (root / "agent-state" / "ledger.db").write_text("x")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "begin"]):
        subprocess.run([*git, *words], cwd=root, check=True, capture_output=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wishes = Wishes(
        "bwrap", "full", str(root), hide=(str(root / "agent-state"), str(tmp_path / "state"), str(root / ".env")),
        keep=(str(root / "producer.yaml"), str(root / "agents"), str(root / ".claude")),
    )  # fmt: skip
    own = (task / "claude", task / "home", task / "tmp")
    ground = Ground(root, None, task, own, path="/usr/bin:/bin")
    return SimpleNamespace(top=tmp_path, root=root, task=task, wishes=wishes, ground=ground)


def worktree(place: SimpleNamespace) -> Path:
    path = place.top / "state" / "key" / "worktrees" / "T"
    subprocess.run(["git", "worktree", "add", "-q", str(path)], cwd=place.root, check=True, capture_output=True)
    return path


def test_the_deepest_entry_decides(place: SimpleNamespace) -> None:
    found = plan(place.wishes, place.ground)
    assert access(found, place.root / "src" / "x") is Access.WRITE
    assert access(found, place.root / "agents" / "x") is Access.READ
    assert access(found, place.root / "agent-state" / "ledger.db") is Access.HIDE
    assert access(found, place.top / "state" / "key" / "tasks" / "other") is Access.HIDE
    assert access(found, place.task / "claude.sh") is Access.HIDE
    assert access(found, place.task / "home" / "x") is Access.WRITE
    assert access(found, place.top / "home" / ".ssh") is Access.HIDE
    assert access(found, Path("/usr/bin/env")) is Access.READ


def test_settings_and_keys_are_made_before_an_agent_can_make_them(place: SimpleNamespace) -> None:
    found = plan(place.wishes, place.ground)
    assert found[place.root / ".claude"] is Access.READ and found[place.root / ".env"] is Access.HIDE
    assert (place.root / ".env").stat().st_mode & 0o777 == 0o600


def test_every_directory_on_the_way_to_what_is_protected_is_held_in_its_place(place: SimpleNamespace) -> None:
    deep = place.root / "a" / "b" / "prompt.md"
    deep.parent.mkdir(parents=True)
    deep.write_text("x")
    found = plan(replace(place.wishes, keep=(str(deep),)), place.ground)
    assert found[deep] is Access.READ
    assert found[place.root / "a"] is found[place.root / "a" / "b"] is Access.WRITE, "else they could be moved away"


@pytest.mark.parametrize("name", [".claude", "agents", "producer.yaml", "agent-state", ".env"])
def test_a_link_in_the_place_of_something_protected_is_refused(place: SimpleNamespace, name: str) -> None:
    path = place.root / name
    if path.exists():
        path.rename(place.top / "outside" / name)
    else:
        (place.top / "outside" / name).mkdir()
    path.symlink_to(place.top / "outside" / name)
    with pytest.raises(SandboxMissing, match="is a link"):
        plan(place.wishes, place.ground)


def test_a_link_to_write_through_is_refused(place: SimpleNamespace) -> None:
    (place.root / "data").symlink_to(place.top / "outside")
    with pytest.raises(SandboxMissing, match="is a link"):
        plan(replace(place.wishes, write=(str(place.root / "data"),)), place.ground)


def test_a_working_directory_replaced_by_a_link_is_refused(place: SimpleNamespace) -> None:
    tree = worktree(place)
    (tree / "inside").symlink_to("/etc")
    with pytest.raises(SandboxMissing, match="is a link"):
        plan(place.wishes, replace(place.ground, cwd=tree / "inside", worktree=tree))


@pytest.mark.parametrize("named", [".git", ".git/worktrees/theirs"])
def test_a_file_git_that_names_another_repository_gives_nothing(place: SimpleNamespace, named: str) -> None:
    other = place.top / "outside" / "repository"
    git = ["git", "-C", str(other), "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "begin"], check=True)
    subprocess.run([*git, "worktree", "add", "-q", str(place.top / "outside" / "theirs")], check=True)
    shutil.rmtree(place.root / ".git")
    (place.root / ".git").write_text(f"gitdir: {other / named}\n")
    found = plan(place.wishes, place.ground)
    assert access(found, other / ".git" / "objects") is not Access.WRITE
    assert found[place.root / ".git"] is Access.READ


def test_a_repository_whose_objects_are_a_link_gives_nothing(place: SimpleNamespace) -> None:
    tree = worktree(place)
    (place.root / ".git" / "objects").rename(place.top / "outside" / "objects")
    (place.root / ".git" / "objects").symlink_to(place.top / "outside" / "objects")
    found = plan(place.wishes, replace(place.ground, cwd=tree, worktree=tree))
    assert access(found, place.top / "outside" / "objects") is not Access.WRITE


def test_from_a_worktree_the_project_and_other_branches_are_read_only(place: SimpleNamespace) -> None:
    tree = worktree(place)
    (tree / "producer.yaml").write_text("x")
    found = plan(place.wishes, replace(place.ground, cwd=tree, worktree=tree))
    assert found[tree / "producer.yaml"] is found[tree / ".claude"] is Access.READ, "they come back with the branch"
    git = place.root / ".git"
    assert access(found, place.root / "src") is Access.READ
    assert access(found, git / "refs" / "heads" / "main") is Access.READ
    assert access(found, git / "hooks") is Access.READ and access(found, git / "config") is Access.READ
    assert access(found, git / "worktrees" / "T" / "index") is Access.WRITE
    assert access(found, git / "worktrees" / "T" / "commondir") is Access.READ
    assert access(found, tree / "x") is Access.WRITE and access(found, tree / ".git") is Access.READ
    assert not (tree / ".env").exists(), "what we make would be committed"


def test_toolchains_of_the_home_are_shown_and_their_tokens_are_not(place: SimpleNamespace) -> None:
    home = place.top / "home"
    (home / ".cargo" / "bin").mkdir(parents=True)
    (home / ".cargo" / "credentials.toml").write_text("token")
    (home / ".local" / "bin").mkdir(parents=True)
    found = plan(place.wishes, replace(place.ground, path=f"{home}/.local/bin:{home}"))
    assert access(found, home / ".cargo" / "bin" / "x") is Access.READ
    assert access(found, home / ".cargo" / "credentials.toml") is Access.HIDE
    assert access(found, home / ".local" / "bin" / "x") is Access.READ
    assert access(found, home / ".local" / "share") is access(found, home) is Access.HIDE


def test_what_a_role_is_given_besides(place: SimpleNamespace) -> None:
    (place.top / "home" / "notes").mkdir()
    wishes = replace(place.wishes, read=(str(place.top / "home" / "notes"),), write=(str(place.top / "outside"),))
    found = plan(wishes, place.ground)
    assert access(found, place.top / "home" / "notes" / "x") is Access.READ
    assert access(found, place.top / "outside" / "x") is Access.WRITE


def test_what_a_role_is_given_opens_nothing_private(place: SimpleNamespace) -> None:
    found = plan(replace(place.wishes, write=(str(place.top),)), place.ground)
    assert access(found, place.root / "agent-state" / "ledger.db") is Access.HIDE
    assert access(found, place.task / "claude.sh") is Access.HIDE
    assert access(found, place.root / "producer.yaml") is Access.READ


def test_landlock_grants_nothing_above_what_it_must_keep(place: SimpleNamespace) -> None:
    made = walls.rules(plan(place.wishes, place.ground))
    kept = (place.root / "producer.yaml", place.root / "agents", place.root / "agent-state", place.task)
    for path in kept:
        assert not [grant for grant in made["write"] if path.is_relative_to(grant)], path
    hidden = (place.root / "agent-state", place.task, place.top / "home", Path("/tmp"))
    for path in hidden:
        assert not [grant for grant in made["read"] if path.is_relative_to(grant)], path
    assert str(place.root / "src") in made["write"] and str(place.root) in made["list"]


# ---- as another user than root


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.skipif(choice.bwrap_problem() is not None, reason=str(choice.bwrap_problem()))
def test_without_roots_rights_it_holds_the_same(place: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    monkeypatch.setattr("sys.prefix", "/usr")
    monkeypatch.setattr("sys.base_prefix", "/usr")
    found = plan(place.wishes, place.ground)
    empty = place.task / "empty"
    empty.write_text("")
    words = bwrap.words(found, place.root, empty)
    for path in (place.top, *place.top.rglob("*")):
        os.lchown(path, 65534, 65534)
    for path in (place.top, *place.top.parents):  # pytest's own directories, closed to others
        if path.stat().st_uid in (os.getuid(), 65534) and not path.stat().st_mode & 0o5:
            path.chmod(0o755)
    script = f"""
        echo x > src/made && echo made
        echo x > producer.yaml; echo x > agents/x; echo x > .claude/x; echo x > .git/hooks/x; echo x >> .git/config
        mv agent-state gone; mv .git gone; cat agent-state/ledger.db .env; ls -A {place.top}/home; ls {place.task.parent}
        kill -0 {os.getpid()} && echo seen; umount agent-state && echo unmasked; ls /proc | grep -c '^[0-9]'
    """
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"]
    ran = subprocess.run([*as_nobody, *words, "sh", "-c", script], capture_output=True, text=True, timeout=30)
    lines = ran.stdout.split()
    assert lines[0] == "made", ran.stderr
    assert lines[1:-1] == ["T"], ran.stdout
    assert int(lines[-1]) < 8
    assert (place.root / "producer.yaml").read_text() == "x"
    assert sorted(os.listdir(place.root / "agents")) == [] and sorted(os.listdir(place.root / ".claude")) == []


# ---- configurations that cannot be held


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without bubblewrap."""
    monkeypatch.setattr(choice, "bwrap_problem", lambda: "bubblewrap is not installed")


def test_what_landlock_does_not_let_a_role_do_is_said_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = {"code": {}, "qa": {"sandbox": "landlock"}, "art": {"sandbox": "none"}}
    agents = {name: {"daily_cap_usd": 1, **settings} for name, settings in roles.items()}
    document = {"project_name": "narrow", "budget": {"project_ceiling_usd": 1, "agents": agents}}
    (tmp_path / "producer.yaml").write_text(json.dumps(document))
    config = load_config(tmp_path / "producer.yaml")
    monkeypatch.setattr(choice, "landlock_problem", lambda: None)
    monkeypatch.setattr(choice, "_tried", lambda proc: None)
    assert narrowed(config) is None

    monkeypatch.setattr(choice, "_tried", lambda proc: "bubblewrap is not installed")
    told = narrowed(config)
    assert told is not None and "holds code, for bubblewrap is not installed: nothing new" in told
    monkeypatch.chdir(tmp_path)
    execute(["doctor", "--json"])
    found = [each for each in json.loads(capsys.readouterr().out)["checks"] if each["name"] == "sandbox"]
    said = {each["detail"].split(":")[0]: (each["status"], "beside producer.yaml" in each["detail"]) for each in found}
    assert said == {"role code": ("warn", True), "role qa": ("ok", True), "role art has sandbox": ("warn", False)}


def test_auto_falls_back_on_landlock_and_then_refuses(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "landlock_problem", lambda: None)
    assert choice.choose("auto") is Way.LANDLOCK
    monkeypatch.setattr(choice, "landlock_problem", lambda: "there is no Landlock")
    with pytest.raises(SandboxMissing, match=r"install bubblewrap .*sandbox: none") as caught:
        choice.choose("auto")
    assert "\n" not in str(caught.value)
    assert choice.in_force("auto") == "refused" and choice.in_force("none") == "none"


def test_no_network_is_refused_where_only_landlock_works(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "landlock_problem", lambda: None)
    with pytest.raises(SandboxMissing, match="network: gateway"):
        choice.choose("auto", "gateway")


def test_a_landlock_that_does_not_stop_truncation_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice.confine, "abi", lambda: 2)
    assert "version 2, 3 is needed" in str(choice.landlock_problem())


def test_an_attempt_that_cannot_be_held_is_not_started(place: SimpleNamespace, bare: None) -> None:
    with pytest.raises(SandboxMissing, match="bubblewrap is not installed"):
        sandbox.enclose(place.wishes, place.ground)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ledger_db": "ledger.db"}, "ledger_db lies directly in project_root: move it into a directory"),
        ({"ledger_db": "../ledger.db"}, "ledger_db lies directly in project_root: move it into a directory"),
        ({"kill_switch": "linked/kill_switch"}, "linked is a link, which agents could replace"),
    ],
)
def test_what_cannot_be_kept_from_agents_is_refused_at_the_start(
    project: Project, settings: dict[str, str], said: str
) -> None:
    (project.root / "real").mkdir()
    (project.root / "linked").symlink_to("real")
    project.configure({"code": {}}, **settings)
    supervisor = Supervisor(project, "--rehearse", invoker=None)
    assert supervisor.exits() == 2
    last = supervisor.output.read_text().splitlines()[-1]
    assert said in last and "producer.yaml:" in last and "budget.agents.code.sandbox" in last


def test_a_machine_without_a_sandbox_is_told_in_one_line(project: Project, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("git", "sh", "env"):
        (tools / name).symlink_to(str(shutil.which(name)))
    project.configure({"code": {"sandbox": "bwrap"}})
    supervisor = Supervisor(project, "--rehearse", invoker=None, env={"PATH": str(tools)})
    assert supervisor.exits() == 2
    last = supervisor.output.read_text().splitlines()[-1]
    assert "no sandbox: bubblewrap is not installed: install bubblewrap" in last and "`sandbox: none`" in last
