"""A map as Landlock rules.

1. A rule grants something to a whole tree and nothing takes it away below, so a tree is granted only where nothing in
   it has another access; else its entries are, one by one. In such a directory no file can be made. A listing is
   granted for a whole tree too: so only where it is writable; elsewhere such a directory cannot be listed.
2. The directory of git's hooks and configuration is granted whole where the repository is writable at all: git makes
   its own files beside them.
3. Shared scratch (/tmp) cannot be made private: it is hidden.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from producer.sandbox.plan import Access, Map

MOST_RULES = 20_000
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
GRANTS = {Access.READ: "read", Access.WRITE: "write"}
Rules = dict[str, list[str]]


def rules(found: Map) -> Rules:
    """The rules of a map; see confine.py."""
    made: Rules = {"read": [], "list": [], "write": []}
    map_ = _without_git(found)
    above = {parent for path in map_ for parent in path.parents}
    _walk(Path("/"), map_, above, Access.HIDE, made)
    made["write"] += [f"/dev/{name}" for name in DEVICES]
    return made


def _walk(path: Path, found: Map, above: set[Path], kind: Access, made: Rules) -> None:
    kind = found.get(path, kind)
    if path not in above:
        if grant := GRANTS.get(kind):
            made[grant].append(str(path))
        return
    if kind is Access.WRITE:
        made["list"].append(str(path))
    with suppress(OSError):
        for child in sorted(path.iterdir()):
            if not child.is_symlink() or child in found:
                _walk(child, found, above, kind, made)


def _without_git(found: Map) -> Map:
    def kept(path: Path, kind: Access) -> bool:
        git = next((above for above in path.parents if above.name == ".git"), None)
        return git is None or kind is not Access.READ or found.get(git) is not Access.WRITE

    return {path: kind for path, kind in found.items() if kept(path, kind)}
