"""What an operator does to a task: requeue, kill, route, edit, approve. Each leaves an audit row with who and why."""

from __future__ import annotations

import sys
from typing import Any

import click

from producer.cli import completing, screen
from producer.cli.app import App, json_option, pass_app
from producer.cli.values import parse_ids, parse_payload
from producer.errors import UsageError

idents = click.argument("idents", metavar="TASK...", nargs=-1, required=True, shell_complete=completing.tasks)
ident = click.argument("ident", metavar="TASK", shell_complete=completing.tasks)
reason_option = click.option("--reason", default="", help="Why; for the audit log.")


@click.command()
@idents
@reason_option
@json_option
@pass_app
def requeue(app: App, idents: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Have failed, escalated or killed tasks tried again; retries are counted anew.

    Example: producerctl task requeue 01K3ABCDEF --reason "the API key works again"
    """
    _each(app, idents, as_json, "requeued", "requeue_task", reason=reason)


@click.command()
@idents
@reason_option
@json_option
@pass_app
def kill(app: App, idents: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Take tasks out of the queue; a run of one is stopped.

    Example: producerctl task kill 01K3ABCDEF --reason "not wanted any more"
    """
    _each(app, idents, as_json, "killed", "kill_task", reason=reason)


@click.command()
@idents
@json_option
@pass_app
def approve(app: App, idents: tuple[str, ...], as_json: bool) -> None:
    """Let tasks run that were filed as requiring approval.

    Example: producerctl task approve 01K3ABCDEF
    """
    _each(app, idents, as_json, "approved", "approve_task")


@click.command()
@ident
@click.argument("role", shell_complete=completing.roles)
@json_option
@pass_app
def route(app: App, ident: str, role: str, as_json: bool) -> None:
    """Give a task to another role; one that had ended is tried again there.

    Example: producerctl task route 01K3ABCDEF qa
    """
    _each(app, (ident,), as_json, f"routed to {app.role(role)}", "route_task", role=role)


@click.command()
@ident
@click.option("--title", help="The new title.")
@click.option("--description", help="The new description; - reads it from stdin.")
@click.option("--priority", type=int, help="From 0 (urgent) to 5 (someday).")
@click.option("--payload", metavar="JSON", help="The new payload, a JSON object.")
@click.option("--dependencies", metavar="ID,ID", help="The new dependencies; empty for none.")
@click.option("--sprint", help="The new sprint; empty for none.")
@json_option
@pass_app
def edit(app: App, /, ident: str, as_json: bool, **given: Any) -> None:
    """Change what a task says, as long as it does not run.

    Example: producerctl task edit 01K3ABCDEF --priority 0 --description "Use the new API"
    """
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise UsageError("nothing to change: give --title, --description, --priority, --payload, ...")
    if changes.get("description") == "-":
        changes["description"] = sys.stdin.read()
    if "payload" in changes:
        changes["payload"] = parse_payload(changes["payload"])
    if "dependencies" in changes:
        changes["dependencies"] = parse_ids(app, changes["dependencies"])
    if "sprint" in changes:
        changes["sprint_id"] = changes.pop("sprint") or None
    _each(app, (ident,), as_json, "edited", "edit_task", changes=changes)


def _each(app: App, idents: tuple[str, ...], as_json: bool, done: str, operation: str, **arguments: Any) -> None:
    """One operation for each task. All ids are looked up before the first change."""
    full = [app.task(text) for text in dict.fromkeys(idents)]
    with app.client(create=False) as ledger:
        for task in full:
            ledger.perform(operation, task_id=task, **arguments)
            if not as_json:
                screen.say(f"{task} {done}")
    if as_json:
        with app.reader() as reader:
            screen.show_json([{"id": task, "status": reader.task(task)["status"]} for task in full])


COMMANDS = (requeue, kill, route, edit, approve)
