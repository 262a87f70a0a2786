"""Which words ``allowed_tools`` may hold.

1. A built-in tool of Claude Code by its exact name: `Read`.
2. A built-in tool with a scope in parentheses: `Bash(git status *)`, `Read(./**)`.
3. A tool of an MCP server: `mcp__server__tool`, or all of a server's: `mcp__server`, `mcp__server__*`.

The CLI drops a name that it does not know without a word, and the role then works without the tool: hence the list,
taken from what `claude --tools` of the bundled CLI answers with. RETIRED are names of older CLIs that a 0.3.x file may
hold: they are read, left out of what a worker asks for, and told of in a warning.
The `ledger` server is in every worker; other servers stand in the role's `mcp_servers`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from difflib import get_close_matches

from producer.config.tree import Scalar
from producer.config.values import UNPRINTABLE, Kind

BUILT_IN = (
    "Agent",
    "Bash",
    "CronCreate",
    "CronDelete",
    "CronList",
    "Edit",
    "EnterWorktree",
    "ExitWorktree",
    "Glob",
    "Grep",
    "ListAgents",
    "Monitor",
    "NotebookEdit",
    "Read",
    "ReportFindings",
    "ScheduleWakeup",
    "SendMessage",
    "Skill",
    "Task",
    "TaskCreate",
    "TaskGet",
    "TaskList",
    "TaskStop",
    "TaskUpdate",
    "ToolSearch",
    "WebFetch",
    "WebSearch",
    "Workflow",
    "Write",
)
RETIRED = (
    "AskUserQuestion",
    "BashOutput",
    "EnterPlanMode",
    "ExitPlanMode",
    "KillBash",
    "KillShell",
    "LS",
    "ListMcpResourcesTool",
    "MultiEdit",
    "NotebookRead",
    "ReadMcpResourceTool",
    "SlashCommand",
    "TaskOutput",
    "TodoRead",
    "TodoWrite",
)
LEDGER_SERVER = "ledger"
LEDGER_TOOLS = ("insert_task", "record_decision", "record_asset", "get_task", "list_tasks", "escalate")
RULE = re.compile(r"(?P<tool>[A-Za-z]+)(?:\((?P<scope>[^\x00-\x1f]+)\))?")
MCP = re.compile(r"mcp__(?P<server>[A-Za-z0-9-]+(?:_[A-Za-z0-9-]+)*)(?:__(?P<tool>[A-Za-z0-9_-]+|\*))?")
EXAMPLES = "a tool such as Read, Bash(git status *) or mcp__server__tool"


def current(rules: Iterable[str]) -> list[str]:
    """The rules without those of tools that the CLI no longer has."""
    return [rule for rule in rules if rule.split("(")[0] not in RETIRED]


def problem_with(rule: str, servers: Collection[str] | None = None) -> str | None:
    """Why a rule is not acceptable, or None. ``servers``: the role's MCP servers, where they are known."""
    if len(rule) > 500 or UNPRINTABLE.search(rule):
        return f"{EXAMPLES}, on one line"
    if rule.startswith("mcp__"):
        return _problem_with_mcp(rule, servers)
    match = RULE.fullmatch(rule)
    if match and match["tool"] in (*BUILT_IN, *RETIRED):
        return None
    name = match["tool"] if match else rule.split("(")[0]
    if name in (*BUILT_IN, *RETIRED):
        return f"{name}, or {name} with a rule in parentheses such as {name}(...)"
    by_case = {tool.lower(): tool for tool in BUILT_IN}
    near = by_case.get(name.lower()) or next(iter(get_close_matches(name, BUILT_IN, 1)), None)
    return f"a known tool{f' (did you mean {near}?)' if near else ''}: {', '.join(BUILT_IN)} or mcp__server__tool"


def _problem_with_mcp(rule: str, servers: Collection[str] | None) -> str | None:
    match = MCP.fullmatch(rule)
    if not match:
        return "mcp__server__tool, mcp__server__* or mcp__server"
    server, tool = match["server"], match["tool"]
    if server == LEDGER_SERVER:
        if tool in (None, "*", *LEDGER_TOOLS):
            return None
        return f"one of the ledger's tools: {', '.join(f'mcp__ledger__{name}' for name in LEDGER_TOOLS)}"
    if servers is not None and server not in servers:
        known = ", ".join(sorted({*servers, LEDGER_SERVER}))
        return f"a tool of one of the role's MCP servers: {known} (servers are declared under mcp_servers)"
    return None


def tool() -> Kind:
    """One rule of ``allowed_tools``. Whether its MCP server is declared is checked with the role."""

    def read(scalar: Scalar) -> str:
        if problem := problem_with(scalar.text):
            raise ValueError(problem)
        return scalar.text

    return Kind(read, {"type": "string", "examples": ["Read", "Bash(git status *)", "mcp__server__tool"]}, EXAMPLES)
