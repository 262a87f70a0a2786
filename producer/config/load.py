"""producer.yaml in, ProducerConfig out, or one line that says what is wrong where.

1. The file is read once, up to MAX_BYTES; its hash goes with the config, so that a later change can be told.
2. Everything that can be known without the network is checked here: kinds, ranges, tools, prompts, directories.
3. The first problem in the order of the file is reported: `file:line: key: value is ...: it must be ...`.
4. Nothing is written and nothing is exported to the environment.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from producer.config import problems
from producer.config.blocks import (
    AuditConfig,
    AuthConfig,
    BurstConfig,
    GatewayConfig,
    LimitsConfig,
    NotificationsConfig,
    PriceRow,
    ReportConfig,
    ScheduleEntry,
)
from producer.config.files import MAX_BYTES, decode, read_bytes
from producer.config.model import DEFAULT_MODEL, Document
from producer.config.roles import BudgetConfig, RoleConfig
from producer.config.tree import Mapping, Scalar, line_of, parse
from producer.core.money import MicroUSD, parse_usd
from producer.errors import ConfigError
from producer.places import IPC

FALLBACK_RESERVATION = parse_usd("0.05")
DOCUMENT = TypeAdapter(Document)


@dataclass(frozen=True)
class ProducerConfig:
    """A project's configuration with its paths resolved. The fields up to ``auth`` are those of 0.3.x."""

    project_name: str
    project_root: Path
    kill_switch: Path
    poll_interval_seconds: float
    idle_threshold_polls: int
    notifications: NotificationsConfig
    budget: BudgetConfig
    roles: dict[str, RoleConfig]
    ledger_db: Path
    escalations_dir: Path
    reports_dir: Path
    auth: AuthConfig = field(default_factory=AuthConfig)
    default_model: str = DEFAULT_MODEL
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    retention_days: int | None = None
    failure_burst: BurstConfig = field(default_factory=BurstConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    shutdown_grace_seconds: float = 10.0
    orphan_seconds: float = 600.0
    sockets: str = IPC
    audit: AuditConfig = field(default_factory=AuditConfig)
    schedule: list[ScheduleEntry] = field(default_factory=list)
    pricing: dict[str, PriceRow] = field(default_factory=dict)
    source: Path | None = None
    sha256: str = ""

    @cached_property
    def producer_reservation(self) -> MicroUSD:
        """What a dispatch holds for the producer itself: its role's reservation, 0.05 USD where there is none."""
        role = self.roles.get("producer")
        return FALLBACK_RESERVATION if role is None else role.dispatch_reservation

    def model_of(self, role: str) -> str:
        """The model id that a role's agents use."""
        return self.roles[role].model or self.default_model

    def prompt_path(self, role: str) -> Path | None:
        """The file of a role's system prompt, or None where it has none."""
        prompt = self.roles[role].prompt
        return None if prompt is None else self.project_root / prompt

    def role_caps_dict(self) -> dict[str, dict[str, float]]:
        """The caps in the shape that the 0.3.x BudgetTracker takes."""
        return {name: {"daily_cap_usd": role.daily_cap_usd} for name, role in self.roles.items()}


def load_config(path: Path | str) -> ProducerConfig:
    """Read a producer.yaml. Raises ConfigError, one line long, for anything that is not acceptable."""
    path = Path(path)
    try:
        raw = read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        hint = "no such file: write one with `producerctl init`, or name one with --config or $PRODUCER_CONFIG"
        raise ConfigError(hint, file=path) from None
    text = decode(raw, path)
    tree = parse(text, path)
    document = _validate(tree, path)
    config = _resolve(document, path, raw)
    problems.check(config, tree, path)
    return config


def check_text(text: str, file: Path | str) -> None:
    """Check a producer.yaml that is not yet written, but for the files it names. Raises ConfigError."""
    _validate(parse(text, file), file)


def line_in(file: Path, path: tuple[str, ...]) -> int | None:
    """The line of a key in a file that was read before; None where it can no longer be told."""
    try:
        return line_of(parse(decode(read_bytes(file, MAX_BYTES), file), file), path)
    except (ConfigError, FileNotFoundError):
        return None


def _validate(tree: Mapping, path: Path | str) -> Document:
    try:
        return DOCUMENT.validate_python(_with_names(tree, path))
    except ValidationError as error:
        raise problems.first(error, tree, path) from None


def _with_names(tree: Mapping, path: Path | str) -> dict[str, Any]:
    """The tree with each role's name inside the role, where its class has it."""
    budget = tree.get("budget")
    agents = budget.get("agents") if isinstance(budget, Mapping) else None
    if not isinstance(agents, Mapping) or not isinstance(budget, Mapping):
        return tree
    named = dict(agents)
    for name, role in agents.items():
        if isinstance(role, Mapping):
            if "name" in role:
                raise problems.unknown(("budget", "agents", name, "name"), tree, path)
            named[name] = {**role, "name": Scalar(name, False)}
    return {**tree, "budget": {**budget, "agents": named}}


def _resolve(document: Document, path: Path, raw: bytes) -> ProducerConfig:
    root = (path.absolute().parent / document.project_root).resolve()
    same = {item.name for item in fields(ProducerConfig)} & {item.name for item in fields(Document)}
    values = {name: getattr(document, name) for name in same}
    for name in ("kill_switch", "ledger_db", "escalations_dir", "reports_dir"):
        values[name] = root / values[name]
    values["project_root"] = root
    values["budget"] = BudgetConfig(document.budget.project_ceiling_usd, document.budget.soft_cap_ratio)
    values["roles"] = dict(document.budget.agents)
    return ProducerConfig(**values, source=path.absolute(), sha256=hashlib.sha256(raw).hexdigest())
