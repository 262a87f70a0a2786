"""`producerctl task`: filing tasks and looking at them. With and without a running supervisor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from producer.cli import completing, screen, task_change, task_view
from producer.cli.app import App, json_option, pass_app
from producer.cli.values import parse_ids, parse_payload
from producer.errors import InvalidTask

STATUSES = ("pending", "blocked", "in_progress", "done", "failed", "escalated", "killed", "all")
ID_COLUMN = 28  # where a task's line goes on that is too long


@click.group(no_args_is_help=False)
def task() -> None:
    """File tasks, look at them, change them. An id may be cut to its first characters.

    Example: producerctl task list --status escalated
    """


@task.command()
@click.option("--agent", "role", required=True, help="The role that does it.", shell_complete=completing.roles)
@click.option("--title", required=True, help="One line.")
@click.option("--description", required=True, help="What is to be done; - reads it from stdin.")
@click.option("--priority", type=int, default=3, show_default=True, help="From 0 (urgent) to 5 (someday).")
@click.option("--payload", metavar="JSON", help="A JSON object with what the agent should know.")
@click.option("--dependencies", metavar="ID,ID", help="Tasks that must be done before this one.")
@click.option("--sprint", help="The sprint it belongs to.")
@click.option("--parent", metavar="ID", help="The task it follows from.")
@click.option("--requires-approval", is_flag=True, help="Hold it until `task approve`.")
@json_option
@pass_app
def add(app: App, /, role: str, description: str, payload: str | None, as_json: bool, **more: Any) -> None:
    """File a task; prints its id and nothing else.

    Example: producerctl task add --agent code --title "Parser" --description "Write src/parser.py" --priority 1
    """
    draft = {
        "agent_owner": app.role(role),
        "title": more["title"],
        "description": sys.stdin.read() if description == "-" else description,
        "priority": more["priority"],
        "payload": parse_payload(payload),
        "dependencies": parse_ids(app, more["dependencies"]),
        "sprint_id": more["sprint"],
        "parent_task_id": app.task(more["parent"]) if more["parent"] else None,
        "requires_approval": more["requires_approval"],
    }
    with app.client() as ledger:
        ident = ledger.insert_task(**draft)
    screen.show_json({"id": ident}) if as_json else screen.say(ident)


@task.command("list")
@click.option("--status", type=click.Choice(STATUSES), default="pending", show_default=True, help="Their state.")
@click.option("--agent", "--role", "role", help="Only this role's.", shell_complete=completing.roles)
@click.option("--sprint", help="Only this sprint's.")
@click.option("--text", help="Only those with this text in title or description.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many.")
@json_option
@pass_app
def list_command(app: App, /, status: str, as_json: bool, **filters: Any) -> None:
    """List tasks by priority and age, one a line: ID  pN  [role]  title.

    Example: producerctl task list --status done --role code --text parser
    """
    with app.reader() as reader:
        rows = reader.list(status=None if status == "all" else status, **filters)
    if filters["role"] and not rows:
        app.role(filters["role"])  # that it is none says more than that it has no tasks
    if as_json:
        screen.show_json(rows)
        return
    person = screen.terminal() and status == "all"  # what scripts read stays as it is
    for row in rows:
        text = task_view.line(row)
        said = f"{text}  ({row['status']})" if person else text
        screen.hang(said, ID_COLUMN, screen.STYLES.get(row["status"], "") if person else "")
    if not rows:
        screen.note(f"no tasks with status {status}: --status all shows every task" if status != "all" else "no tasks")


@task.command()
@click.argument("ident", metavar="TASK", shell_complete=completing.tasks)
@json_option
@pass_app
def show(app: App, ident: str, as_json: bool) -> None:
    """Show a task: its text, attempts, cost, what blocks it, and where its transcripts lie.

    Example: producerctl task show 01K3ABCDEF
    """
    full = app.task(ident)
    with app.reader() as reader:
        data = reader.show(full)
    data["attempts"] = [{**row, "transcript": _transcript(app, full, row["session_id"])} for row in data["attempts"]]
    screen.show_json(data) if as_json else task_view.show(data)


@task.command()
@click.argument("ident", metavar="TASK", shell_complete=completing.tasks)
@json_option
@pass_app
def tree(app: App, ident: str, as_json: bool) -> None:
    """Show the lineage that a task belongs to: who filed what.

    Example: producerctl task tree 01K3ABCDEF
    """
    full = app.task(ident)
    with app.reader() as reader:
        rows = reader.tree(full)
    screen.show_json(rows) if as_json else task_view.tree(rows, full)


@task.command("import")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@pass_app
def import_command(app: App, file: Path, as_json: bool) -> None:
    """File the tasks of a seed file, a JSON list; ids that exist already are left alone. All of them or none.

    Example: producerctl task import seed_tasks.json
    """
    from producer.ledger.client import read_seed

    for number, item in enumerate(read_seed(file), 1):
        if item.get("agent_owner") not in app.project.roles:
            known = ", ".join(sorted(app.project.roles))
            raise InvalidTask(f"{file}: task {number}: agent_owner: no role {item.get('agent_owner')!r}: use {known}")
    with app.client() as ledger:
        filed = ledger.seed_from_json(file)
    screen.show_json({"filed": filed}) if as_json else screen.say(f"{filed} tasks filed")


def _transcript(app: App, task: str, session: str | None) -> str | None:
    """Where the transcript of an attempt's session lies, None where there is none."""
    from producer.cli.transcript import find

    path = find(app.places.config_dir(task), session) if session else None
    return str(path) if path else None


for command in task_change.COMMANDS:
    task.add_command(command)
