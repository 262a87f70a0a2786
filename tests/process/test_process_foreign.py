"""Processes that are no children of the supervisor's, with pidfds and without."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from producer.supervisor.kernel import Foreign


@pytest.mark.parametrize("pidfds", [True, False])
def test_a_process_of_another_runs_until_it_has_ended(pidfds: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfds:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    elif not hasattr(os, "pidfd_open"):
        pytest.skip("no pidfds here")
    child = subprocess.Popen(["sleep", "60"])
    try:
        found = Foreign.of(child.pid)
        assert (found.pidfd is not None) is pidfds and found.poll() is None
        child.kill()
        deadline = time.monotonic() + 10
        while found.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert found.poll() == -1, "a zombie has ended"
        assert found.pidfd is None or found.pidfd.closed
    finally:
        child.kill()
        child.wait(10)
    assert Foreign.of(child.pid).poll() == -1, "nobody has the number"
    assert found.poll() == -1
