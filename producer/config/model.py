"""The keys of producer.yaml: names, kinds, defaults and what each one means.

1. A class here is a block of the file AND the frozen object that the program reads; the JSON schema, the reference
   in docs/ and the check of the template are made from it. A key without a description fails a test.
2. Unknown keys are refused everywhere. A key whose value is empty is refused too, except where null has a meaning.
3. Amounts are floats of US dollars, as 0.3.x has them; next to each stands a property with the exact micro-dollars.
4. The fields that 0.3.x had come first and in its order: positional calls keep working.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic.dataclasses import dataclass

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
from producer.config.roles import BudgetBlock
from producer.config.values import DAY, MODEL, STRICT, Block, EmptyList, about, listening, number, text, whole
from producer.places import IPC

DEFAULT_MODEL = "claude-opus-5-5"


MODEL_ID = text(MODEL, "a model id such as claude-sonnet-5-5", longest=128)
Place = Annotated[str, text(longest=4096)]


@dataclass(frozen=True, config=STRICT)
class Document:
    """producer.yaml."""

    project_name: Annotated[str, text(), about("The project's name, in prompts, reports and notifications.")]
    budget: Annotated[BudgetBlock, about("What may be spent, and the roles that spend it.")]
    project_root: Annotated[
        Place, about("Directory in which the agents work; other paths are relative to it, it to this file.")
    ] = "."
    kill_switch: Annotated[Place, about("While this file exists nothing is started (unless it contains just `0`).")] = (
        "agent-state/kill_switch"
    )
    ledger_db: Annotated[Place, about("The ledger: an SQLite database.")] = "agent-state/ledger.db"
    escalations_dir: Annotated[Place, about("One Markdown file for every escalated task.")] = "agent-state/escalations"
    reports_dir: Annotated[Place, about("Morning reports and needs-attention.md.")] = "agent-state"
    poll_interval_seconds: Annotated[
        float, number(0.01, DAY, "seconds"), about("Unit of idle_threshold_polls. Tasks start at once, not at polls.")
    ] = 10.0
    idle_threshold_polls: Annotated[
        int, whole(1, 1_000_000), about("So many poll intervals without work count as idle.")
    ] = 12
    default_model: Annotated[str, MODEL_ID, about("Model of roles that name none.")] = DEFAULT_MODEL
    shutdown_grace_seconds: Annotated[
        float, number(0, 3600, "seconds"), about("On a stop, how long agents have before they are killed.")
    ] = 10.0
    orphan_seconds: Annotated[
        float,
        number(10, DAY, "seconds"),
        about("Without a supervisor, idle workers and the gateway leave after this time; what runs is finished first."),
    ] = 600.0
    sockets: Annotated[
        str,
        listening(),
        about(
            "How the supervisor is reached. ipc: Unix sockets. tcp: free ports of 127.0.0.1, for where no Unix socket "
            "can be made; tcp://127.0.0.1:PORT: that port and the three after it. See sockets.md."
        ),
    ] = IPC
    retention_days: Annotated[
        int | None, whole(1, 36_500, "days"), about("Finished tasks' transcripts are kept this long; null for ever.")
    ] = None
    notifications: Annotated[NotificationsConfig, Block, about("How a person is told.")] = field(
        default_factory=NotificationsConfig
    )
    auth: Annotated[AuthConfig, Block, about("How agents prove to the model API who they are.")] = field(
        default_factory=AuthConfig
    )
    limits: Annotated[LimitsConfig, Block, about("Guards against a queue that grows without end.")] = field(
        default_factory=LimitsConfig
    )
    gateway: Annotated[GatewayConfig, Block, about("The proxy between the agents and the model API.")] = field(
        default_factory=GatewayConfig
    )
    failure_burst: Annotated[BurstConfig, Block, about("The burst of failures that arms the kill switch.")] = field(
        default_factory=BurstConfig
    )
    report: Annotated[ReportConfig, Block, about("When the morning report is written.")] = field(
        default_factory=ReportConfig
    )
    audit: Annotated[AuditConfig, Block, about("How the heads of the audit log leave this machine.")] = field(
        default_factory=AuditConfig
    )
    schedule: Annotated[
        list[ScheduleEntry],
        EmptyList,
        about("Tasks that are filed at set times. Runs that were missed are made up for once."),
    ] = field(default_factory=list)
    pricing: Annotated[
        dict[Annotated[str, MODEL_ID], PriceRow],
        Block,
        about("Prices that win over the table, by model id."),
    ] = field(default_factory=dict)
