"""The roles of producer.yaml: their money, their tools, how they are run. The rules of model.py hold here."""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from typing import Annotated

from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from producer.config import tools
from producer.config.values import (
    DAY,
    MODEL,
    STRICT,
    VARIABLE,
    Block,
    EmptyList,
    about,
    choice,
    flag,
    number,
    text,
    url,
    usd,
    whole,
)
from producer.core.money import MicroUSD, parse_usd

BRANCH = r"(?![-/.])[A-Za-z0-9._/-]+(?<![/.])"
ROLE = r"[A-Za-z][A-Za-z0-9_-]{0,31}"

# What a worker sets itself; a role may not set it a second time.
RESERVED = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "HOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "PYTHONPATH",
)


SERVER = f"(?!{tools.LEDGER_SERVER}$)[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*"
FREE_VARIABLE = f"(?!(?:{'|'.join(RESERVED)})$){VARIABLE}"

RoleName = Annotated[str, text(ROLE, "a role name: a letter, then at most 31 letters, digits, _ or -")]
ServerName = Annotated[
    str, text(SERVER, "a server name of letters, digits, - and single _; `ledger` is taken", longest=64)
]
Variable = Annotated[
    str, text(FREE_VARIABLE, f"a variable name, and none that the program sets itself: {', '.join(RESERVED)}")
]
EnvValue = Annotated[str, text(longest=8192, empty=True)]
SandboxPath = Annotated[str, text(longest=4096)]


@dataclass(frozen=True, config=STRICT)
class RetryConfig:
    """How often and when a failed task is tried again."""

    max: Annotated[
        int, whole(0, 100), about("Which failure escalates the task: 3 is three runs at most, 1 (or 0) is one.")
    ] = 3
    base_seconds: Annotated[
        float, number(0, DAY, "seconds"), about("Longest wait before the first retry; doubled for each further one.")
    ] = 30.0
    cap_seconds: Annotated[float, number(0, DAY, "seconds"), about("No wait before a retry is longer than this.")] = (
        900.0
    )


