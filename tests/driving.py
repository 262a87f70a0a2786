"""A project on disk and a supervisor of it as a real process, for the tests that need both.

Every wait is for a condition, with a deadline; what fails says what was waited for and shows the supervisor's log.
Processes are ended by their pid, and at the end nothing that carries the project's mark may be left.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml

from producer import reaper
from producer.config import ProducerConfig, load_config
from producer.errors import LedgerUnusable, NoSupervisor, WireError
from producer.ledger import LedgerClient, Reader, export
from producer.ledger.client import rebuild
from producer.ledger.signing import KeyRing
from producer.places import Places
from producer.reaper import PROJECT_MARKER, Family
from producer.wire.client import Control

SOURCE = str(Path(__file__).resolve().parent.parent)
PATIENCE = 45.0  # enough for a machine that does much else; what holds, holds at once
LOOK = 0.03
T = TypeVar("T")


def until(
    condition: Callable[[], T], seconds: float = PATIENCE, what: str = "", why: Callable[[], str] = lambda: ""
) -> T:
    """Wait for something true and return it; AssertionError, with what ``why`` says, where it does not come about."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'the condition'} did not come about in {seconds:g} s\n{why()}")
        time.sleep(LOOK)
    return found


def carriers(key: str) -> list[int]:
    """The living processes that carry a project's mark."""
    return reaper.marked(PROJECT_MARKER).get(key, [])


@dataclass
class Project:
    """A project directory and the private places that belong to it."""

    root: Path
    env: dict[str, str] = field(repr=False)
    over: str = "ipc"

    @property
    def file(self) -> Path:
        """producer.yaml"""
        return self.root / "producer.yaml"

    @property
    def state(self) -> Path:
        """What people read: agent-state."""
        return self.root / "agent-state"

    @property
    def room(self) -> Path:
        """A directory for what agents make: where Landlock holds them, they make nothing beside producer.yaml."""
        return self.root / "room"

    @property
    def places(self) -> Places:
        """Where the private things are."""
        return Places.of(self.state / "ledger.db", self.env)

    def configure(self, roles: Mapping[str, Mapping[str, Any] | None], **more: Any) -> None:
        """Write producer.yaml; every role gets a cap, and what it is not given by itself."""
        ceiling = more.pop("project_ceiling_usd", 100)
        common = {"daily_cap_usd": 50, "dispatch_reservation_usd": 0.01}
        agents = {name: {**common, "allowed_tools": ["Read"], **(settings or {})} for name, settings in roles.items()}
        document = {
            "project_name": "testbed",
            "default_model": "claude-sonnet-5-5",
            "shutdown_grace_seconds": 4,
            "sockets": self.over,
            **more,
            "budget": {"project_ceiling_usd": ceiling, "agents": agents},
        }
        self.room.mkdir(exist_ok=True)
        self.file.write_text(yaml.safe_dump(json.loads(json.dumps(document)), sort_keys=False))

    def config(self) -> ProducerConfig:
        """The configuration as it now stands."""
        return load_config(self.file)

    def noted_sha256(self) -> str:
        """Of which producer.yaml the supervisor noted what commands need."""
        return str(json.loads((self.places.state / "project.json").read_text())["sha256"])

    @contextmanager
    def client(self, actor: str = "operator") -> Iterator[LedgerClient]:
        """The ledger for changes."""
        client = LedgerClient(self.state / "ledger.db", actor=actor)
        try:
            yield client
        finally:
            client.close()

    def file_task(self, title: str = "a task", role: str = "code", **more: Any) -> str:
        """File one task; its id."""
        with self.client() as client:
            return client.insert_task(agent_owner=role, title=title, description=more.pop("description", title), **more)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """The ledger for reading."""
        with Reader(self.state / "ledger.db") as reader:
            yield reader

    def task(self, ident: str) -> dict[str, Any]:
        """A task with its attempts."""
        with self.reader() as reader:
            return reader.show(ident)

    def counts(self) -> dict[str, int]:
        """The queue by state."""
        with self.reader() as reader:
            return reader.counts()

    def rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query."""
        with self.reader() as reader:
            return [tuple(row) for row in reader.rows(sql, *values)]

    def audit(self) -> list[dict[str, Any]]:
        """All audit rows, oldest first; none where there is no ledger yet."""
        try:
            with self.reader() as reader:
                return reader.audit_tail(100_000)
        except LedgerUnusable:
            return []

    def actions(self, action: str) -> list[dict[str, Any]]:
        """The audit rows of one action, oldest first."""
        return [row for row in self.audit() if row["action"] == action]

    def attention(self) -> str:
        """What a human has been told in needs-attention.md so far."""
        path = self.state / "needs-attention.md"
        return path.read_text() if path.exists() else ""

    def producerctl(self, *words: str, seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One run of the command line."""
        command = [sys.executable, "-P", "-m", "producer", "--config", str(self.file), *words]
        return subprocess.run(command, env=self.env, cwd=self.root, capture_output=True, text=True, timeout=seconds)

    def books_balance(self) -> int:
        """What must hold when nothing runs; what was spent, in micro-dollars.

        No hold, no reservation, five sums that agree, and an audit log that is whole, up to the heads kept outside.
        """
        with self.reader() as reader:
            state = self.places.state
            files = [state / "audit.head", *state.glob("audit.checkpoint")]
            kept = [head for file in files for head in export.read_heads(file)]
            verdict = export.check(reader, kept, KeyRing.read(state))
        assert verdict.ok, verdict.problem
        assert self.rows("SELECT * FROM attempts WHERE held_base != 0 OR held_micros != 0") == []
        assert self.rows("SELECT * FROM reservations") == []
        assert self.rows("SELECT * FROM budget WHERE held_micros != 0") == []
        assert self.rows("SELECT * FROM attempts WHERE state = 'running'") == []
        sums = [
            self.rows(f"SELECT coalesce(sum({column}), 0) FROM {table}")[0][0]
            for table, column in (
                ("meter", "cost_micros"), ("attempts", "cost_micros"), ("tasks", "cost_micros"),
                ("budget WHERE agent_owner != '*'", "spent_micros"),
            )
        ]  # fmt: skip
        sums.append(sum(row.get("cost_micros", 0) for row in self.audit()))
        assert len(set(sums)) == 1, sums
        return int(sums[0])


