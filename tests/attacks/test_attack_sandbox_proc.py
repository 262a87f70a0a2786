"""Where the kernel allows no /proc of its own (masked, as in a container or a hardened unit), it still holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from producer.sandbox import choice

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or choice.bwrap_problem() is not None, reason="needs root and bubblewrap"),
]
AS_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --no-new-privs"


def test_a_masked_proc_is_found_out_and_shows_no_environment(tmp_path: Path) -> None:
    ask = "from producer.sandbox import choice; print(choice.bwrap_problem(), ' '.join(choice.proc_words()))"
    root = Path(__file__).resolve().parents[2]
    script = f"""
        mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys
        SECRET=outside {AS_NOBODY} sleep 30 & other=$!
        cd {root} && {AS_NOBODY} true
        {AS_NOBODY} {shutil.which("bwrap")} --ro-bind / / --dev /dev --proc /proc {" ".join(choice.APART)} true; echo own $?
        {AS_NOBODY} {shutil.which("bwrap")} --ro-bind / / --dev /dev {" ".join(choice.OUTER_PROC)} {" ".join(choice.APART)} \\
            sh -c "grep -c SECRET /proc/$other/environ; kill -0 $other && echo signalled; cat /proc/$other/maps; echo ran"
        kill $other
        {sys.executable} -P -c "{ask}"
    """
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "HOME": str(tmp_path)}
    ran = subprocess.run(["unshare", "-m", "sh", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    lines = ran.stdout.splitlines()
    assert lines[:2] == ["own 1", "ran"], (ran.stdout, ran.stderr)
    assert lines[2] == "None --proc /proc", "root itself may mount one"
