from __future__ import annotations

from pathlib import Path

import click
import pytest

from producer.cli.docs import commands, page

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
EVERY = dict(commands())


def test_the_page_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m producer.cli.docs > docs/commands.md"


@pytest.mark.parametrize("path", EVERY)
def test_every_command_is_documented_with_an_example(path: str) -> None:
    command = EVERY[path]
    assert command.help, f"{path} has no help"
    example = command.help.split("Example: ")
    assert len(example) == 2, f"{path} has no example, or more than one"
    words = example[1].split()
    assert words[0] == "producerctl"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts[0]} has no help"


@pytest.mark.parametrize("path", EVERY)
def test_every_option_of_an_example_exists(path: str) -> None:
    command = EVERY[path]
    assert command.help
    example = command.help.split("Example: ")[1].split(" > ")[0].split(" >> ")[0]
    options = {word for word in example.split() if word.startswith("-") and len(word) > 1}
    known = {name for _, found in commands() for parameter in found.params for name in parameter.opts}
    assert options <= known
