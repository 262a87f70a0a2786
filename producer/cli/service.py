"""`producerctl service`: the supervisor as a systemd service.

A service is one unit, or three where agents live in a unit of their own (docs/service.md). A unit is written whole,
through a file beside it, and one that this program did not write is left alone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.cli.unit import SYSTEM_UNITS, Unit, installation, parse_credentials, unit_names
from producer.config.files import find_config
from producer.errors import ProducerError, UsageError

MARK = "# ai-producer: "
SECONDS = 60.0
LEAST_SYSTEMD = 250  # ExitType=cgroup
user_option = click.option("--user", "of_user", is_flag=True, help="A service of yours alone; needs no root.")
name_option = click.option("--name", metavar="NAME", help="Call it ai-producer-NAME: for several projects.")
run_as_option = click.option("--run-as", metavar="USER", help="Whom it runs as; default: the project's owner.")
credential_option = click.option(
    "--credential", multiple=True, metavar="NAME=FILE", help="A key that systemd loads from a file; may be repeated."
)
landlock_option = click.option("--landlock", is_flag=True, help="Closed further: agents in Landlock, no bubblewrap.")


@click.group(no_args_is_help=False)
def service() -> None:
    """Have systemd run the supervisor, from boot on.

    Example: producerctl service print
    """


@service.command("print")
@user_option
@name_option
@run_as_option
@credential_option
@landlock_option
@pass_app
def print_unit(
    app: App, of_user: bool, name: str | None, run_as: str | None, credential: tuple[str, ...], landlock: bool
) -> None:
    """Print the units that `service install` would write.

    Example: producerctl service print --user
    """
    _say(_units(app, of_user, name, run_as, credential, landlock))


@service.command()
@user_option
@name_option
@run_as_option
@credential_option
@landlock_option
@click.option("--dry-run", is_flag=True, help="Only show what would be written and run.")
@json_option
@pass_app
def install(
    app: App, of_user: bool, name: str | None, run_as: str | None, credential: tuple[str, ...], landlock: bool,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the units of this project and enable it at boot. It is not started yet.

    Example: producerctl service install --run-as aiproducer --credential anthropic-api-key=/etc/ai-producer/key
    """
    units = _units(app, of_user, name, run_as, credential, landlock)
    path, *others = units
    for unit in _paths(of_user, name):
        _ours(unit)
    commands = [_systemctl(of_user, "daemon-reload"), _systemctl(of_user, "enable", path.name)]
    if not dry_run:
        _may_write(of_user)
        if others:
            _new_enough()
        if not others:
            _shut(of_user, name)
        for unit, text in units.items():
            _write(unit, text)
        for command in commands:
            _call(command)
    start = " ".join(_systemctl(of_user, "start", path.name))
    following = [start, *([f"loginctl enable-linger {_me()}"] if of_user else [])]
    if as_json:
        screen.show_json({
            "unit": str(path), "text": units[path], "others": {str(other): units[other] for other in others},
            "written": not dry_run, "commands": [" ".join(command) for command in commands], "next": following,
        })  # fmt: skip
        return
    _say(units)
    for unit in units:
        screen.note(f"{'would write' if dry_run else 'wrote'} {unit}")
    for command in commands:
        screen.note(f"{'would run' if dry_run else 'ran'}: {' '.join(command)}")
    screen.note(f"start it now: {start}")
    if of_user:
        screen.note(f"let it start at boot, without your login: loginctl enable-linger {_me()}")


@service.command()
@user_option
@name_option
@json_option
@pass_app
def uninstall(app: App, of_user: bool, name: str | None, as_json: bool) -> None:
    """Stop the service and remove its units. The project, its ledger and its state stay.

    Example: producerctl service uninstall --name game
    """
    path, *others = _paths(of_user, name)
    if not path.exists():
        raise UsageError(f"{path} does not exist: nothing to uninstall")
    units = [path, *(other for other in others if other.exists())]
    for unit in units:
        _ours(unit)
    _may_write(of_user)
    _call(_systemctl(of_user, "disable", "--now", path.name))
    for unit in units:
        unit.unlink()
    _call(_systemctl(of_user, "daemon-reload"))
    if as_json:
        screen.show_json({"unit": str(path), "removed": True})
    else:
        screen.say("\n".join(f"removed {unit}" for unit in units))


