"""What `producerctl doctor` looks at. Each check says ok, warn or fail, what it found, and how to mend it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from producer import killswitch, pricing
from producer.cli.app import App
from producer.core.text import one_line
from producer.errors import AuthError, ConfigError, LedgerUnusable, PathTooLong, ProducerError, UnknownModel
from producer.ids import iso
from producer.ledger.marks import Marks
from producer.places import IPC, Places

GIB = 1 << 30
Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's. ``mend`` says what to do; ``red``: shown like a failure, without being one."""

    name: str
    status: Status
    detail: str
    mend: str = ""
    red: bool = False


def machine() -> Iterator[Finding]:
    """What has nothing to do with a project."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "fail", found, "install Python 3.11 or newer")
    yield _claude()
    yield _containment()
    where = shutil.which("git")
    why = "not found: workspaces and diffs need it"
    yield Finding("git", "ok", where) if where else Finding("git", "warn", why, "install git")
    yield from _ways()


def project(app: App) -> Iterator[Finding]:
    """What a valid configuration makes it possible to look at."""
    for check in (
        _prompts,
        _auth,
        _models,
        _prices,
        _places,
        _ledger,
        _audit,
        _supervisor,
        _switch,
        _workspaces,
        _sandbox,
        _disk,
    ):
        yield from _guarded(check, app)


def configuration(app: App) -> Iterator[Finding]:
    """Whether there is a usable producer.yaml. Raises ConfigError."""
    from producer.config.warnings import warnings

    roles = ", ".join(app.config.roles) or "none"
    yield Finding("config", "ok", f"{app.config.source}; roles: {roles}")
    for line in warnings(app.config):
        where, _, what = line.partition(": ")
        yield Finding("config", "warn", f"{where}: {what}", "see docs/configuration.md")


def _guarded(check: Callable[[App], Iterator[Finding]], app: App) -> Iterator[Finding]:
    try:
        yield from check(app)
    except LedgerUnusable:  # the ledger's own check has told it, with the way out
        return
    except ProducerError as error:
        yield Finding(check.__name__.strip("_"), "fail", str(error))


def _claude() -> Finding:
    from producer.cli.init import find_claude

    path = find_claude()
    if path is None:
        return Finding("claude", "fail", "no claude CLI on PATH or in claude-agent-sdk", "pip install claude-agent-sdk")
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    try:
        asked = subprocess.run(
            [str(path), "--version"], capture_output=True, text=True, errors="replace", timeout=20, env=env, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("claude", "fail", f"{path} does not start: {error}", "reinstall claude-agent-sdk")
    if asked.returncode:
        return Finding("claude", "fail", f"{path}: {one_line(asked.stderr, 200)}", "reinstall claude-agent-sdk")
    return Finding("claude", "ok", f"{one_line(asked.stdout, 80)}, {path}")


def _containment() -> Finding:
    from producer.workers.isolation import Containment, containment

    kind = containment()
    if kind is Containment.PLAIN:
        return Finding(
            "containment", "warn", "agents are found by their marks alone", "install util-linux (setpriv, unshare)"
        )
    return Finding("containment", "ok", f"agents' processes are held by: {kind.value}")


def _ways() -> Iterator[Finding]:
    """Which sandboxes work on this machine."""
    from producer.sandbox import choice

    bwrap, landlock = choice.bwrap_problem(), choice.landlock_problem()
    yield Finding("bwrap", "ok" if bwrap is None else "warn", bwrap or "bubblewrap works", "install bubblewrap")
    if bwrap is not None:
        mend = "install bubblewrap, or say `sandbox: none`"
        weaker = "Landlock works; it holds less than bubblewrap, see docs/sandbox.md"
        yield Finding("landlock", "ok" if landlock is None else "warn", landlock or weaker, mend)


def _prompts(app: App) -> Iterator[Finding]:
    paths = [app.config.prompt_path(role) for role in app.config.roles]
    yield Finding("prompts", "ok", f"{sum(path is not None for path in paths)} of {len(paths)} roles have one")


def _workspaces(app: App) -> Iterator[Finding]:
    """Worktrees: whether they can be, and those that hold what nobody committed."""
    from producer.supervisor.workspaces import check

    try:
        repository = check(app.config)
    except ConfigError as error:
        yield Finding("workspaces", "fail", error.problem, "mend it, or say `workspace: shared`")
        return
    if repository is not None:
        yield Finding("workspaces", "ok", f"git worktrees of {repository.top}")
    if app.config.ledger_db.exists():
        with app.reader() as reader:
            facts = Marks(reader.db, "workspace").all()
        for task, fact in facts.items():
            if fact.get("kept"):
                problem = f"{task}: {fact['path']} holds uncommitted work, or is damaged"
                yield Finding("workspaces", "warn", problem, "commit or remove what is in it")


def _auth(app: App) -> Iterator[Finding]:
    from producer.config import project_env
    from producer.config.environment import DEFAULT_UPSTREAM, upstream
    from producer.supervisor import RunOptions
    from producer.supervisor.auth import decide

    env = project_env(app.config)
    try:
        auth = decide(app.config, RunOptions(), env)
    except AuthError as error:
        yield Finding("auth", "fail", error.problem, error.mend)
        return
    way = "no gateway: spending is what the SDK reports"
    if auth.metered:
        to = upstream(app.config, env)
        passed = f" and passes it to {to}" if to != DEFAULT_UPSTREAM else ""
        way = f"the gateway meters and caps every request{passed}; {auth.source}"
    mend = f"to have requests metered: ANTHROPIC_API_KEY=... in {app.config.project_root / '.env'}"
    yield Finding(
        "auth", "warn" if auth.warning else "ok", f"{auth.mode}; {auth.warning or way}", mend if auth.warning else ""
    )
    yield from _login(auth.login)
    yield from _auth_in_force(app, auth.mode)


def _login(file: Path | None) -> Iterator[Finding]:
    from producer import login

    if file is None:
        return
    expires = login.read(file).expires
    when = f"the login of claude is good until {iso(expires)}" if expires else "the login of claude says no end"
    yield Finding(
        "login", "warn", f"{when}; only `claude` renews it, agents and gateway never do",
        "for fleets: `claude setup-token`, then CLAUDE_CODE_OAUTH_TOKEN",
    )  # fmt: skip


def _auth_in_force(app: App, mode: str) -> Iterator[Finding]:
    """What the running supervisor works with, where that is not what it would be started with now."""
    if app.supervisor() is None:
        return
    try:
        found = app.ask("status", 5.0, brief=True)
    except ProducerError:
        return  # told by the check of the supervisor
    running, gateway = found.get("auth"), found.get("gateway")
    way = f"gateway {gateway['url']}" if gateway else "no gateway"
    same = running in (mode, "rehearsal", "none")
    yield Finding("auth in force", "ok" if same else "warn", f"{running}, {way}", "" if same else "producerctl restart")


def _models(app: App) -> Iterator[Finding]:
    from producer.cli.pricing import project_table

    prices = pricing.build(project_table(app))
    for model in sorted({app.config.model_of(role) for role in app.config.roles}):
        try:
            prices.lookup(model)
        except UnknownModel as error:
            yield Finding("models", "fail", str(error), f"add it under pricing: in {app.config.source}")
        else:
            yield Finding("models", "ok", f"{model} has a price")


def _prices(app: App) -> Iterator[Finding]:
    from producer.cli.pricing import project_table

    days = pricing.age_days(project_table(app), datetime.now(UTC).date())
    stale = days > pricing.STALE_AFTER_DAYS
    age = f"the price table is {days} days old" if days > 1 else "the price table is new"
    yield Finding("pricing", "warn" if stale else "ok", age,
                  "producerctl pricing update" if stale else "")  # fmt: skip


def _sockets(where: str, places: Places) -> Finding:
    if where != IPC:
        return Finding("sockets", "ok", "loopback tcp" if where == "tcp" else f"{where} and the three ports after it")
    try:
        return Finding("sockets", "ok", str(places.socket_path("control").parent))
    except PathTooLong as error:
        return Finding("sockets", "fail", str(error), "set XDG_RUNTIME_DIR to a shorter directory, or `sockets: tcp`")


def _places(app: App) -> Iterator[Finding]:
    places = app.places
    yield _sockets(app.config.sockets, places)
    for path in (places.state, places.runtime):
        if not path.exists():
            yield Finding("private directories", "ok", f"{path} is made by the first run")
            continue
        found = path.stat()
        private = stat.S_IMODE(found.st_mode) & 0o077 == 0 and found.st_uid == os.getuid()
        detail = f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}"
        yield (
            Finding("private directories", "ok", detail)
            if private
            else Finding("private directories", "fail", detail, f"chown {os.getuid()} {path}; chmod 700 {path}")
        )


def _ledger(app: App) -> Iterator[Finding]:
    if not app.config.ledger_db.exists():
        yield Finding("ledger", "ok", f"{app.config.ledger_db} is made by the first run or task")
        return
    try:
        with app.reader() as reader:
            counts = reader.counts()
    except LedgerUnusable as error:
        yield Finding("ledger", "fail", str(error), "producerctl migrate, or name another with ledger_db")
        return
    yield Finding("ledger", "ok", f"{app.config.ledger_db}: {sum(counts.values())} tasks")
    if counts["escalated"]:
        yield Finding(
            "escalations", "warn", f"{counts['escalated']} wait for you", "producerctl task list --status escalated"
        )


def _audit(app: App) -> Iterator[Finding]:
    """The log's end, what nobody has acknowledged, and whether its heads go anywhere."""
    from producer.ledger import trust
    from producer.ledger.verify import tail

    if not app.config.ledger_db.exists():
        return
    with app.reader() as reader:
        problem, found = tail(reader.db, app.places.state).problem, trust.figures(reader.db)
    if problem:
        yield Finding("audit log", "fail", problem, "producerctl audit verify; docs/audit.md says what to do")
    elif found["alarm"]:
        yield Finding("audit log", "fail", trust.words(found), "look into it, then: producerctl audit acknowledge WHY")
    else:
        yield Finding("audit log", "ok", trust.words(found))
    anchored, pushed = found["anchored"], app.config.notifications
    if app.config.audit.anchor_command is None:
        if not (pushed.ntfy_topic and pushed.events.audit_head):
            where = "its heads go nowhere but into the supervisor's own log"
            yield Finding("audit heads", "warn", where, "set audit.anchor_command or notifications.ntfy_topic")
    elif anchored and not anchored["ok"]:
        yield Finding(
            "audit heads", "fail", f"row {anchored['size']}: {anchored['error']}", "mend audit.anchor_command"
        )
    elif anchored:
        yield Finding("audit heads", "ok", f"row {anchored['size']} was taken by audit.anchor_command")


