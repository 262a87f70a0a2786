"""What every command needs: configuration, ledger and supervisor of the project, each found when first asked for."""

from __future__ import annotations

import os
import pwd
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from producer.errors import LedgerBusy, NoSupervisor, UnknownTask, UsageError, WireError

if TYPE_CHECKING:
    from producer.config import ProducerConfig
    from producer.ledger import LedgerClient, Reader
    from producer.ledger.lock import Holder
    from producer.places import Places
    from producer.project import Project

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class App:
    """One run of the program. Nothing is read before it is needed."""

    def __init__(self) -> None:
        self.config_file: str | None = None
        self.debug = False

    @cached_property
    def config(self) -> ProducerConfig:
        """The project's configuration. Raises ConfigError."""
        from producer.config import find_config, load_config

        return load_config(find_config(self.config_file))

    @cached_property
    def project(self) -> Project:
        """Where things are. The configuration is read for it only where no supervisor has. Raises ConfigError."""
        from producer.config.files import find_config
        from producer.project import Project, noted

        return noted(find_config(self.config_file)) or Project.of(self.config)

    @cached_property
    def places(self) -> Places:
        """The project's private directories."""
        from producer.places import Places

        return Places.of(self.project.ledger_db)

    @cached_property
    def actor(self) -> str:
        """Who asks, for the audit log: the account that runs the program, not what its environment claims."""
        try:
            return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
        except KeyError:
            return f"operator:{os.getuid()}"

    # ---- the ledger

    def client(self, create: bool = True) -> LedgerClient:
        """The ledger for changes: through the supervisor where one runs."""
        from producer.core.guards import Limits
        from producer.ledger import LedgerClient

        limits = Limits(**self.project.limits)
        return LedgerClient(self.project.ledger_db, actor=self.actor, limits=limits, create=create)

    def reader(self) -> Reader:
        """The ledger for reading. Raises LedgerUnusable where there is none."""
        from producer.ledger import Reader

        return Reader(self.project.ledger_db)

    def task(self, text: str) -> str:
        """The id of the task that ``text`` is, or begins, the id of. Raises UnknownTask."""
        if not _ID.fullmatch(text):
            raise UnknownTask(text)
        with self.reader() as reader:
            return reader.resolve(text)

    def role(self, name: str) -> str:
        """``name``, where producer.yaml has a role of this name. Raises UsageError."""
        if name not in self.project.roles:
            raise UsageError(f"no role {name!r}: use one of {', '.join(sorted(self.project.roles)) or '(none)'}")
        return name

    # ---- the supervisor

    def supervisor(self) -> Holder | None:
        """The supervisor that serves this project now, None where none does."""
        from producer.ledger.lock import Lock

        holder = Lock(self.places.lock).holder()
        return holder if holder and holder.kind == "supervisor" else None

    def ask(self, operation: str, seconds: float = 10.0, **arguments: Any) -> Any:
        """One operation of the supervisor's. Raises NoSupervisor, LedgerBusy where it is silent, or its own error."""
        from producer.wire.client import Control

        holder = self.supervisor()
        if holder is None:
            raise NoSupervisor(self.project.ledger_db)
        try:
            control = Control(self.places)
            try:
                reply = control.ask(operation, {**arguments, "actor": self.actor}, seconds)
            finally:
                control.close()
        except (NoSupervisor, WireError):
            raise LedgerBusy(f"{holder} does not answer: wait, or end it and start `producerctl run`") from None
        if not reply.ok:
            from producer.ledger.submit import rebuild  # which brings the writer's modules

            raise rebuild(reply.result, reply.error)
        return reply.result


pass_app = click.make_pass_decorator(App)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