def _units(
    app: App, of_user: bool, name: str | None, run_as: str | None, credential: tuple[str, ...], landlock: bool
) -> dict[Path, str]:
    """The units' texts by where they belong, the supervisor's first."""
    if of_user and run_as:
        raise UsageError("--run-as: a --user service runs as you")
    if of_user and landlock:
        raise UsageError("--landlock: a --user service has nothing to close; say `sandbox: landlock` in producer.yaml")
    root = app.config.project_root.resolve()
    config = find_config(app.config_file).resolve()
    user = None if of_user else _account(run_as, root)
    program = _program()
    keys, places = parse_credentials(credential), installation(program)
    unit = Unit(config, root, program, Path(sys.executable), user, keys, places, landlock, name)
    return {_directory(of_user) / file: text for file, text in unit.texts().items()}


def _paths(of_user: bool, name: str | None) -> list[Path]:
    """Where the units of a service of this name lie, those that it may do without, too."""
    return [_directory(of_user) / file for file in unit_names(name)]


def _say(units: dict[Path, str]) -> None:
    """One unit as it is; of several each under its name, as `systemctl cat` does it."""
    texts = [text if len(units) == 1 else f"# {path}\n{text}" for path, text in units.items()]
    screen.say("\n".join(texts).rstrip("\n"))


def _shut(of_user: bool, name: str | None) -> None:
    """Take the way to the workers' unit away. The unit itself stays: without its file systemd ends who lives in it."""
    for socket in _paths(of_user, name):
        if socket.suffix == ".socket" and socket.exists():
            _call(_systemctl(of_user, "stop", socket.name))
            socket.unlink()


def _new_enough() -> None:
    said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    version = said.stdout.split()[1:2]
    if version and version[0].isdigit() and int(version[0]) < LEAST_SYSTEMD:
        raise UsageError(f"the workers' unit needs systemd {LEAST_SYSTEMD}, this is {version[0]}: take --landlock")


def _account(run_as: str | None, root: Path) -> str:
    try:
        if run_as is None:
            owner = pwd.getpwuid(root.stat().st_uid).pw_name
            if owner == "root":
                raise UsageError(f"{root} belongs to root: name a user without privileges with --run-as")
            return owner
        return pwd.getpwnam(run_as).pw_name
    except (KeyError, ValueError):
        raise UsageError(f"--run-as: no user {run_as or root.stat().st_uid!r} on this machine") from None


def _program() -> Path:
    beside = Path(sys.executable).with_name("producerctl")
    found = beside if beside.is_file() else Path(shutil.which("producerctl") or "")
    if not found.is_absolute():
        raise UsageError("no `producerctl` beside this Python and none in PATH: install the package")
    return found


def _directory(of_user: bool) -> Path:
    if not of_user:
        return SYSTEM_UNITS
    common = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (common if common.is_absolute() else Path.home() / ".config") / "systemd/user"


def _may_write(of_user: bool) -> None:
    if shutil.which("systemctl") is None:
        raise UsageError(
            "systemctl is not installed: `service print` shows the unit, another service manager can run it"
        )
    if not of_user and os.geteuid() != 0:
        raise UsageError(f"{SYSTEM_UNITS} is root's: run this with sudo, or take --user")


def _ours(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.read_text(errors="replace").startswith(MARK)):
        raise UsageError(f"{path} was not written by `service install`: move it away, or take another --name")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.chmod(0o644)
    beside.replace(path)


def _systemctl(of_user: bool, *words: str) -> list[str]:
    return ["systemctl", *(["--user"] if of_user else []), *words]


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise ProducerError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")


def _me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
