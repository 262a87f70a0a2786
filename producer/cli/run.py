"""`producerctl run`: the supervisor, in the foreground."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from pathlib import Path

import click

from producer.cli import screen
from producer.cli.app import App, pass_app
from producer.cli.values import parse_counts
from producer.errors import UsageError

SCRIPT = Path(str(resources.files("producer"))) / "templates" / "rehearsal" / "demo.yaml"
_INVOKER = re.compile(r"claude|echo|[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@click.command("run")
@click.option("--once", is_flag=True, help="Until nothing is ready or running; exit 1 where something escalated.")
@click.option(
    "--rehearse",
    metavar="[SCRIPT]",
    is_flag=False,
    flag_value=str(SCRIPT),
    default=None,
    help="With a scripted model: no key, no cost. A script, or a directory of recordings; default: the demo's script.",
)
@click.option("--workers", multiple=True, metavar="ROLE=N", help="How many workers a role has; may be repeated.")
@click.option("--invoker", default="claude", show_default=True, help="claude, echo or MODULE:NAME.")
@pass_app
def run_command(app: App, once: bool, rehearse: str | None, workers: tuple[str, ...], invoker: str) -> int:
    """Run the supervisor in the foreground.

    It starts the workers and gives them the tasks that are ready; Ctrl-C or `producerctl stop` ends it. Where its
    terminal goes away it goes on without one.

    Example: producerctl run --once --workers code=2
    """
    if not _INVOKER.fullmatch(invoker):
        raise UsageError(f"--invoker: {invoker!r} is not claude, echo or MODULE:NAME")
    from producer.config.warnings import warnings
    from producer.sandbox import narrowed

    counts = parse_counts(app, workers)
    script = read_script(rehearse) if rehearse else None
    for line in warnings(app.config):
        screen.warn(line)
    if invoker == "claude" and (narrow := narrowed(app.config)):
        screen.warn(narrow)
    return serve(app, once=once, script=script, workers=counts, invoker=invoker)


def serve(
    app: App, *, once: bool, script: Path | None = None, workers: dict[str, int] | None = None, invoker: str = "claude"
) -> int:
    """Run the supervisor, with a view of what it does beside it; its exit code. Call it in the main thread."""
    from producer.cli import log
    from producer.supervisor import RunOptions, run

    log.configure(app.debug)
    view = _view(app, once)
    options = RunOptions(
        once=once, rehearse=script, workers=workers or {}, invoker=invoker, actor=app.actor, watched=view is not None
    )
    with view or nullcontext():
        return run(app.config, options)


def read_script(text: str) -> Path:
    """The script of a rehearsal, checked. Raises ConfigError."""
    from producer.gateway import script

    script.load(text)
    return Path(text).resolve()


def _view(app: App, once: bool) -> AbstractContextManager[None] | None:
    """A table for a run that ends on a terminal, lines for everything else; None for a service, which has its logs."""
    person = screen.terminal(stderr=True)
    if screen.unseen() or not (once or person):
        return None
    from producer.cli.live import beside

    return beside(app, table=once and person)