class Supervisor:
    """`producerctl run` of a project, in a session of its own."""

    def __init__(
        self,
        project: Project,
        *options: str,
        invoker: str | None = "echo",
        env: Mapping[str, str] | None = None,
        prelude: str | None = None,
    ) -> None:
        self.project = project
        self.output = project.root.parent / f"supervisor-{time.monotonic_ns()}.log"
        begin = ["-m", "producer"]
        if prelude:  # what the test changes in the process before it starts
            begin = ["-c", f"{prelude}\nimport sys; from producer.cli import main; sys.exit(main())"]
        words = ["--config", str(project.file), "run", *options, *(["--invoker", invoker] if invoker else [])]
        with self.output.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *begin, *words], env={**project.env, **(env or {})}, cwd=project.root,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.pid = self.process.pid

    # ---- asking

    def ask(self, op: str, seconds: float = 10.0, **arguments: Any) -> Any:
        """One question over the control socket. Raises what it answers, NoSupervisor where it does not."""
        control = Control(self.project.places)
        try:
            reply = control.ask(op, arguments, seconds)
        finally:
            control.close()
        if not reply.ok:
            raise rebuild(reply.result, reply.error)
        return reply.result

    def status(self) -> dict[str, Any]:
        """The object of `status --json`."""
        found = self.ask("status")
        assert isinstance(found, dict)
        return found

    def workers(self, role: str = "code", state: str | None = None) -> list[dict[str, Any]]:
        """The workers of a role, all or those in one state."""
        found = self.status()["roles"][role]["workers"]
        return [worker for worker in found if state is None or worker["state"] == state]

    # ---- waiting

    def until(self, condition: Callable[[], T], seconds: float = PATIENCE, what: str = "") -> T:
        """Wait for a condition while the supervisor lives."""

        def look() -> T:
            assert self.process.poll() is None, f"the supervisor left with {self.process.returncode}\n{self.log()}"
            return condition()

        return until(look, seconds, what, self.log)

    def ready(self, workers: int | None = None, seconds: float = PATIENCE) -> Supervisor:
        """Wait until it answers and has as many idle or busy workers as it wants (or as ``workers`` says)."""

        def there() -> bool:
            try:
                roles = self.ask("status", 0.5)["roles"].values()
            except (NoSupervisor, WireError):
                return False
            wanted = sum(role["desired"] for role in roles) if workers is None else workers
            up = [w for role in roles for w in role["workers"] if w["state"] in ("idle", "busy")]
            return len(up) >= wanted

        self.until(there, seconds, "a supervisor with its workers")
        return self

    def until_status(self, task: str, *statuses: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait until a task has one of these states; the task."""
        self.until(lambda: self.project.task(task)["status"] in statuses, seconds, f"task {task} {'/'.join(statuses)}")
        return self.project.task(task)

    def until_count(self, status: str, number: int, seconds: float = PATIENCE) -> None:
        """Wait until the queue holds so many tasks of a state."""
        self.until(lambda: self.project.counts()[status] >= number, seconds, f"{number} tasks {status}")

    def until_action(self, action: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for an audit row; the newest of its kind."""
        return self.until(lambda: self.project.actions(action), seconds, f"the audit row {action}")[-1]

    def log(self) -> str:
        """The end of what it and its workers wrote."""
        texts = [self.output.read_text(errors="replace")[-3000:]]
        for path in sorted(self.project.places.workers.glob("*.log")):
            with suppress(OSError):
                texts.append(f"--- {path.name}\n{path.read_text(errors='replace')[-1000:]}")
        with suppress(LedgerUnusable), self.project.reader() as reader:
            texts += [f"{r['seq']} {r['action']} {r['actor']} {r['detail']}"[:300] for r in reader.audit_tail(40)]
        return "\n".join(texts)

    # ---- ending

    def exits(self, seconds: float = 30.0) -> int:
        """Wait until it leaves by itself; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor did not leave in {seconds:g} s\n{self.log()}") from None

    def stop(self, number: int = signal.SIGTERM, seconds: float = 20.0) -> int:
        """Signal it and wait; its exit code."""
        if self.process.poll() is None:
            os.kill(self.pid, number)
        return self.exits(seconds)

    def kill(self) -> None:
        """SIGKILL, as a crash does it: its workers stay behind."""
        self.process.kill()
        self.process.wait(10)


def end_all(project: Project, supervisors: list[Supervisor]) -> list[str]:
    """End what a test started; what should not have been there any more, a line each."""
    for supervisor in supervisors:
        if supervisor.process.poll() is None:
            with suppress(AssertionError):
                supervisor.stop()
        if supervisor.process.poll() is None:
            supervisor.kill()
    key = project.places.key
    with suppress(AssertionError):
        until(lambda: not carriers(key), 3.0)
    left = []
    for pid in carriers(key):
        with suppress(psutil.Error):
            left.append(f"{pid} {psutil.Process(pid).cmdline()}")
    reaper.end(Family(entries=(f"{PROJECT_MARKER}={key}",)))
    return left
