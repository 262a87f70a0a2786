"""`producerctl ui`: the dashboard, as a process of its own."""

from __future__ import annotations

import click

from producer.cli import screen
from producer.cli.app import App, pass_app
from producer.errors import UsageError


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), help="This port, or none.")
@click.option(
    "--start-port", type=click.IntRange(1, 65_535), default=5050, show_default=True, help="The first port to try."
)
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@pass_app
def ui(app: App, port: int | None, start_port: int, no_browser: bool) -> None:
    """Serve the dashboard on 127.0.0.1 and open it in the browser.

    It prints a link that works once; who opens it gets a session. Without a running supervisor it only shows.

    Example: producerctl ui --start-port 6000 --no-browser
    """
    from producer.web.desk import Desk
    from producer.web.serve import bind, serve

    if not app.config.ledger_db.exists():
        raise UsageError(f"{app.config.ledger_db} does not exist: `producerctl init` or `producerctl run` creates it")
    app.reader().close()
    listening = bind(port, start_port)

    def say(link: str) -> None:
        screen.note(f"the dashboard of {app.config.project_name}; this link works once, within ten minutes:")
        screen.say(link)

    serve(Desk(app), listening, say, browser=not no_browser, debug=app.debug)