def _supervisor(app: App) -> Iterator[Finding]:
    holder = app.supervisor()
    if holder is None:
        yield Finding("supervisor", "ok", "none is running")
        return
    try:
        app.ask("status", 5.0, brief=True)
        yield Finding("supervisor", "ok", f"{holder}, {holder.version}")
    except ProducerError as error:
        yield Finding("supervisor", "fail", str(error), "look at its log; `producerctl kill --now` works without it")


def _switch(app: App) -> Iterator[Finding]:
    switch = killswitch.read(app.config.kill_switch)
    if switch.armed:
        yield Finding("kill switch", "warn", f"armed: {switch.reason or 'no reason given'}", "producerctl resume")
    elif app.config.kill_switch.exists():
        detail = f"disarmed, but {app.config.kill_switch} holds 0: touching it does not arm it"
        yield Finding("kill switch", "warn", detail, f"rm {app.config.kill_switch}")
    else:
        yield Finding("kill switch", "ok", "disarmed")


def _sandbox(app: App) -> Iterator[Finding]:
    """What every role's agents are held by."""
    from producer import sandbox
    from producer.config.environment import auth_mode, project_env

    metered = auth_mode(app.config, project_env(app.config)) != "inherit"
    for name, role in app.config.roles.items():
        if refused := sandbox.problem(app.config, name, metered=metered):
            key, why = refused
            yield Finding("sandbox", "fail", f"role {name} is refused: {key}: {why}", "see docs/sandbox.md")
        elif role.sandbox == "none":
            detail = f"role {name} has sandbox: none: what it runs may do what you may do"
            yield Finding("sandbox", "warn", detail, "remove the line", red=True)
        else:
            held = sandbox.in_force(role.sandbox, role.network)
            narrow = held == sandbox.Way.LANDLOCK
            detail = f"role {name}: {held}, network: {role.network}" + (f"; {sandbox.NARROW}" if narrow else "")
            unasked = narrow and role.sandbox == "auto"
            yield Finding("sandbox", "warn" if unasked else "ok", detail, "install bubblewrap")
    yield from _open_places(app)


def _open_places(app: App) -> Iterator[Finding]:
    """What a sandbox cannot keep from agents, because of where it lies."""
    root = app.config.project_root
    if app.config.kill_switch.parent == root:
        detail = f"{app.config.kill_switch} lies directly in project_root: agents can arm and disarm it"
        yield Finding("sandbox", "warn", detail, "kill_switch: agent-state/kill_switch")
    if root == Path.home().resolve():
        yield Finding("sandbox", "warn", "project_root is your home: agents can read all of it", "use a directory")


def _disk(app: App) -> Iterator[Finding]:
    place = next(path for path in (app.config.ledger_db, *app.config.ledger_db.parents) if path.exists())
    free = shutil.disk_usage(Path(place)).free
    status: Status = "fail" if free < GIB // 10 else "warn" if free < GIB else "ok"
    yield Finding("disk", status, f"{free / GIB:.1f} GiB free at {place}", "make room" if status != "ok" else "")
