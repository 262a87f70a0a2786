"""The switch: any existing file arms, but one that says 0."""

from __future__ import annotations

import os

import pytest

from producer import killswitch
from producer.killswitch import KillSwitchWatcher


@pytest.mark.parametrize("content", ["", "1", "1\n", "no", "00", "0 0", "now", "off", "\x00", "0\n1"])
def test_any_content_but_0_arms(tmp_path, content):
    (tmp_path / "kill_switch").write_text(content)
    assert killswitch.read(tmp_path / "kill_switch").armed


@pytest.mark.parametrize("content", ["0", "0\n", " 0 \n", "\t0"])
def test_0_disarms(tmp_path, content):
    (tmp_path / "kill_switch").write_text(content)
    assert not killswitch.read(tmp_path / "kill_switch").armed


def test_no_file_is_disarmed_and_everything_unreadable_is_armed(tmp_path):
    assert not killswitch.read(tmp_path / "none").armed
    assert not killswitch.read(tmp_path / "no" / "such" / "dir").armed
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("0")
    os.mkfifo(tmp_path / "fifo")
    for name in ("directory", "dangling", "loop", "file/below", "fifo"):
        assert killswitch.read(tmp_path / name).armed, name


@pytest.mark.parametrize(
    ("content", "now"), [("now", True), ("now\nplease", True), (" now ", True), ("not now", False)]
)
def test_a_first_line_now_cuts(tmp_path, content, now):
    (tmp_path / "kill_switch").write_text(content)
    assert killswitch.read(tmp_path / "kill_switch").now is now


def test_arming_says_why_and_since_when_and_disarming_ends_it(tmp_path):
    path = tmp_path / "agent-state" / "kill_switch"
    killswitch.arm(path, "a budget\nran away: twice")
    state = killswitch.read(path)
    assert (state.armed, state.now, state.reason) == (True, False, "a budget ran away: twice")
    assert state.since is not None
    assert (tmp_path / "agent-state" / "kill_switch.reason").read_text().endswith(": a budget ran away: twice\n")
    killswitch.arm(path, "faster", now=True)
    assert killswitch.read(path).now
    killswitch.disarm(path)
    assert not path.exists()
    path.touch()
    assert killswitch.read(path).armed, "touched after it was disarmed"
    killswitch.disarm(path)
    assert killswitch.read(path) == killswitch.SwitchState(armed=False)
    assert not list(path.parent.glob(".*"))


def test_armed_without_a_reason_is_armed_without_a_reason(tmp_path):
    switch = tmp_path / "kill_switch"
    killswitch.arm(switch, "")
    found = killswitch.read(switch)
    assert found.armed and found.reason is None and found.since is not None
    killswitch.reason_path(switch).write_text("no moment:\n")
    assert killswitch.read(switch).reason == "no moment:"


def test_the_watcher_of_the_0_3_interface(tmp_path):
    watcher = KillSwitchWatcher(str(tmp_path / "kill_switch"))
    assert not watcher.is_armed()
    watcher.disarm()
    watcher.arm("enough")
    assert watcher.is_armed()
    watcher.disarm()
    assert not watcher.is_armed()
