"""The page names every direct dependency, the program asks for nothing below a bound, and the audit sees what is there."""

from __future__ import annotations

import re
import subprocess
import sys

import audit
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PAGE = (audit.ROOT / "docs" / "dependencies.md").read_text()
DIRECT = {Requirement(text).name: Requirement(text) for text in audit.declared()["ai-producer"]}


def test_the_page_names_every_direct_dependency_and_no_other() -> None:
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall("`([^`]+)`", cell)} == set(DIRECT)


def test_every_bound_is_kept_here_and_on_the_page() -> None:
    for bound in audit.bounds():
        assert bound.kept, bound
        assert f"{bound.name.split(' in ')[0]} {bound.least}" in PAGE, bound
        if bound.name in DIRECT:
            assert not DIRECT[bound.name].specifier.contains(str(Version(bound.least)) + ".dev0", prereleases=True)


@pytest.mark.parametrize(("found", "kept"), [("3.51.2", False), ("3.51.3", True), ("3.7.0", False), ("3.100", True)])
def test_a_version_is_no_text(found: str, kept: bool) -> None:
    assert audit.Bound("SQLite in apsw", found, "3.51.3", "").kept is kept


def test_the_audit_sees_what_is_required_in_turn_what_is_native_and_what_is_missing() -> None:
    found, missing = audit.installed({"here": ["apsw", "claude-agent-sdk", "no-such-package-of-ours>=1"]})
    assert missing == ["no-such-package-of-ours (for here)"]
    assert found["apsw"].native and found["claude-agent-sdk"].native, "a library, and a program without a suffix"
    assert "claude-agent-sdk" in found["mcp"].by and found["mcp"].native == 0
    assert all(package.licence for package in found.values())


def test_the_command_says_what_is_not_known() -> None:
    done = subprocess.run([sys.executable, audit.__file__], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No database of vulnerabilities was consulted" in done.stdout
    assert all(f"\n{name.lower()} " in done.stdout for name in DIRECT)