class McpServer(TypedDict, total=False):
    """One MCP server of a role: a command that speaks on stdin and stdout, or an address."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    type: Annotated[str, choice("stdio", "http", "sse"), about("How the server is reached; stdio where not said.")]
    command: Annotated[str, text(longest=4096), about("The program to start, for stdio.")]
    args: Annotated[list[Annotated[str, text(longest=4096, empty=True)]], about("Its arguments, for stdio.")]
    env: Annotated[dict[str, EnvValue], about("Variables added to its environment, for stdio.")]
    url: Annotated[str, url(), about("The server's address, for http and sse.")]
    headers: Annotated[dict[str, EnvValue], about("Headers sent with every request, for http and sse.")]


@dataclass(frozen=True, config=STRICT)
class RoleConfig:
    """One specialist: its money, its tools, its prompt and how it is run."""

    name: Annotated[str, text(ROLE, "a role name")]
    daily_cap_usd: Annotated[float, usd(), about("The most that this role may spend on one UTC day.")]
    allowed_tools: Annotated[
        list[Annotated[str, tools.tool()]],
        EmptyList,
        about("The tools this role has; nothing else exists for it. A rule in parentheses narrows a tool."),
    ] = field(default_factory=list)
    dispatch_reservation_usd: Annotated[
        float, usd(), about("Held on the role's and the project's cap when a task is claimed; settled at its end.")
    ] = 0.10
    prompt: Annotated[
        str | None, text(longest=4096), about("File with the role's system prompt, inside the project; null for none.")
    ] = None
    max_turns: Annotated[int, whole(1, 10_000), about("The most model turns that one attempt may take.")] = 16
    workers: Annotated[int, whole(0, 256), about("How many worker processes serve this role at once.")] = 1
    model: Annotated[
        str | None,
        text(MODEL, "a model id such as claude-sonnet-5-5", longest=128),
        about("The model of this role; null for default_model."),
    ] = None
    timeout_seconds: Annotated[
        float, number(1, 7 * DAY, "seconds"), about("Wall clock time after which an attempt is stopped.")
    ] = 3600.0
    idle_timeout_seconds: Annotated[
        float, number(1, 7 * DAY, "seconds"), about("Time without any progress after which an attempt is stopped.")
    ] = 600.0
    max_budget_usd: Annotated[
        float | None,
        usd(),
        about("The most that one task may spend, all attempts together; null for no limit."),
    ] = None
    permission_mode: Annotated[
        str,
        choice("dontAsk", "default", "acceptEdits", "plan", "bypassPermissions"),
        about("Permission mode of the claude CLI. Nobody is there to ask: dontAsk denies what is not allowed."),
    ] = "dontAsk"
    mcp_servers: Annotated[
        dict[ServerName, McpServer],
        Block,
        about("Further MCP servers of this role by name. The ledger's tools need no entry."),
    ] = field(default_factory=dict)
    env: Annotated[
        dict[Variable, EnvValue],
        Block,
        about("Variables added to the clean environment of the role's agents."),
    ] = field(default_factory=dict)
    retry: Annotated[RetryConfig, Block, about("When a failed task of this role is tried again.")] = field(
        default_factory=RetryConfig
    )
    resume: Annotated[
        bool, flag(), about("Let an attempt go on with the session of the one before it instead of beginning anew.")
    ] = True
    prefetch: Annotated[
        int, whole(1, 256), about("Tasks in flight to one worker; 1 keeps the choice of the next task to the last.")
    ] = 1
    warm: Annotated[bool, flag(), about("Keep a connected claude process waiting for a task.")] = True
    workspace: Annotated[
        str,
        choice("shared", "worktree"),
        about("shared: agents work in project_root. worktree: every task has a git worktree and a branch of its own."),
    ] = "shared"
    on_done: Annotated[
        str,
        choice("merge", "branch", "review"),
        about("worktree: merge the branch when the task is done, leave it as a branch, or hand it to `reviewer`."),
    ] = "merge"
    reviewer: Annotated[
        str | None, text(ROLE, "the name of a role"), about("on_done review: the role that gets the branch as a task.")
    ] = None
    merge_into: Annotated[
        str | None,
        text(BRANCH, "the name of a branch", longest=200),
        about("worktree: the branch to begin from and merge into; null for the one checked out at the start."),
    ] = None
    sandbox: Annotated[
        str,
        choice("auto", "bwrap", "landlock", "none"),
        about("auto: bubblewrap, else Landlock, else the role is refused. none: no sandbox. See sandbox.md."),
    ] = "auto"
    network: Annotated[
        str,
        choice("full", "gateway"),
        about("full: the machine's network. gateway: nothing but the model, through the gateway; needs bubblewrap."),
    ] = "full"
    sandbox_read: Annotated[
        list[SandboxPath], EmptyList, about("Further paths that the role's sandbox shows, read-only.")
    ] = field(default_factory=list)
    sandbox_write: Annotated[
        list[SandboxPath], EmptyList, about("Further paths that the role's agents may write in.")
    ] = field(default_factory=list)

    @cached_property
    def current_tools(self) -> list[str]:
        """``allowed_tools`` without the names of tools that the CLI no longer has."""
        return tools.current(self.allowed_tools)

    @cached_property
    def daily_cap(self) -> MicroUSD:
        """``daily_cap_usd``, exactly."""
        return parse_usd(self.daily_cap_usd)

    @cached_property
    def dispatch_reservation(self) -> MicroUSD:
        """``dispatch_reservation_usd``, exactly."""
        return parse_usd(self.dispatch_reservation_usd)

    @cached_property
    def max_budget(self) -> MicroUSD | None:
        """``max_budget_usd``, exactly; None for no limit."""
        return None if self.max_budget_usd is None else parse_usd(self.max_budget_usd)


@dataclass(frozen=True, config=STRICT)
class BudgetConfig:
    """What the project may spend."""

    project_ceiling_usd: Annotated[float, usd(), about("The most that all roles together may spend on one UTC day.")]
    soft_cap_ratio: Annotated[
        float, number(0, 1), about("Share of a cap at which a warning is sent; nothing is stopped by it.")
    ] = 0.8

    @cached_property
    def project_ceiling(self) -> MicroUSD:
        """``project_ceiling_usd``, exactly."""
        return parse_usd(self.project_ceiling_usd)


@dataclass(frozen=True, config=STRICT)
class BudgetBlock(BudgetConfig):
    """The file's budget block: the project's ceiling, and the roles under `agents`."""

    agents: Annotated[
        dict[RoleName, RoleConfig], Block, about("The roles. Any name; `producer` holds the reservation of a dispatch.")
    ] = field(default_factory=dict)
