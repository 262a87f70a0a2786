"""Where the private things lie: found from the ledger's path alone, private, and short enough for a socket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from producer import places as places_module
from producer.errors import ForeignDirectory, PathTooLong
from producer.ids import is_id, new_id
from producer.places import MAX_SOCKET_PATH, Places
from producer.wire.auth import Keys
from producer.wire.server import Server


def of(tmp_path: Path, **env: str) -> Places:
    return Places.of(tmp_path / "ledger.db", env)


def test_systemd_goes_before_xdg_and_xdg_before_home(tmp_path: Path) -> None:
    env = {"HOME": "/h", "XDG_STATE_HOME": "/xs", "XDG_RUNTIME_DIR": "/xr", "STATE_DIRECTORY": "/ss:/other",
           "RUNTIME_DIRECTORY": "/sr"}  # fmt: skip
    key = of(tmp_path, **env).key
    assert (of(tmp_path, **env).state, of(tmp_path, **env).runtime) == (Path("/ss", key), Path("/sr", key))
    del env["STATE_DIRECTORY"], env["RUNTIME_DIRECTORY"]
    found = of(tmp_path, **env)
    assert (found.state, found.runtime) == (Path("/xs/ai-producer", key), Path("/xr/ai-producer", key))
    del env["XDG_STATE_HOME"], env["XDG_RUNTIME_DIR"]
    found = of(tmp_path, **env)
    assert found.state == Path("/h/.local/state/ai-producer", key)
    assert found.runtime == Path("/h/.local/state/ai-producer/run", key)


@pytest.mark.parametrize("value", ["", "relative/path", ":"])
def test_a_variable_that_is_no_absolute_path_is_ignored(tmp_path: Path, value: str) -> None:
    names = ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME", "XDG_RUNTIME_DIR")
    assert of(tmp_path, HOME="/h", **dict.fromkeys(names, value)) == of(tmp_path, HOME="/h")


def test_one_ledger_has_one_place_whatever_way_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    env = {"HOME": "/h"}
    names = [tmp_path / "real/ledger.db", "real/ledger.db", "link/ledger.db", "real/../link/./ledger.db"]
    assert len({Places.of(name, env).state for name in names}) == 1
    assert Places.of("other.db", env).state != Places.of("real/ledger.db", env).state


def test_the_directories_are_made_private_and_made_private_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    tmp_path = tmp_path_factory.mktemp("p")
    os.umask(before := os.umask(0))
    places = of(tmp_path, XDG_STATE_HOME=str(tmp_path / "s"), XDG_RUNTIME_DIR=str(tmp_path / "r")).make()
    assert os.umask(before) == before
    private = (places.state, places.runtime, places.keys, places.outboxes, places.inbox, places.journal, places.workers,
               places.tasks)  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in private} == {0o700}
    places.keys.chmod(0o755)
    places.state.chmod(0o777)
    places.make()
    assert {path.stat().st_mode & 0o777 for path in private} == {0o700}


def test_a_directory_of_somebody_else_is_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path_factory.mktemp("p")
    places = of(tmp_path, XDG_STATE_HOME=str(tmp_path / "s")).make()
    somebody = os.geteuid() + 1
    monkeypatch.setattr(places_module.os, "geteuid", lambda: somebody)
    with pytest.raises(ForeignDirectory, match=str(places.state)):
        places.make()


def test_a_socket_path_of_107_bytes_works_and_one_of_108_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("p")
    rest = len(os.fsencode(of(home, XDG_STATE_HOME=str(home), XDG_RUNTIME_DIR=str(home)).runtime / "control"))
    fits = home / ("x" * (MAX_SOCKET_PATH - rest - 1))
    places = of(home, XDG_STATE_HOME=str(home / "s"), XDG_RUNTIME_DIR=str(fits)).make()
    assert len(os.fsencode(places.runtime / "control")) == 107
    keys = Keys(places)
    keys.ensure()
    Server(places, keys).close()
    for deep in (f"{fits}x", str(home / ("ü" * 50))):
        places = of(home, XDG_STATE_HOME=str(home / "s"), XDG_RUNTIME_DIR=deep).make()
        with pytest.raises(PathTooLong, match="XDG_RUNTIME_DIR to a shorter directory, or write `sockets: tcp`"):
            Server(places, keys)
        server = Server(places, keys, "tcp")
        assert places.address("control").startswith("tcp://127.0.0.1:"), "loopback needs no path"
        server.close()


@pytest.mark.parametrize(
    "text", ["0" * 26 + "\n", "0" * 25, "0" * 27, "../" * 9, "o" * 26, "I" * 26, 5, None, b"0" * 26]
)
def test_only_a_ulid_is_an_id(text: object) -> None:
    assert is_id(new_id()) and not is_id(text)
