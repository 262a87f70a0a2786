"""One map for an attempt: what may be done at which path. The deepest entry on the way to a file decides.

1. Everything can be read, but: homes, temporary directories, /run (where the machine's sockets lie) and what the wishes
   hide are empty. What the agent needs of that (its program, the interpreter, the directories on PATH) is put back.
2. Writable: the working directory, what the role's `sandbox_write` names, the task's own config directory, HOME and
   scratch, and of git what a commit needs. Hooks and configuration of git are read-only in every case.
3. A protected path in a writable place would still go with its parent if that were renamed, and a later attempt would
   find it elsewhere: so every directory on the way to it is an entry of its own, which as a mount cannot be moved.
4. In a worktree the copies of what is read-only in the project are too. git itself can still commit other contents for
   them, without a file: so what would change them is not merged (producer/worktree.py).
5. A link on the way to a protected path in a writable place is refused: it could be replaced by another.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from producer.errors import SandboxMissing
from producer.sandbox.wishes import SECRETS, WARDED, Wishes, linked

PACKAGE = Path(__file__).resolve().parent.parent
SHARED = ("/root", "/home", "/run", "/var/run", "/tmp", "/var/tmp")
SCRATCH = frozenset({"/tmp", "/var/tmp"})
SHADOWS = ("/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/ssl/private")
TOOLCHAINS = (
    ".asdf",
    ".bun",
    ".cargo",
    ".deno",
    ".fnm",
    ".local/share/mise",
    ".local/share/pipx",
    ".local/share/uv",
    ".nvm",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sdkman",
    ".volta",
    "anaconda3",
    "go",
    "miniconda3",
    "miniforge3",
)
TOKENS = (".cargo/credentials", ".cargo/credentials.toml")
NEEDED_OF_RUN = ("/run/current-system", "/run/systemd/resolve", "/run/nscd")
GUARDED_OF_GIT = ("hooks", "config", "config.worktree", "commondir", "gitdir", "info")
MADE = "# Made by ai-producer, so that no agent can put one here.\n"


class Access(Enum):
    """What may be done at a path and below."""

    HIDE = "hide"
    SCRATCH = "scratch"  # empty at the start, and writable
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Ground:
    """Where an attempt stands. ``needs``: further paths that it must be able to read (programs, its prompt)."""

    cwd: Path
    worktree: Path | None  # the task's own git worktree, where it has one; cwd lies in it
    task: Path  # private to the task, outside the agent's reach; launcher and rules lie here
    own: tuple[Path, ...]  # config directory, HOME and scratch: the agent's
    needs: tuple[Path, ...] = ()
    path: str = os.defpath
    home: Path | None = None  # in inherit mode: the user's own home, which then can be read


Map = dict[Path, Access]


def plan(wishes: Wishes, ground: Ground) -> Map:
    """The map, parents before what is below them. Makes .claude and .env in the project where there are none.

    Raises SandboxMissing where a protected path cannot be protected.
    """
    root = Path(wishes.project).resolve()
    shared = ground.worktree is None
    _check_links(wishes, ground, root)
    found: Map = {Path("/"): Access.READ}
    _set(found, _empty(ground), Access.HIDE)
    _set(found, SCRATCH, Access.SCRATCH)
    _set(found, (*NEEDED_OF_RUN, "/etc/resolv.conf"), Access.READ)
    _set(found, _programs(ground, found, root), Access.READ)
    _set(found, [root], Access.WRITE if shared else Access.READ)
    _set(found, wishes.read, Access.READ)
    _set(found, (ground.worktree or ground.cwd, *wishes.write), Access.WRITE)
    _set(found, _git(ground.cwd, shared), Access.WRITE)
    _make(ground.cwd if ground.worktree else root, secrets=shared)
    kept: list[Path | str] = [*wishes.keep, *_twins(wishes, ground), *_ours(), *_git_guards(ground.cwd, root)]
    _protect(found, kept, Access.READ)
    tokens = [home / name for home in _homes() for name in TOKENS]
    _protect(found, (*wishes.hide, *SHADOWS, *tokens), Access.HIDE)
    _set(found, ground.needs, Access.READ)
    _set(found, ground.own, Access.WRITE)
    return dict(sorted(found.items(), key=lambda entry: len(entry[0].parts)))


def access(found: Map, path: Path) -> Access:
    """What the map says of a path."""
    return next(found[place] for place in (path, *path.parents) if place in found)


def _check_links(wishes: Wishes, ground: Ground, root: Path) -> None:
    """Refuse a way into what shall be writable that leads over a link which an earlier attempt can have made."""
    tops = {root, *map(Path, wishes.write), *([ground.worktree] if ground.worktree else [])}
    for path in (ground.cwd, *map(Path, (*wishes.read, *wishes.write))):
        for top in tops:
            if link := linked(top, path):
                raise SandboxMissing(f"{link} is a link, which agents could have made", "remove it")


def _set(found: Map, paths: Iterable[Path | str], kind: Access) -> None:
    """Entries for those of the paths that exist, under their real names."""
    for path in paths:
        place = Path(os.path.realpath(path))
        if os.path.exists(place):  # noqa: PTH110  (False, not an error, where the way to it is barred)
            found[place] = kind


def _protect(found: Map, paths: Iterable[Path | str], kind: Access) -> None:
    """Entries that keep what exists of the paths from being changed, or seen, in places that can be written."""
    for name in paths:
        path = Path(name)
        if not os.path.exists(path):  # noqa: PTH110
            continue
        real = Path(os.path.realpath(path))
        top = next((place for place in real.parents if found.get(place) is Access.WRITE), None)
        holder = next((place for place in path.parents if found.get(place) is Access.WRITE), None)
        if holder is not None and (link := linked(holder, path)):
            raise SandboxMissing(f"{link} is a link, which agents could replace", "remove it, or name the real place")
        if top is not None and access(found, real) is Access.WRITE:
            for between in real.parents:
                if between == top:
                    break
                found.setdefault(between, Access.WRITE)
        found[real] = kind


def _empty(ground: Ground) -> Iterator[Path | str]:
    yield from SHARED
    yield from (home for home in _homes() if home != ground.home)


def _homes() -> set[Path]:
    return {Path.home(), Path(pwd.getpwuid(os.geteuid()).pw_dir)} - {Path("/")}


def _programs(ground: Ground, found: Map, root: Path) -> Iterator[Path | str]:
    """The interpreter, toolchains and what is on PATH, where hidden. Never a whole home, nor the project."""
    hidden = {place for place, kind in found.items() if kind is not Access.READ}
    homes = [str(home / name) for home in _homes() for name in TOOLCHAINS]
    for entry in (sys.prefix, sys.base_prefix, *homes, *ground.path.split(os.pathsep)):
        place = Path(os.path.realpath(entry))
        needed = entry.startswith("/") and access(found, place) is not Access.READ and not _within(place, root)
        if needed and not any(_within(other, place) for other in hidden):
            yield place
    if ground.home is not None:
        yield ground.home


def _ours() -> Iterator[Path]:
    """The program itself, wherever it lies: an agent that could change it would be the supervisor's next start."""
    yield PACKAGE
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix)


