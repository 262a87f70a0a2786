"""The blocks of producer.yaml beside the roles. The rules of model.py hold here."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from typing import Annotated, Any, NotRequired

from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from producer.config.values import (
    DAY,
    STRICT,
    VARIABLE,
    Block,
    Data,
    about,
    choice,
    cron,
    flag,
    number,
    prose,
    text,
    time_zone,
    url,
    usd,
    whole,
)
from producer.core.money import MicroUSD, parse_usd

CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"
AUTH_MODES = ("auto", "isolated", "inherit", "subscription", "api")


@dataclass(frozen=True, config=STRICT)
class EventsConfig:
    """Which events are pushed. needs-attention.md gets all of them."""

    escalation: Annotated[bool, flag(), about("A task was given up and waits for a person.")] = True
    cap: Annotated[bool, flag(), about("A daily cap or the project's ceiling stopped a role.")] = True
    soft_cap: Annotated[bool, flag(), about("Spending passed the soft cap.")] = True
    kill_switch: Annotated[bool, flag(), about("The kill switch was armed, by whomever.")] = True
    role_parked: Annotated[bool, flag(), about("A role was taken out of service.")] = True
    idle: Annotated[bool, flag(), about("The queue has been empty for idle_threshold_polls.")] = True
    back_online: Annotated[bool, flag(), about("Work resumed after an idle notice.")] = True
    workspace: Annotated[bool, flag(), about("A branch waits for a person, or a worktree holds uncommitted work.")] = (
        True
    )
    pricing: Annotated[bool, flag(), about("The pricing table is out of date.")] = True
    audit_head: Annotated[bool, flag(), about("The audit log's head, silently, so that it is kept elsewhere.")] = True


@dataclass(frozen=True, config=STRICT)
class NotificationsConfig:
    """How a person is told. needs-attention.md is written in any case."""

    ntfy_topic: Annotated[
        str, text(longest=256, empty=True), about("ntfy topic to push to; unguessable. Empty turns pushing off.")
    ] = ""
    subject_prefix: Annotated[str, text(longest=100, empty=True), about("Put before the subject of every push.")] = (
        "Producer"
    )
    idle_wakeup_enabled: Annotated[
        bool, flag(), about("Give the `wakeup` role a task when the queue has been empty for long.")
    ] = True
    idle_wakeup_cooldown_seconds: Annotated[
        int, whole(0, 365 * DAY, "seconds"), about("Least time between two wake-ups.")
    ] = 7200
    idle_wakeup_max_consecutive_done: Annotated[
        int, whole(1, 1_000_000), about("Wake-ups that find nothing to do before no more are sent.")
    ] = 2
    ntfy_server: Annotated[str, url(), about("ntfy server to push to.")] = "https://ntfy.sh"
    ntfy_token_env: Annotated[
        str | None, text(VARIABLE, "the name of an environment variable"), about("Variable with the ntfy access token.")
    ] = None
    priority: Annotated[
        str, choice("min", "low", "default", "high", "max"), about("ntfy priority of a push that has none of its own.")
    ] = "default"
    quiet_hours: Annotated[
        str | None,
        text(f"{CLOCK}-{CLOCK}", "two times of day such as 22:00-07:00"),
        about("No pushes between these times (report.timezone), except those of priority max; they follow afterwards."),
    ] = None
    dashboard_url: Annotated[
        str | None, url(), about("Where a tap on a push leads: the address of the dashboard as your phone reaches it.")
    ] = None
    events: Annotated[EventsConfig, Block, about("Which events are pushed.")] = field(default_factory=EventsConfig)


@dataclass(frozen=True, config=STRICT)
class AuthConfig:
    """How agents prove to the model API who they are."""

    mode: Annotated[
        str,
        choice(*AUTH_MODES),
        about(
            "auto: what is found. api: ANTHROPIC_API_KEY. subscription: a Claude Code login. isolated: either of "
            "the two, never ~/.claude. inherit: ~/.claude as it is, hooks and plugins included. "
            "PRODUCER_AUTH_MODE wins."
        ),
    ] = "auto"


@dataclass(frozen=True, config=STRICT)
class LimitsConfig:
    """Guards against a queue that grows without end."""

    depth: Annotated[int, whole(0, 1000), about("How many generations of follow-up tasks a task may have.")] = 5
    filed_per_attempt: Annotated[int, whole(0, 100_000), about("Tasks that one attempt may file.")] = 20
    pending_per_role: Annotated[int, whole(1, 10_000_000), about("Tasks that may wait for one role.")] = 200
    lineage_budget_usd: Annotated[
        float | None, usd(), about("The most that a task and all its follow-ups may spend; null for no limit.")
    ] = None
    title_bytes: Annotated[int, whole(1, 10_000, "bytes"), about("Longest title of a task, in UTF-8.")] = 200
    payload_bytes: Annotated[int, whole(2, 1_000_000, "bytes"), about("Largest payload of a task, as JSON.")] = 65536

    @cached_property
    def lineage_budget(self) -> MicroUSD | None:
        """``lineage_budget_usd``, exactly; None for no limit."""
        return None if self.lineage_budget_usd is None else parse_usd(self.lineage_budget_usd)


@dataclass(frozen=True, config=STRICT)
class GatewayConfig:
    """The proxy between the agents and the model API."""

    upstream: Annotated[
        str | None, url(), about("The model API; null for ANTHROPIC_BASE_URL of the environment, else Anthropic's.")
    ] = None
    record: Annotated[bool, flag(), about("Keep every request and response: `run --rehearse` plays them.")] = False
    min_max_tokens: Annotated[
        int,
        whole(1, 1_000_000, "tokens"),
        about("Near a cap max_tokens is lowered to what is affordable; below this number the request is refused."),
    ] = 1024


@dataclass(frozen=True, config=STRICT)
class BurstConfig:
    """The burst of failures of one role that arms the kill switch."""

    count: Annotated[int, whole(1, 100_000), about("Failures of one role that arm the kill switch.")] = 5
    window_seconds: Annotated[float, number(1, 7 * DAY, "seconds"), about("The time within which they count.")] = 600.0


@dataclass(frozen=True, config=STRICT)
class ReportConfig:
    """When the morning report is written."""

    time: Annotated[
        str | None, text(CLOCK, "a time of day such as 07:00"), about("Time of day of the report; null for none.")
    ] = "07:00"
    timezone: Annotated[
        str | None, time_zone(), about("Time zone of the times in this file; null for the machine's own.")
    ] = None
    every_hours: Annotated[
        float, number(0, 168, "hours"), about("The report is also written at this interval; 0 for never.")
    ] = 6.0


@dataclass(frozen=True, config=STRICT)
class AuditConfig:
    """How the heads of the audit log leave this machine; see docs/audit.md."""

    anchor_command: Annotated[
        str | None,
        text(longest=4096),
        about("Shell command that gets each head on its stdin and keeps it elsewhere; null for none."),
    ] = None
    anchor_every_seconds: Annotated[
        float, number(1, 30 * DAY, "seconds"), about("Least time between two heads that are sent out.")
    ] = 3600.0


@dataclass(frozen=True, config=STRICT)
class ScheduleEntry:
    """A task that is filed again and again."""

    cron: Annotated[
        str,
        cron(),
        about("When: five fields as in crontab, minute hour day month weekday. Quote it where it begins with `*`."),
    ]
    role: Annotated[str, text(), about("The role that gets the task.")]
    title: Annotated[str, text(), about("The task's title.")]
    timezone: Annotated[
        str, time_zone(), about("Time zone of cron. Summer time as in Debian's cron: each run once, none left out.")
    ] = "UTC"
    description: Annotated[
        str | None, prose(), about("What is to be done, several lines if need be; null for the title.")
    ] = None
    payload: Annotated[dict[str, Any], Data(), about("The task's payload.")] = field(default_factory=dict)
    priority: Annotated[int, whole(0, 5), about("0 is urgent, 5 is someday.")] = 3


class PriceRow(TypedDict):
    """The price of a model in US dollars per million tokens, in the shape of a row of pricing.json."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    input_per_mtok_usd: Annotated[float, usd(above=0), about("Input tokens.")]
    output_per_mtok_usd: Annotated[float, usd(above=0), about("Output tokens.")]
    cache_creation_per_mtok_usd: Annotated[float, usd(), about("Writes to the 5 minute cache.")]
    cache_read_per_mtok_usd: Annotated[float, usd(), about("Reads from the cache.")]
    cache_creation_1h_per_mtok_usd: NotRequired[
        Annotated[float, usd(), about("Writes to the 1 hour cache; twice the input where not said.")]
    ]
    fast_multiplier: NotRequired[Annotated[float, number(1, 1000), about("Factor on all rates in fast mode.")]]
