"""The reference of the commands, from the commands themselves: `python -m producer.cli.docs > docs/commands.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from producer.cli.root import root

HEAD = """\
# Commands

Written from the commands themselves; do not edit, but `python -m producer.cli.docs > docs/commands.md`.

`producerctl` and `producer` are one program. Results go to stdout, progress and logs to stderr. Exit codes: 0 done,
1 the operation failed, 2 usage or configuration, 3 no supervisor is running, 130 interrupted. Where a command takes
`--json`, its shape is stable; that of `status` is in [status.schema.json](status.schema.json).
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([HEAD, *_describe(root, "producerctl", 2)]).rstrip("\n") + "\n"


def commands(command: click.Command = root, path: str = "producerctl") -> Iterator[tuple[str, click.Command]]:
    """Every command and group, with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, f"{path} {name}")


def _describe(command: click.Command, path: str, level: int) -> Iterator[str]:
    for name, found in commands(command, path):
        context = click.Context(found, info_name=name)
        usage = " ".join(found.collect_usage_pieces(context))
        yield f"{'#' * level} {name}"
        yield ""
        yield f"    {name} {usage}"
        yield ""
        for paragraph in (found.help or "").split("\n\n"):
            text = " ".join(paragraph.split())
            yield f"`{text.removeprefix('Example: ')}`" if text.startswith("Example: ") else text
            yield ""
        options = [line for parameter in found.params if (line := _option(parameter, context))]
        yield from options
        if options:
            yield ""


def _option(parameter: click.Parameter, context: click.Context) -> str | None:
    record = parameter.get_help_record(context)
    if record is None:
        return None
    names, text = record
    return f"- `{names}`: {' '.join(text.split())}"


if __name__ == "__main__":
    sys.stdout.write(page())
