"""What a shell completes besides commands: the project's roles and tasks. Silent where there is no project."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click
from click.shell_completion import CompletionItem

from producer.cli.app import App
from producer.core.text import one_line

MOST = 100


def roles(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The roles of producer.yaml."""
    return _quietly(lambda app: (CompletionItem(name) for name in app.project.roles), context, begun)


def role_counts(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """ROLE=, for a number to follow."""
    return _quietly(lambda app: (CompletionItem(f"{name}=") for name in app.project.roles), context, begun)


def tasks(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The tasks that one would name: those that run, then those that wait for a person, then those that wait."""
    return _quietly(_tasks, context, begun)


def _tasks(app: App) -> Iterator[CompletionItem]:
    with app.reader() as reader:
        for status in ("in_progress", "escalated", "failed", "pending"):
            for task in reader.list(status=status, limit=MOST):
                yield CompletionItem(task["id"], help=one_line(task["title"], 60))


def _quietly(
    find: Callable[[App], Iterator[CompletionItem]], context: click.Context, begun: str
) -> list[CompletionItem]:
    top = context.find_root()
    app = App()
    app.config_file = top.params.get("config_file")
    try:
        return [item for item in find(app) if str(item.value).startswith(begun)]
    except Exception:  # a shell that completes is no place for an error
        return []
