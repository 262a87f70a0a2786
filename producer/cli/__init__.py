"""The command line: `producerctl`, `producer` and `python -m producer` are one program.

1. A command parses, calls and prints; what it does is done elsewhere.
2. Results go to stdout, progress and logs to stderr; everything is printed through screen.py.
3. An error is one line: what, where, what to do. Exit 0 done, 1 failed, 2 usage or configuration, 3 no supervisor,
   130 interrupted. --debug shows the traceback too.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from producer.cli import screen
from producer.cli.app import App
from producer.cli.root import Interrupted, root
from producer.errors import ProducerError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    screen.prepare()
    code = execute(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        screen.abandon(1)
    sys.exit(code)


def execute(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors are printed, and raised again only with --debug."""
    app = App()
    try:
        code = root.main(args=arguments, prog_name=program(), standalone_mode=False, obj=app)
        return code if isinstance(code, int) else 0
    except (Interrupted, KeyboardInterrupt, click.Abort):
        screen.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        screen.abandon(1)
        return 1
    except Exception as error:
        if app.debug:
            raise
        screen.error(_line(error))
        return _exit_code(error)


def program() -> str:
    """The name that the program was called by."""
    name = Path(sys.argv[0]).name
    return name if name in ("producer", "producerctl") else "producerctl"


def _line(error: Exception) -> str:
    match error:
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else program()
            return f"{error.format_message().rstrip('.')}: see `{path} --help`"
        case click.ClickException():
            return error.format_message()
        case ProducerError():
            return str(error)
        case OSError():
            return f"{error.filename or type(error).__name__}: {error.strerror or error}"
        case _:
            return f"internal error: {type(error).__name__}: {error}: run again with --debug for the traceback"


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, (ProducerError, click.ClickException)) else 1
