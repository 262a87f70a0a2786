"""Does a test fail when the defence is removed? Take each defence of removals.py away, in a copy, and see.

    python tests/attacks/prove.py [--only TEXT] [--write docs/attacks.md]

The test must pass with the defence and fail without it (pytest's exit code 1: failures, nothing else). One that passes
without it is printed as KEPT PASSING, and the exit code is 1. Takes half an hour on two cores; nothing of the
original is changed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from removals import REMOVALS, Removal

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
SLOW = tuple(f"tests/attacks/test_attack_{name}.py" for name in ("tools", "worker", "sandbox_shell"))  # come last
HEAD = """\
# Attacks, and the defences that stop them

The rule of `tests/attacks`: a test that fails when the defence is removed. `python tests/attacks/prove.py` takes a defence away in a
copy of the tree (one edit, listed in `tests/attacks/removals.py`) and runs the test of an attack: it has to pass before and to fail
after. The {number} lines below did, in one run on {day}, of {all} that are listed there; what has no line here was not
proved so on that day. Where a test of many cases is named, one case or more failed.

Not each of the attacks has a line of its own. Many fall to the same defences; the shell's attacks are run without a sandbox as well,
where 66 of 75 succeed (`test_without_a_sandbox_it_succeeds`): so those are stopped by the sandbox and nothing else.

| the attack | the defence removed, in | the test that failed |
|---|---|---|
"""


def run(copy: Path, node: str) -> tuple[int, str]:
    """pytest's exit code, and the end of what it said; -1 where a test ran into its time limit, which proves nothing."""
    env = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "--timeout=100",
        "-p",
        "no:cacheprovider",
        f"--basetemp={copy.parent / 'b'}",
    ]
    ran = subprocess.run([*command, node], cwd=copy, env=env, capture_output=True, text=True, timeout=SECONDS)
    said = ran.stdout + ran.stderr
    return -1 if "Timeout" in said and "+++" in said else ran.returncode, said[-2000:]


def selected(copy: Path, node: str) -> str:
    """A name that is the start of a test's stands for that test."""
    path, _, start = node.partition("::")
    names = [
        line.split("def ")[1].split("(")[0] for line in (copy / path).read_text().splitlines() if "def test_" in line
    ]
    wanted = start.partition("[")[0]
    [name] = [name for name in names if name == wanted] or [name for name in names if name.startswith(wanted)]
    return f"{path}::{name}{start[len(wanted) :]}"


def prove(copy: Path, removal: Removal, passing: set[str]) -> str:
    """`proved`, or what is wrong."""
    node, file = selected(copy, removal.test), copy / removal.file
    if node not in passing:
        code, said = run(copy, node)
        if code:
            return f"FAILS WITH THE DEFENCE ({code})\n{said}"
        passing.add(node)
    text = file.read_text()
    if text.count(removal.old) != 1:
        return f"THE EDIT DOES NOT FIT: {text.count(removal.old)} places"
    file.write_text(text.replace(removal.old, removal.new))
    try:
        code, said = run(copy, node)
    except subprocess.TimeoutExpired:
        return "TAKES TOO LONG without the defence"
    finally:
        file.write_text(text)
    return {0: "KEPT PASSING", 1: "proved"}.get(code, f"ENDS WITH {code}\n{said}")


def page(proved: list[tuple[Removal, str]]) -> str:
    """docs/attacks.md."""
    head = HEAD.format(number=len(proved), all=len(REMOVALS), day=time.strftime("%Y-%m-%d", time.gmtime()))
    return head + "".join(
        f"| {one.attack} | `{one.file}` | `{node.removeprefix('tests/')}` |\n" for one, node in proved
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only attacks and tests that hold this text")
    parser.add_argument("--write", type=Path)
    asked = parser.parse_args()
    chosen = [one for one in REMOVALS if asked.only in one.attack or asked.only in one.test]
    chosen.sort(key=lambda one: one.test.startswith(SLOW))
    proved: list[tuple[Removal, str]] = []
    passing: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="p") as directory:
        copy = Path(directory) / "c"
        unwanted = shutil.ignore_patterns(".venv", ".git", ".*_cache", "__pycache__", ".hypothesis")
        shutil.copytree(ROOT, copy, ignore=unwanted)
        driving = (
            copy / "tests" / "driving.py"
        )  # what does not come about without the defence is not waited for as long
        driving.write_text(re.sub(r"^PATIENCE = .*", "PATIENCE = 20.0", driving.read_text(), flags=re.M))
        for removal in chosen:
            found = prove(copy, removal, passing)
            print(f"{removal.attack}: {found}", flush=True)
            if found == "proved":
                proved.append((removal, selected(copy, removal.test)))
                if asked.write:
                    asked.write.write_text(page(proved))
    print(f"{len(proved)} of {len(chosen)} proved")
    return int(len(proved) < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
