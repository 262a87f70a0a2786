"""The commands by name. Each is imported when it is used, so that a script's `task add` does not load a live view."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from producer.cli.app import App, pass_app
from producer.version import __version__

COMMANDS = {
    "init": "init:init",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "run": "run:run_command",
    "status": "status:status",
    "kill": "switch:kill",
    "resume": "switch:resume",
    "scale": "fleet:scale",
    "drain": "fleet:drain",
    "role": "fleet:role",
    "restart": "fleet:restart",
    "reload": "fleet:reload_command",
    "stop": "fleet:stop",
    "task": "task:task",
    "schedule": "schedule:schedule",
    "logs": "logs:logs",
    "budget": "budget:budget",
    "report": "report:report",
    "ui": "ui:ui",
    "audit": "audit:audit",
    "migrate": "migrate:migrate",
    "pricing": "pricing:pricing",
    "service": "service:service",
    "completion": "completion:completion",
}


class Interrupted(Exception):
    """Somebody pressed Ctrl-C. (click answers a KeyboardInterrupt with an empty line of its own.)"""


class Lazy(click.Group):
    """A group that imports a command when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises Interrupted."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order of their table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: Any = getattr(import_module(f"producer.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group("producerctl", cls=Lazy, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ai-producer")
@click.option("--config", "config_file", metavar="FILE", help="The project's producer.yaml; default ./producer.yaml.")
@click.option("--debug", is_flag=True, help="Show tracebacks, and log more.")
@pass_app
def root(app: App, config_file: str | None, debug: bool) -> None:
    """A bus, a budget and a brake for a fleet of Claude agents.

    Begin with `producerctl demo`, or with `producerctl init` in a project of yours.

    Example: producerctl --config projects/game/producer.yaml status
    """
    app.config_file, app.debug = config_file, debug
