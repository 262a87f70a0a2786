"""The commands by name. Each is imported when it is used, so that a script's `task add` does not load a live view.

What `--help` says of a command is repeated here, so that it imports none of them; a test compares the two.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from producer.cli.app import App, pass_app
from producer.version import __version__

COMMANDS = {
    "init": ("init:init", "Write a new project: producer.yaml, prompts and a ledger."),
    "demo": ("demo:demo", "Run a complete project: real agents, a scripted model."),
    "doctor": ("doctor:doctor", "Check everything, and say how to mend what is wrong."),
    "run": ("run:run_command", "Run the supervisor in the foreground."),
    "status": ("status:status", "Show how things stand; --watch goes on showing it."),
    "kill": ("switch:kill", "Arm the kill switch: everything halts until `resume`."),
    "resume": ("switch:resume", "Disarm the kill switch; work goes on at once."),
    "scale": ("fleet:scale", "Set how many workers a role has."),
    "drain": ("fleet:drain", "Let a role (or all) finish and take nothing more."),
    "role": ("fleet:role", "Look after a single role."),
    "restart": ("fleet:restart", "Replace the supervisor by a new one."),
    "reload": ("fleet:reload_command", "Read producer.yaml again, and show what changes."),
    "stop": ("fleet:stop", "Stop the supervisor and all its workers."),
    "task": ("task:task", "File tasks, look at them, change them."),
    "schedule": ("schedule:schedule", "Show the scheduled tasks and when each comes next."),
    "logs": ("logs:logs", "Show what agents said and did; -f goes on live."),
    "budget": ("budget:budget", "Show what is spent, held and allowed."),
    "report": ("report:report", "Write the morning report and print its path."),
    "ui": ("ui:ui", "Serve the dashboard on 127.0.0.1 and open it in the browser."),
    "audit": ("audit:audit", "Check the audit log, and take it elsewhere."),
    "migrate": ("migrate:migrate", "Take over the ledger of ai-producer 0.3, with a backup."),
    "pricing": ("pricing:pricing", "What models cost, for caps and reports."),
    "service": ("service:service", "Have systemd run the supervisor, from boot on."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
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
