"""Ending processes that do not want to end: real ones."""

from __future__ import annotations

import fcntl
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from producer import reaper
from producer.ids import new_id
from producer.reaper import Family
from producer.workers.isolation import Containment, containment, write_launcher

STUBBORN = """
import os, signal, sys
count, folder = int(sys.argv[1]), sys.argv[2]
for number in range(count):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            open(f"{folder}/{os.getpid()}", "w").close()
            os.execve("/bin/sleep", ["sleep", "60"], {})
        os._exit(0)
    os.wait()
"""
FORKING = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for number in range(300):  # bounded, and every child ends by itself: a test must not become what it tests against
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    time.sleep(0.004)
time.sleep(60)
"""


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


@pytest.fixture
def clean(subreaper: None) -> Iterator[None]:
    """This process adopts the orphans of its children; whatever a test leaves is ended."""
    yield
    reaper.end(Family(root=os.getpid()))
    reaper.reap()


def spare() -> frozenset[int]:
    return frozenset(child.pid for child in psutil.Process().children())


@pytest.mark.parametrize("count", [1, 200])
def test_double_forked_daemons_that_ignore_term_and_clear_their_environment_are_all_ended(
    clean: None, tmp_path: Path, count: int
) -> None:
    family = Family(root=os.getpid(), spare=spare())
    subprocess.run([sys.executable, "-c", STUBBORN, str(count), str(tmp_path)], check=True)
    until(lambda: len(list(tmp_path.iterdir())) == count)  # the last may still be on its way when its parent has gone
    daemons = [int(path.name) for path in tmp_path.iterdir()]
    assert len(reaper.find(family)) == count
    swept = reaper.end(family, grace=0.2)
    assert (swept.found, swept.survivors) == (count, 0)
    reaper.reap()
    assert not any(psutil.pid_exists(pid) for pid in daemons)


def test_a_tree_that_keeps_forking_does_not_outrun_the_killer(clean: None) -> None:
    family = Family(root=os.getpid(), spare=spare())
    subprocess.Popen([sys.executable, "-c", FORKING])
    until(lambda: len(reaper.find(family)) >= 8)
    swept = reaper.end(family)
    assert swept.survivors == 0 and swept.found >= 8
    assert reaper.find(family) == []


def test_a_process_is_found_by_its_marker_alone(clean: None) -> None:
    mine, other = new_id(), new_id()
    for attempt in (mine, other):
        subprocess.run(
            ["sh", "-c", "setsid sleep 60 &"], env={**os.environ, reaper.ATTEMPT_MARKER: attempt}, check=True
        )
    family = Family.of_attempt(mine)
    until(lambda: len(reaper.find(family)) == 1 and len(reaper.find(Family.of_attempt(other))) == 1)
    assert {mine, other} <= set(reaper.marked(reaper.ATTEMPT_MARKER))
    assert reaper.end(family).survivors == 0
    assert len(reaper.find(Family.of_attempt(other))) == 1, "another attempt's process was hit"
    assert reaper.end(Family.of_attempt(other)).found == 1


RUNNING_AWAY = """
import os, sys, time
while not os.path.exists(sys.argv[1]):
    time.sleep(0.005)
if os.fork() == 0:
    os.execvp("sleep", ["sleep", "60"])
