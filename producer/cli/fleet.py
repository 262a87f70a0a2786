"""`producerctl scale`, `drain`, `role reset`, `reload`, `restart`, `stop`: the fleet of a running supervisor."""

from __future__ import annotations

import time
from typing import Any

import click

from producer.cli import completing, screen
from producer.cli.app import App, json_option, pass_app
from producer.cli.values import parse_counts
from producer.core.text import many
from producer.errors import ProducerError

SLACK_SECONDS = 20.0


@click.command()
@click.argument("counts", metavar="ROLE=N...", nargs=-1, required=True, shell_complete=completing.role_counts)
@json_option
@pass_app
def scale(app: App, counts: tuple[str, ...], as_json: bool) -> None:
    """Set how many workers a role has. A run that is in hand is never cut.

    Example: producerctl scale code=4 qa=1
    """
    found = app.ask("scale", desired=parse_counts(app, counts))
    if as_json:
        screen.show_json(found)
        return
    for role, number in found["desired"].items():
        screen.say(f"{role}: {many(number, 'worker')}")


@click.command()
@click.argument("role", required=False, shell_complete=completing.roles)
@json_option
@pass_app
def drain(app: App, role: str | None, as_json: bool) -> None:
    """Let a role (or all) finish and take nothing more. `role reset` ends it.

    Example: producerctl drain code
    """
    found = app.ask("drain", role=app.role(role) if role else None)
    _said(found, as_json, f"draining {role or 'every role'}")


@click.group(no_args_is_help=False)
def role() -> None:
    """Look after a single role.

    Example: producerctl role reset code
    """


@role.command()
@click.argument("role", shell_complete=completing.roles)
@json_option
@pass_app
def reset(app: App, role: str, as_json: bool) -> None:
    """Put a role back into service that was parked, drained or throttled.

    Example: producerctl role reset code
    """
    _said(app.ask("role_reset", role=app.role(role)), as_json, f"{role} is back in service")


@click.command("reload")
@json_option
@pass_app
def reload_command(app: App, as_json: bool) -> None:
    """Read producer.yaml again, and show what changes. A bad file is refused, the old one stays.

    Example: producerctl reload
    """
    found = app.ask("reload")
    if as_json:
        screen.show_json(found)
        return
    for change in found["changes"]:
        screen.say(change)
    if not found["changes"]:
        screen.say("nothing changed")


@click.command()
@json_option
@pass_app
def restart(app: App, as_json: bool) -> None:
    """Replace the supervisor by a new one. Workers and their runs go on.

    Example: producerctl restart
    """
    _said(app.ask("restart"), as_json, "the supervisor restarts; its workers go on")


@click.command()
@json_option
@pass_app
def stop(app: App, as_json: bool) -> None:
    """Stop the supervisor and all its workers. What runs goes back to the queue and loses no retry.

    Example: producerctl stop
    """
    holder = app.supervisor()
    found = app.ask("stop")
    deadline = time.monotonic() + app.config.shutdown_grace_seconds + SLACK_SECONDS
    while holder is not None and app.supervisor() == holder:
        if time.monotonic() > deadline:
            raise ProducerError(f"{holder} was told to stop and is still there: see its log")
        time.sleep(0.05)
    _said(found, as_json, "stopped")


def _said(found: Any, as_json: bool, words: str) -> None:
    screen.show_json(found) if as_json else screen.say(words)