def _twins(wishes: Wishes, ground: Ground) -> list[Path]:
    """In a worktree: the copies of what is read-only in the project, for they come back with the branch."""
    if ground.worktree is None:
        return []
    kept = [Path(path) for path in wishes.keep]
    return [ground.cwd / path.relative_to(wishes.project) for path in kept if path.is_relative_to(wishes.project)]


def _make(root: Path, *, secrets: bool) -> None:
    """Make what can only be kept empty by being there. git takes no notice of an empty directory."""
    try:
        if not os.path.lexists(root / WARDED[0]):
            (root / WARDED[0]).mkdir(mode=0o755)
        if secrets and not os.path.lexists(root / SECRETS):
            handle = os.open(root / SECRETS, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(MADE)
    except OSError:
        return


# ---- git: what a commit needs, and what must not be changed


def _git(cwd: Path, shared: bool) -> list[Path]:
    """The parts of a repository that a commit writes. From a worktree of the task's own: not the other branches."""
    found = _repository(cwd)
    if found is None:
        return []
    admin, common = found
    if shared or admin == common:
        return [admin, common]
    branches = "heads/producer"
    own = [common / "refs" / branches, common / "logs" / "refs" / branches]
    for place in own:
        if linked(common, place) is None:
            place.mkdir(parents=True, exist_ok=True)
    wanted = [common / "objects", common / "reftable", *own]
    return [admin, *(place for place in wanted if linked(common, place) is None)]


def _git_guards(cwd: Path, root: Path) -> list[Path]:
    """What git runs or obeys: hooks, configuration, and the files that say where a repository is."""
    guards: list[Path] = []
    for place in (cwd, root):
        link = _link(place)
        if link is not None and link.is_file():
            guards.append(link)
        for directory in set(_repository(place) or ()):
            if not os.path.lexists(directory / "hooks") and (directory / "objects").is_dir():
                (directory / "hooks").mkdir()
            guards += [directory / name for name in GUARDED_OF_GIT]
            guards += [path / "config" for path in (directory / "modules").glob("*")]
    return guards


def _link(place: Path) -> Path | None:
    return next((above / ".git" for above in (place, *place.parents) if os.path.lexists(above / ".git")), None)


def _repository(place: Path) -> tuple[Path, Path] | None:
    """The administrative directory of the repository that a directory lies in, and the one that its worktrees share.

    A file `.git` may have been written by an agent: it counts only if the place it names points back to it.
    """
    link = _link(place)
    if link is None or link.is_symlink():
        return None
    if link.is_dir():
        return (link.resolve(), link.resolve())
    try:
        admin = (link.parent / link.read_text().strip().removeprefix("gitdir: ")).resolve()
        back = Path((admin / "gitdir").read_text().strip()).resolve()
        common = (admin / (admin / "commondir").read_text().strip()).resolve()
    except (OSError, UnicodeError, ValueError):
        return None
    if back != link.resolve() or admin.parent != common / "worktrees":
        return None
    return admin, common


def _within(path: Path, top: Path) -> bool:
    return path == top or path.is_relative_to(top)
