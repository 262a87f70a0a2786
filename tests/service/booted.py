"""A real systemd as PID 1 of namespaces of its own, over a root whose writes vanish: to run a service as it will be run.

It cannot reach the host's systemd, /tmp or /run: boot.sh has private ones, and refuses to start systemd where it has not.
Its directory must be one of pytest's, empty. What is ended at the end is the process that was started here, and the kernel
ends everything in its PID namespace with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from driving import SOURCE, until

HERE = Path(__file__).parent
SYSTEMD = Path("/lib/systemd/systemd")
NAMESPACES = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--fork", "--kill-child=KILL")
TOOLS = ("unshare", "nsenter", "setpriv", "systemctl", "systemd-id128", "pivot_root", "ip")
PROGRAM = "/opt/ai-producer"  # where boot.sh shows the repository


def problem(room: Path) -> str | None:
    """Why systemd cannot be booted on this machine; None where it can."""
    if os.geteuid() != 0:
        return "only root may boot a systemd of its own"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    if not SYSTEMD.exists() or _cgroups() is None:
        return "there is no systemd, or no cgroup2 that may be written, on this machine"
    (room / "l").mkdir(parents=True)
    trial = 'mount -t tmpfs x "$0/l" && mkdir "$0/l/u" "$0/l/w" "$0/l/m" && mount -t overlay -o "lowerdir=/,upperdir=$0/l/u,workdir=$0/l/w" x "$0/l/m"'  # fmt: skip
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "sh", "-c", f"mount --make-rprivate / && {trial}", str(room)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return f"no namespaces or overlays here: {tried.stderr.strip()[:200]}" if tried.returncode else None


class Booted:
    """The running systemd. ``room``: an empty directory of its own, deep enough not to be anybody else's."""

    def __init__(self, room: Path) -> None:
        room = room.resolve()
        assert len(room.parts) > 3, f"{room} is not deep enough"
        assert not any(room.iterdir()), f"{room} is not empty"
        assert not room.is_relative_to("/run")
        (room / "m").mkdir()
        groups = _cgroups()
        assert groups is not None
        self._group = groups / f"ai-producer-test-{os.getpid()}"
        self._group.mkdir()
        self._log = room / "boot.log"
        enter = 'echo $$ >"$0/cgroup.procs"; exec unshare "$@"'
        with self._log.open("wb") as log:
            self._outer = subprocess.Popen(
                ["sh", "-c", enter, str(self._group), *NAMESPACES, "sh", str(HERE / "boot.sh"), str(room), SOURCE],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            self.pid = until(self._first, what="systemd as PID 1", why=self._log.read_text)
            (groups / "cgroup.procs").write_text(str(self._outer.pid))  # systemd alone is in the root of its cgroups
            until(self._running, what="a running system", why=self._failed)
        except BaseException:
            self.close()
            raise

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """A command inside, as root; its output."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-a", *command],
            capture_output=True, text=True, timeout=100, check=False, input=stdin,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("mkdir", "-p", str(Path(path).parent))
        self.run("sh", "-c", 'cat >"$0"', path, stdin=text)

    def close(self) -> None:
        """End it, with everything in it."""
        self._outer.send_signal(signal.SIGKILL)
        self._outer.wait(30)

        def removed() -> bool:
            for path in sorted(self._group.rglob("*"), reverse=True):
                if path.is_dir():
                    with suppress(OSError):
                        path.rmdir()
            with suppress(OSError):
                self._group.rmdir()
            return not self._group.exists()

        until(removed, what="the end of all processes inside")

    def _first(self) -> int | None:
        assert self._outer.poll() is None, self._log.read_text()
        with suppress(OSError):
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            for child in children:
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return None

    def _running(self) -> bool:
        state = self.run("systemctl", "is-system-running", check=False)
        assert state != "degraded", self._failed()
        return state == "running"

    def _failed(self) -> str:
        return self._log.read_text() + self.run("systemctl", "--failed", "--no-pager", check=False)


def _cgroups() -> Path | None:
    for place in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (place / "cgroup.procs").exists() and os.access(place, os.W_OK):
            return place
    return None