"""


@pytest.mark.parametrize("collected", [False, True], ids=["a zombie", "without a trace"])
def test_one_that_forks_and_ends_while_the_pids_are_listed_leaves_nothing(
    clean: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collected: bool
) -> None:
    family, listed = Family(root=os.getpid(), spare=spare()), []
    parent = subprocess.Popen([sys.executable, "-c", RUNNING_AWAY, str(tmp_path / "go")])

    def pids(real: Callable[[], list[int]] = psutil.pids) -> list[int]:
        listed.append(real())
        if len(listed) == 1:
            (tmp_path / "go").touch()
            until(lambda: psutil.Process(parent.pid).status() == psutil.STATUS_ZOMBIE)
            if collected:
                parent.wait()
        return listed[-1]

    monkeypatch.setattr(psutil, "pids", pids)
    swept = reaper.end(family)
    assert (swept.found, swept.survivors) == (1, 0)
    monkeypatch.undo()
    assert reaper.find(family) == []
    parent.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="counts what is read of /proc")
def test_where_nothing_was_left_one_look_is_enough_and_reads_nothing_of_the_kernels_threads(
    clean: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = list(psutil.process_iter(["name", "ppid"]))
    first = {process.pid for process in known if process.info["name"] == "kthreadd"}
    kernel = first | {process.pid for process in known if process.info["ppid"] in first}
    looks: list[bool] = []
    read: list[int] = []
    look, environ = reaper.look, reaper.environment
    monkeypatch.setattr(reaper, "look", lambda: (found := look(), looks.append(found.ended))[0])
    monkeypatch.setattr(reaper, "environment", lambda pid: (read.append(pid), environ(pid))[1])

    def quiet() -> bool:  # something of this machine may end under a look, which then does not count
        looks.clear()
        assert reaper.end(Family.of_attempt(new_id())).survivors == 0
        return not looks[0]

    until(quiet)
    assert len(looks) == 1
    assert read and kernel.isdisjoint(read)


def test_spared_processes_and_ourselves_are_left_alone(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = new_id()
    entry = f"{reaper.ATTEMPT_MARKER}={attempt}"
    env = {**os.environ, reaper.ATTEMPT_MARKER: attempt}
    inner = f"from producer import reaper; import sys; sys.exit(len(reaper.find(reaper.Family(entries=({entry!r},)))))"
    assert subprocess.run([sys.executable, "-c", inner], env=env, check=False).returncode == 0
    child = subprocess.Popen(["sh", "-c", "sleep 60; true"], env=env)
    until(lambda: len(psutil.Process(child.pid).children()) == 1)
    assert reaper.find(Family(entries=(entry,), spare=frozenset({child.pid}))) == []
    assert len(reaper.find(Family(entries=(entry,)))) == 2


def test_polite_processes_may_leave_in_the_grace(clean: None, tmp_path: Path) -> None:
    script = f"trap 'touch {tmp_path}/polite; exit 0' TERM; touch {tmp_path}/ready; while :; do sleep 0.01; done"
    family = Family(root=os.getpid(), spare=spare())
    child = subprocess.Popen(["sh", "-c", script])
    until((tmp_path / "ready").exists)
    swept = reaper.end(family, grace=5.0)
    assert swept.survivors == 0 and (tmp_path / "polite").exists()
    assert child.wait() == 0, "its exit status belongs to whoever started it"


def test_what_cannot_be_ended_is_counted(clean: None, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(root=os.getpid(), spare=spare())
    subprocess.Popen(["sleep", "60"])
    with monkeypatch.context() as context:
        context.setattr(reaper, "_signal", lambda proc, number: None)
        assert reaper.end(family, limit=0.1).survivors == 1
    assert reaper.end(family).survivors == 0


@pytest.mark.parametrize("kind", [kind for kind in Containment if kind is not Containment.PLAIN])
def test_a_contained_process_dies_with_its_worker(clean: None, tmp_path: Path, kind: Containment) -> None:
    if list(Containment).index(kind) < list(Containment).index(containment()):
        pytest.skip(f"{kind} does not work for this user")
    family = Family(root=os.getpid(), spare=spare())
    launcher = write_launcher(tmp_path / "launcher", "/bin/sh", ["SECRET"], kind)
    command = f'echo "$SECRET|$KEPT" > {tmp_path}/said; setsid sleep 61 & exec sleep 62'
    worker = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])", str(launcher), "-c", command],
        env={**os.environ, "SECRET": "s3cret", "KEPT": "kept"},
    )
    expected = 2 if kind in (Containment.NAMESPACE, Containment.USER_NAMESPACE) else 1
    until(lambda: sum(process.name() == "sleep" for process in reaper.find(family)) == 2)
    worker.kill()
    worker.wait()
    until(lambda: sum(process.name() == "sleep" for process in reaper.find(family)) == 2 - expected)
    assert (tmp_path / "said").read_text() == "|kept\n"


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfds here")
def test_an_exit_is_seen_before_anybody_asks_for_its_status_and_by_a_high_descriptor() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2048)), hard))
    child = subprocess.Popen(["sleep", "60"])
    low = os.pidfd_open(child.pid)
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1_500)
    try:
        assert not reaper.has_exited(high)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert reaper.has_exited(high), "a zombie has exited"
    finally:
        child.kill()
        child.wait(10)
        os.close(low)
        os.close(high)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
