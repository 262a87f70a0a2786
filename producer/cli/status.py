"""`producerctl status`: how things stand, once or live."""

from __future__ import annotations

import threading
from typing import Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.core.text import one_line
from producer.errors import NoSupervisor
from producer.ledger import trust

ESCALATED = 10
SCHEDULED = 3


@click.command()
@click.option("--watch", is_flag=True, help="Go on showing what happens; end it with Ctrl-C.")
@json_option
@pass_app
def status(app: App, watch: bool, as_json: bool) -> None:
    """Show how things stand; --watch goes on showing it.

    Supervisor, kill switch, roles, workers, queue, money, escalations and the last events. With no supervisor it
    tells what the ledger knows.

    Example: producerctl status --watch
    """
    from producer.cli.snapshot import snapshot

    if watch:
        _watch(app, as_json)
        return
    found = snapshot(app)
    if as_json:
        screen.show_json(found)
        return
    _head(found)
    _roles(found)
    _queue(found)
    _scheduled(found)
    _escalations(app)
    _events(app, found)


def _watch(app: App, as_json: bool) -> None:
    from producer.cli.live import Feed, draw, tell

    never = threading.Event()
    if as_json:
        feed = Feed(app)
        while True:
            screen.show_json_line(feed.status())
            for _ in feed.events(1.0):
                pass
    if screen.terminal():
        draw(app, never, stderr=False)
    if app.supervisor() is None:
        raise NoSupervisor(app.project.ledger_db)
    tell(app, never, screen.say)


def _head(found: dict[str, Any]) -> None:
    supervisor, switch = found["supervisor"], found["kill_switch"]
    screen.say(found["project"], "bold")
    if not supervisor["running"]:
        screen.say("supervisor   not running", "yellow")
    else:
        words = f"pid {supervisor['pid']} since {_time(supervisor['since'])}, {supervisor['version']}"
        silent = supervisor.get("answering") is False
        screen.say(f"supervisor   {words}{', does not answer' if silent else ''}", "red" if silent else "green")
    if found.get("auth"):
        gateway = f", gateway {found['gateway']['url']}" if found.get("gateway") else ", no gateway"
        screen.say(f"auth         {found['auth']}{gateway}")
    _sandboxes(found["roles"])
    if switch["armed"]:
        since = f" since {_time(switch['since'])}" if switch["since"] else ""
        screen.say(f"kill switch  ARMED{since}: {one_line(switch['reason'] or 'no reason given')}", "bold red")
    else:
        screen.say("kill switch  disarmed")
    if found.get("audit"):
        screen.say(
            f"audit log    {one_line(trust.words(found['audit']), 300)}", "red" if found["audit"]["alarm"] else ""
        )


def _sandboxes(roles: dict[str, Any]) -> None:
    """What holds the roles' agents, and in red whom nothing holds."""
    held: dict[str, list[str]] = {}
    for name, row in roles.items():
        place = row.get("sandbox") or {"mode": "unknown", "network": "full"}
        held.setdefault(place["mode"], []).append(f"{name}{'' if place['network'] == 'full' else ' (gateway only)'}")
    for mode, names in held.items():
        if mode == "none":
            screen.say(f"sandbox      NONE for {', '.join(names)}: what they run may do what you may do", "bold red")
        elif mode == "refused":
            screen.say(f"sandbox      refused: {', '.join(names)}; see `producerctl doctor`", "bold red")
        else:
            screen.say(f"sandbox      {mode}: {', '.join(names)}")


def _roles(found: dict[str, Any]) -> None:
    money = found["budget"]
    rows = []
    for name, row in found["roles"].items():
        busy = sum(worker["state"] == "busy" for worker in row["workers"])
        spent = money["roles"].get(name, {"spent_usd": "0.00", "held_usd": "0.00", "cap_usd": "0.00"})
        until = f"until {_time(row['until'])} " if row["until"] else ""
        why = until + (row.get("reason") or "") if row["state"] != "ok" else ""
        workers = f"{busy} busy, {len(row['workers'])} of {row['desired']}"
        rows.append(
            [name, row["state"], workers, *(f"${spent[f'{key}_usd']}" for key in ("spent", "held", "cap")), why]
        )
    total = money["project"]
    rows.append(["project", "", "", *(f"${total[f'{key}_usd']}" for key in ("spent", "held", "cap")), ""])
    screen.say("")
    screen.table(["role", "state", "workers", "spent", "held", "cap", "why"], rows, right=["spent", "held", "cap"])
    running = [
        (name, worker) for name, row in found["roles"].items() for worker in row["workers"] if worker.get("task")
    ]
    for name, worker in running:
        words = f"{worker.get('title') or worker['task']} ({worker['seconds']:.0f} s, ${worker['cost_usd']})"
        screen.say(f"  {name}: {one_line(words)}", "cyan")


def _queue(found: dict[str, Any]) -> None:
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in found["queue"].items() if number)
    screen.say("")
    screen.say(f"queue        {counts or 'empty'}")


def _scheduled(found: dict[str, Any]) -> None:
    rows = found.get("schedule", [])
    for row in rows[:SCHEDULED]:
        when = _time(row["next"]) if row["next"] else "never"
        screen.say(f"scheduled    {when}  [{row['role']}]  {one_line(row['title'])}")
    if len(rows) > SCHEDULED:
        screen.say("             and more: producerctl schedule")


def _escalations(app: App) -> None:
    with app.reader() as reader:
        rows = reader.list(status="escalated", limit=ESCALATED + 1)
    for row in rows[:ESCALATED]:
        reason = one_line(row["escalation_reason"] or "", 100)
        screen.hang(f"escalated    {row['id']}  [{row['agent_owner']}]  {one_line(row['title'])}: {reason}", 13, "red")
    if len(rows) > ESCALATED:
        screen.say("             and more: producerctl task list --status escalated", "red")


def _events(app: App, found: dict[str, Any]) -> None:
    from producer.cli.logs import titles
    from producer.cli.wording import INDENT, is_empty, line, of_audit

    screen.say("")
    with app.reader() as reader:
        title = titles(reader)
        for row in found.get("events", []):
            event = of_audit(row)
            if not is_empty(event):
                screen.hang(line(event, title), INDENT, "dim")


def _time(text: str) -> str:
    return text[:19].replace("T", " ") + " UTC"
