"""`producerctl completion`: what a shell needs to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from producer.cli import screen


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Example: producerctl completion bash >> ~/.bash_completion
    """
    top = ctx.find_root()
    name = top.info_name or "producerctl"
    kind = get_completion_class(shell)
    assert kind is not None
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    screen.say(kind(top.command, {}, name, variable).source().rstrip("\n"))
