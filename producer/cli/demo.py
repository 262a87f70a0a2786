"""`producerctl demo`: a whole project in one command, with the real agents' program and a scripted model."""

from __future__ import annotations

import shlex
import tempfile
import time
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.cli.run import SCRIPT, serve
from producer.core.money import format_usd
from producer.errors import UsageError
from producer.sandbox import Way, choice, in_force

CONFIG = "producer.yaml"
OPEN = ("pending", "blocked", "in_progress")
NEXT = ("producerctl status", "producerctl task list --status done", "producerctl report", "producerctl ui")
NEXT_UNFINISHED = ("producerctl run --once --rehearse", "producerctl task list --status all", "producerctl status")
INTERRUPTED = 130
SEED = "seed_tasks.json"
OURS = ("agent-state", "agents", "__pycache__", ".git", ".env", ".claude")


@click.command()
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False, path_type=Path), help="Default: a new one in /tmp."
)
@json_option
@pass_app
def demo(app: App, directory: Path | None, as_json: bool) -> int:
    """Run a complete project: real agents, a scripted model.

    It gets a directory of its own, real tools and the real claude program; it needs no key and costs nothing.

    Example: producerctl demo --dir my-demo
    """
    target = scaffold(directory)
    project = App()
    project.config_file, project.debug = str(target / CONFIG), app.debug
    with project.client() as ledger:
        ledger.seed_from_json(target / SEED)
    screen.note(f"a project with three roles in {target}")
    screen.note(f"the model is scripted, everything else is real; {held(project)}")
    before, began = _files(target), time.monotonic()
    try:
        code = serve(project, once=True, script=SCRIPT)
    except KeyboardInterrupt:  # before the supervisor minds signals
        code = INTERRUPTED
    found = summary(project, target, before, time.monotonic() - began)
    screen.show_json(found) if as_json else _show(found)
    return code or int(found["unfinished"])


def scaffold(directory: Path | None) -> Path:
    """Write the demo's project into a directory that is new or empty; its path."""
    if directory is None:
        target = Path(tempfile.mkdtemp(prefix="ai-producer-demo-"))
    else:
        target = directory.resolve()
        if target.exists() and any(target.iterdir()):
            raise UsageError(f"--dir: {target} is not empty: name a new directory")
        target.mkdir(parents=True, exist_ok=True)
    _copy(resources.files("producer").joinpath("templates", "demo"), target)
    if in_force(Way.BWRAP) == "refused":  # Landlock would not let its agents put files beside producer.yaml
        config = target / CONFIG
        config.write_text(config.read_text().replace("      prompt:", "      sandbox: none\n      prompt:"))
    return target


def held(project: App) -> str:
    """What holds the demo's agents, in a line."""
    modes = {in_force(role.sandbox, role.network) for role in project.config.roles.values()}
    if modes == {Way.NONE.value}:
        return f"its agents run without a sandbox (`sandbox: none`): {choice.bwrap_problem()}"
    return f"its agents are held by: {', '.join(sorted(modes))}"


def summary(app: App, target: Path, before: set[str], seconds: float) -> dict[str, Any]:
    """What the run left behind. ``list_price_usd`` is what a real model would have cost."""
    from producer.ledger import standing

    with app.reader() as reader:
        counts = reader.counts()
        tokens = standing.tokens(reader)
        total = {name: sum(row[name] for row in tokens.values()) for name in next(iter(tokens.values()), {})}
        return {
            "directory": str(target),
            "ledger": str(app.config.ledger_db),
            "seconds": round(seconds, 1),
            "unfinished": any(counts[name] for name in OPEN),
            "queue": counts,
            "files": sorted(_files(target) - before),
            "tokens": total,
            "list_price_usd": format_usd(standing.cost(reader)),
            "spent_usd": "0.00",
        }


def _show(found: dict[str, Any]) -> None:
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in found["queue"].items() if number)
    count = found["tokens"].get
    cached = count("cache_read_tokens", 0) + count("cache_write_5m_tokens", 0) + count("cache_write_1h_tokens", 0)
    sent = f"{count('input_tokens', 0) + cached:,} in ({cached:,} through the cache), {count('output_tokens', 0):,} out"
    screen.say("")
    if found["unfinished"]:
        screen.say("not finished; what is done is kept, and the rest can go on where it was", "yellow")
    screen.say(f"tasks    {counts} in {found['seconds']:.0f} s", "bold")
    screen.hang(f"files    {' '.join(found['files']) or 'none'}", 9)
    screen.say(f"tokens   {sent}, {count('requests', 0)} model requests")
    screen.say(f"cost     ${found['list_price_usd']} at list price; $0.00 spent, the model was scripted")
    screen.say(f"ledger   {found['ledger']}")
    screen.say("")
    screen.say(f"Try next, after cd {shlex.quote(found['directory'])}:")
    for command in NEXT_UNFINISHED if found["unfinished"] else NEXT:
        screen.say(f"  {command}", "cyan")


def _copy(source: Traversable, target: Path) -> None:
    for item in source.iterdir():
        place = target / item.name
        if item.is_dir():
            place.mkdir(exist_ok=True)
            _copy(item, place)
        else:
            place.write_bytes(item.read_bytes())


def _files(target: Path) -> set[str]:
    """The files of the project that are not the program's own."""
    found = (path.relative_to(target) for path in target.rglob("*") if path.is_file())
    return {str(path) for path in found if not any(part in OURS for part in path.parts)}
