"""`producerctl kill` and `resume`: the brake.

1. With a supervisor the order goes to it, so that arming, stopping and the audit row are one. Without one, or where it
   does not obey, the switch file is written and the processes are ended from here.
2. The brake works with a producer.yaml that is broken: the switch that the file seems to name is armed.
3. `--now` counts the processes that are left after it: 0 is the promise, and anything else is exit code 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from producer import killswitch
from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import ConfigError, NoSupervisor, ProducerError
from producer.project import guess

ASK_SECONDS = 5.0
STOP_SECONDS = 10.0  # it is done in one or two; a supervisor that hangs must not hold the brake up for long
SWEEP_SECONDS = 10.0
DEFAULT_REASON = "armed by hand"


@click.command()
@click.argument("reason", required=False, default=DEFAULT_REASON)
@click.option("--now", is_flag=True, help="Stop what runs, too, and count what is left.")
@click.option("--drill", is_flag=True, help="Rehearse `kill --now` on a scratch project; touches nothing of this one.")
@click.option("--runs", default=10, show_default=True, type=click.IntRange(1, 1000), help="How often --drill does it.")
@json_option
@pass_app
def kill(app: App, reason: str, now: bool, drill: bool, runs: int, as_json: bool) -> int:
    """Arm the kill switch: everything halts until `resume`.

    No task is started and no model request leaves; --now also stops what runs and counts what is left.

    Example: producerctl kill "deploy in progress" --now
    """
    if drill:
        from producer.cli import drill as rehearsal

        return rehearsal.drill(runs, as_json=as_json)
    try:
        switch = app.project.kill_switch
    except ConfigError as error:
        return _arm_blindly(app, error, reason, now, as_json)
    try:
        found: dict[str, Any] = app.ask("kill", STOP_SECONDS if now else ASK_SECONDS, reason=reason, now=now)
    except ProducerError as error:
        if not isinstance(error, NoSupervisor):
            screen.warn(f"{error}; stopping without it")
        found = _arm_alone(app, reason, now)
    if as_json:
        screen.show_json(found)
    else:
        screen.say(f"kill switch armed at {switch}", "bold red")
        if now:
            screen.say(f"{found['stopped']} stopped, {found['survivors']} survivors, {found['seconds']:.2f} s")
    return 1 if found.get("survivors") else 0


@click.command()
@click.argument("reason", required=False, default="")
@json_option
@pass_app
def resume(app: App, reason: str, as_json: bool) -> None:
    """Disarm the kill switch; work goes on at once.

    Example: producerctl resume "deploy is done"
    """
    before = killswitch.read(app.project.kill_switch)
    try:
        app.ask("resume", ASK_SECONDS, reason=reason)
    except NoSupervisor:
        killswitch.disarm(app.project.kill_switch)
        _record(app, "kill_switch_disarmed", {"reason": reason, "was": before.reason})
    if as_json:
        screen.show_json({"armed": False, "was_armed": before.armed, "project": app.project.project_name})
        return
    was = f" (was armed: {before.reason or 'no reason given'})" if before.armed else " (it was not armed)"
    screen.say(f"{app.project.project_name}: kill switch disarmed at {app.project.kill_switch}{was}")


def _arm_alone(app: App, reason: str, now: bool) -> dict[str, Any]:
    """Arm the file, end what belongs to the project, and only then tell the audit log: the brake comes first."""
    killswitch.arm(app.project.kill_switch, reason, now)
    found: dict[str, Any] = {"armed": True}
    if now:
        found |= _sweep(app)
    recorded = _record(app, "kill_switch_armed", {"reason": reason, "now": now})
    if now and recorded:
        detail = {"stopped": found["stopped"], "survivors": found["survivors"]}
        _record(app, "stopped_now", {**detail, "milliseconds": round(found["seconds"] * 1000)})
    return found


def _sweep(app: App) -> dict[str, Any]:
    from producer.reaper import PROJECT_MARKER, Family, end

    swept = end(Family(entries=(f"{PROJECT_MARKER}={app.places.key}",)), limit=SWEEP_SECONDS)
    return {"stopped": swept.found - swept.survivors, "survivors": swept.survivors, "seconds": round(swept.seconds, 3)}


def _record(app: App, action: str, detail: dict[str, Any]) -> bool:
    """An audit row, where there is a ledger to take it. The brake does not depend on it."""
    try:
        with app.client(create=False) as ledger:
            ledger.append_audit(agent_owner=app.actor, action=action, detail=detail)
    except ProducerError as error:
        screen.warn(f"no audit row was written: {error}")
        return False
    return True


def _arm_blindly(app: App, error: ConfigError, reason: str, now: bool, as_json: bool) -> int:
    """producer.yaml cannot be used, and still the brake must work."""
    from producer.config.files import find_config

    path = find_config(app.config_file)
    if not path.is_file():
        raise error
    switch = _named_switch(path)
    try:
        killswitch.arm(switch, reason, now)
    except OSError as problem:
        raise ProducerError(f"{switch} cannot be written ({problem}); and {error}") from None
    screen.warn(f"{error}; a running supervisor still obeys the switch, but nothing was stopped from here")
    screen.show_json({"armed": True}) if as_json else screen.say(f"kill switch armed at {switch}", "bold red")
    return 1 if now else 0


def _named_switch(path: Path) -> Path:
    """The switch that a file which cannot be parsed seems to name, else the default one."""
    return guess(path, path.read_text(encoding="utf-8", errors="replace"))["kill_switch"].resolve()
