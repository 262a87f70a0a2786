"""`producerctl init`: a new project, and the conversation that makes it yours.

1. The wizard asks only where a person sits at a terminal; otherwise, and with --non-interactive, defaults are taken.
2. Over an existing project it says what it would change, and exits 2 unless --force is given.
3. At a terminal it then hands over to `claude` with ONBOARDING.md: the one on PATH, else the one in the SDK's wheel.
   Without a terminal, with --no-chat, or where there is no claude, it says how to do that later.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from producer.cli.scaffold import CONFIG, Change, Settings, apply, default_settings, plan
from producer.config.tree import printable
from producer.errors import UsageError

OPENING = "Read ONBOARDING.md in this directory before anything else, then begin the conversation with me."
TOPIC = re.compile(r"[A-Za-z0-9_-]{0,64}")
NO_TOPIC = ("", "-", "none")
Launch = Callable[[str, list[str]], NoReturn]


@click.command("init")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=Path(),
    help="Directory of the project; created where there is none. Default: this one.",
)
@click.option("--force", is_flag=True, help="Overwrite the files of an existing project; never its ledger.")
@click.option("--non-interactive", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--no-chat", is_flag=True, help="Do not hand over to claude afterwards.")
def init(directory: Path, force: bool, non_interactive: bool, no_chat: bool) -> None:
    """Write a new project: producer.yaml, prompts and a ledger.

    Example: producerctl init --dir my-project
    """
    target = directory.resolve()
    settings = default_settings(target)
    exists = (target / CONFIG).exists()
    if exists and not force:
        changes = plan(target, settings, force=True)
        show(target, changes, "would ")
        kept = "nothing was changed; " + (
            "--force does this" if any(change.writes for change in changes) else "every file is as init writes it"
        )
        raise UsageError(f"{printable(target / CONFIG)} exists: {kept}")
    if not non_interactive and at_terminal():
        settings = ask(settings)
    changes = plan(target, settings, force=force)
    apply(target, changes)
    show(target, changes, "")
    say_next(target, settings)
    if not no_chat:
        hand_over(target)


def at_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(defaults: Settings) -> Settings:
    """The wizard."""
    click.echo("Three questions; Enter takes what stands in brackets.")
    name = click.prompt("Project name", default=defaults.project_name, value_proc=_line)
    click.echo(
        "Pushes to your phone go through an ntfy topic. Whoever knows it reads along; a blank or `none`: no pushes."
    )
    topic = click.prompt("ntfy topic", default=defaults.ntfy_topic or "none", value_proc=_topic)
    same = defaults.subject_prefix == defaults.project_name
    prefix = click.prompt("Subject prefix", default=name if same else defaults.subject_prefix, value_proc=_line)
    return Settings(name, topic, prefix)


def _line(text: str) -> str:
    if not text.strip() or not text.isprintable() or len(text) > 100:
        raise click.BadParameter("one line of text, at most 100 characters")
    return text.strip()


def _topic(text: str) -> str:
    text = text.strip()
    if text.lower() in NO_TOPIC:
        return ""
    if not TOPIC.fullmatch(text):
        raise click.BadParameter("at most 64 letters, digits, _ and -; `none` for no pushes")
    return text


def show(target: Path, changes: list[Change], would: str) -> None:
    """One line a file: what becomes of it."""
    words = {"extend": "add lines to", "unchanged": "leave", "keep": "keep"}
    for change in sorted(changes, key=lambda change: change.path):
        lost = f" ({_difference(change)})" if change.what == "overwrite" else ""
        click.echo(f"  {would}{words.get(change.what, change.what)} {printable(change.path.relative_to(target))}{lost}")


def _difference(change: Change) -> str:
    """How many lines an overwritten file loses, and gains."""
    steps = list(unified_diff(change.old.splitlines(), change.text.splitlines(), n=0, lineterm=""))[2:]
    gone, new = (sum(step.startswith(sign) for step in steps) for sign in "-+")
    return f"-{gone} +{new} lines"


def say_next(target: Path, settings: Settings) -> None:
    """What a person does next."""
    click.echo(f"{printable(settings.project_name)} is set up in {printable(target)}")
    if settings.ntfy_topic:
        click.echo(f"Subscribe to the ntfy topic {settings.ntfy_topic} to be told when something needs you.")
    click.echo("Next: write your goals into agents/producer/system_prompt.md, then")
    click.echo('  producerctl task add --agent code --title "First task" --description "..."')
    click.echo("  producerctl run")


def find_claude(path: str | None = None) -> Path | None:
    """The claude CLI: on PATH, else in the SDK's wheel, which is not imported for that; None where there is none."""
    if found := shutil.which("claude", path=path):
        return Path(found)
    spec = find_spec("claude_agent_sdk")
    bundled = Path(spec.origin).with_name("_bundled") / "claude" if spec and spec.origin else None
    return bundled if bundled and os.access(bundled, os.X_OK) else None


def hand_over(target: Path, launch: Launch = os.execv) -> None:
    """Become claude, in the project. Where that cannot be, say how to do it later."""
    claude = find_claude()
    if claude is None:
        click.echo("The claude CLI was not found, so the onboarding chat is left out. Install Claude Code, then run")
    elif not at_terminal():
        click.echo("This is no terminal, so the onboarding chat is left out. To have it later, run")
    else:
        click.echo("Handing over to claude, which helps you to design your agents. Leave it with /exit.")
        sys.stdout.flush()
        try:
            os.chdir(target)
            launch(str(claude), [str(claude), "--permission-mode", "acceptEdits", OPENING])
        except OSError as error:
            click.echo(f"claude did not start ({error.strerror}). To have the chat later, run")
    name = "claude" if claude is None or shutil.which("claude") else shlex.quote(str(claude))
    click.echo(f'  cd {shlex.quote(str(target))} && {name} "Read ONBOARDING.md, then begin"')
