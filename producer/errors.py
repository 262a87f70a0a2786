"""Every error the program raises on purpose, named by its cause.

One tree under :class:`ProducerError`. Each error carries the ids it speaks of as attributes, prints as one line
(what, where, what to do), and knows the exit code of a command that ends with it: 1 the operation failed,
2 usage or configuration, 3 no supervisor is running.
"""

from __future__ import annotations

from pathlib import Path


class ProducerError(Exception):
    """Root of the tree. ``exit_code`` is what a command line that meets the error exits with."""

    exit_code = 1


class ConfigError(ProducerError):
    """producer.yaml, or a file it names, is not acceptable. Says file, line, key, value and what is allowed."""

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: Path | str | None = None,
        line: int | None = None,
        key: str | None = None,
    ) -> None:
        self.problem, self.file, self.line, self.key = problem, file, line, key
        where = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (where, key, problem) if part))


class UsageError(ProducerError):
    """A command was called with words it does not take."""

    exit_code = 2


class NoSupervisor(ProducerError):
    """The command needs a running supervisor and there is none."""

    exit_code = 3

    def __init__(self, ledger: Path | str) -> None:
        self.ledger = ledger
        super().__init__(f"no supervisor is running for {ledger}: start one with `producerctl run`")


class SupervisorRunning(ProducerError):
    """A second supervisor was started on one ledger."""

    def __init__(self, ledger: Path | str, holder: str) -> None:
        self.ledger, self.holder = ledger, holder
        super().__init__(f"{ledger} is already served by {holder}: stop it with `producerctl stop` first")


class ForeignDirectory(ProducerError):
    """A private directory exists and belongs to another user."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        super().__init__(f"{path} belongs to another user: remove it, or set XDG_STATE_HOME and XDG_RUNTIME_DIR")


class IllegalTransition(ProducerError):
    """An event arrived that the lifecycle table does not allow in this state. Nothing was changed."""

    def __init__(self, kind: str, state: str, event: str, ident: str | None = None) -> None:
        self.kind, self.state, self.event, self.ident = kind, state, event, ident
        name = f"{kind} {ident}" if ident else kind
        super().__init__(f"{name} is {state}: {event} is not possible")


class MoneyError(ProducerError, ValueError):
    """An amount that is not a finite, non-negative number of US dollars."""

    exit_code = 2


class BudgetExceeded(ProducerError, RuntimeError):
    """A cap does not afford what was asked."""


class UnknownModel(ProducerError):
    """No price is known for a model, so no request for it may leave."""

    exit_code = 2

    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"no price is known for model {model!r}: name one of `producerctl pricing show`, or add it")


class PricingError(ProducerError):
    """A pricing table is malformed."""

    exit_code = 2


class PricingRefused(PricingError):
    """An answer to `pricing update` that may not be taken, or that did not come. Nothing was changed."""

    exit_code = 1


class KillSwitchArmed(ProducerError):
    """The kill switch forbids the operation."""


class WireError(ProducerError):
    """A frame on a socket is not a message of ours, or there is no way to the socket."""


class PathTooLong(WireError):
    """A socket path does not fit the 107 bytes that the kernel allows."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        mend = "set XDG_RUNTIME_DIR to a shorter directory, or write `sockets: tcp` into producer.yaml"
        super().__init__(f"socket path is longer than 107 bytes: {path}: {mend}")


class CannotListen(ProducerError):
    """One of the supervisor's sockets cannot have its address."""

    def __init__(self, socket: str, address: str, problem: str) -> None:
        self.socket, self.address = socket, address
        over_tcp = address.startswith("tcp")
        mend = "give `sockets` in producer.yaml another port" if over_tcp else "write `sockets: tcp` into producer.yaml"
        super().__init__(f"the {socket} socket cannot listen on {address}: {problem}: {mend}")


class AuthError(ProducerError):
    """No usable way to authenticate with the model API. ``mend`` says what to do."""

    exit_code = 2

    def __init__(self, problem: str, mend: str = "") -> None:
        self.problem, self.mend = problem, mend
        super().__init__(": ".join(part for part in (problem, mend) if part))


class LedgerError(ProducerError, RuntimeError):
    """Root of what the ledger refuses."""


class LedgerRefused(LedgerError):
    """SQLite refused the values of a statement: a constraint, a type, a size. Trying again changes nothing."""


class LedgerUnusable(LedgerError):
    """The ledger file is not a database, is damaged, or has a newer schema. It was not touched."""

    exit_code = 2


class LedgerBusy(LedgerError):
    """Another process holds the ledger and does not answer."""


class TaskClaimRace(LedgerError):
    """The task was not free to be claimed."""


class UnknownTask(LedgerError):
    """No task has this id."""

    exit_code = 2

    def __init__(self, task: str) -> None:
        self.task = task
        super().__init__(f"no such task: {task}")


class InvalidTask(LedgerError, ValueError):
    """A task (or decision, or asset) that may not be stored; the message names the field and what is allowed."""

    exit_code = 2


class InvalidDependency(InvalidTask):
    """Dependencies that name the task itself, an id that does not exist, or close a cycle."""

    def __init__(self, task: str, path: list[str], problem: str) -> None:
        self.task, self.path = task, path
        super().__init__(problem)


class LimitReached(LedgerError):
    """A runaway guard refused the task; the message says which limit and what to do."""

    exit_code = 2


class WorkspaceError(ProducerError):
    """Git did not do what a workspace needs; the message has git's own words."""


class NoWorkspace(WorkspaceError):
    """The project is no place for worktrees. Nothing was started."""

    exit_code = 2


class AuditKeyUnusable(ProducerError):
    """The key that signs the audit log's checkpoints cannot be read, or is none."""

    def __init__(self, path: Path | str, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}: put the audit log's key back, or move the file away for a new one")


class SandboxMissing(ProducerError):
    """No sandbox that a role may run in works on this machine; ``mend`` says what to install or to write."""

    exit_code = 2

    def __init__(self, why: str, mend: str = "") -> None:
        self.why, self.mend = why, mend
        super().__init__(f"no sandbox: {why}: {mend}" if mend else f"no sandbox: {why}")
