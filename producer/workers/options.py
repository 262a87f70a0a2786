"""What a claude process is given: tools, rules and environment. Pure.

1. `tools` is what exists for the agent, `allowed_tools` what runs without a question; in dontAsk nothing else runs.
2. File tools without a scope of their own get the working directory as scope: a bare Read reads any file. The CLI
   knows two kinds of file rules, Read(...) and Edit(...), for all the tools that read and write.
3. The process sees an environment made from an allow-list, the role's `env`, and what is fixed here; the fixed part
   wins. In inherit mode it sees the host's environment and config instead, as 0.3.x promised; of its own it then has
   a temporary directory, if it is in a sandbox: the host's may be there and not be usable.
4. The tools that the process says it has are compared with what was asked: one too many, or a core one too few, and
   the run is broken off. A tool that this claude version does not offer is left out with a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from producer.sandbox import Wishes
from producer.wire.messages import TaskMsg
from producer.workers import tools
from producer.workers.isolation import clean_environment, markers

RULE_OF = {
    **dict.fromkeys(("Read", "NotebookRead", "Glob", "Grep", "LS"), "Read"),
    **dict.fromkeys(("Write", "Edit", "MultiEdit", "NotebookEdit"), "Edit"),  # `Write(...)` matches nothing: measured
}
SCOPE = "./**"
CORE_TOOLS = frozenset(
    {"Read", "Write", "Edit", "NotebookEdit", "Glob", "Grep", "Bash", "Task", "WebFetch", "WebSearch"}
)
SHOWN_AS = {"Agent": "Task"}
RESERVED = ("ANTHROPIC_", "CLAUDE_CONFIG_DIR", "HOME", "AI_PRODUCER_", "LD_", "IS_SANDBOX")

DEFAULT_ENV = {
    "CLAUDE_CODE_MAX_RETRIES": "3",
    "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS": "60000",
    "GIT_TERMINAL_PROMPT": "0",
}
FIXED_ENV = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",  # otherwise: an extra paid request
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",  # otherwise: a background command keeps the run open
    "CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP": "1",  # otherwise: another model than the one that was priced
    "ENABLE_TOOL_SEARCH": "0",
    "DISABLE_AUTOUPDATER": "1",
}


def base_tools(allowed: list[str]) -> list[str]:
    """The built-in tools that the rules name, each once, in order."""
    return list(dict.fromkeys(rule.split("(")[0] for rule in allowed if not rule.startswith("mcp__")))


def approved(allowed: list[str], *, ledger: bool = True) -> list[str]:
    """The rules as the CLI takes them: file tools scoped, the granted ledger tools added."""
    rules = [_scoped(rule) for rule in allowed]
    granted = [tools.PREFIX + tool.name for tool in tools.granted(allowed)] if ledger else []
    return list(dict.fromkeys([*rules, *granted]))


def _scoped(rule: str) -> str:
    name, _, scope = rule.partition("(")
    return f"{RULE_OF[name]}({scope.removesuffix(')') or SCOPE})" if name in RULE_OF else rule


def check_tools(shown: list[str], task: TaskMsg, *, ledger: bool = True) -> tuple[str | None, list[str]]:
    """Compare the tools that a claude process says it has with what was asked.

    Returns what is wrong (None: nothing) and the names that this claude version does not offer.
    """
    wanted = {SHOWN_AS.get(name, name) for name in base_tools(task.allowed_tools)}
    needed = {tools.PREFIX + tool.name for tool in tools.granted(task.allowed_tools)} if ledger else set()
    servers = tuple(f"mcp__{name}__" for name in task.mcp_servers)
    extra = {name for name in shown if name not in wanted | needed and not (servers and name.startswith(servers))}
    absent = (wanted | needed) - set(shown)
    if extra:
        return f"claude has tools that the role was not given: {', '.join(sorted(extra))}", []
    if missing := (absent & CORE_TOOLS) | (absent & needed):
        return f"claude lacks tools that the role was given: {', '.join(sorted(missing))}", []
    return None, sorted(absent)


def environment(task: TaskMsg, project: str, inherited: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """The environment of the claude process. ``inherited`` is the worker's own; ``root``: the user is root."""
    own = {k: v for k, v in task.env.items() if not k.startswith(RESERVED)}
    env = dict(inherited) if task.auth == "inherit" else clean_environment(inherited)
    env |= DEFAULT_ENV | own | FIXED_ENV | markers(project, task.attempt)
    if permission_mode(task) == "bypassPermissions" and root:
        env["IS_SANDBOX"] = "1"
    if has_scratch(task):
        env["CLAUDE_CODE_TMPDIR"] = str(scratch(task))
    if task.auth == "inherit":
        return env
    env |= {"HOME": task.home, "CLAUDE_CONFIG_DIR": task.config_dir}
    if task.base_url:
        env["ANTHROPIC_BASE_URL"] = task.base_url
    if task.api_token:
        env["ANTHROPIC_API_KEY"] = task.api_token
    return env


def permission_mode(task: TaskMsg) -> str:
    """dontAsk, or what the role says; inherit mode never asks and never denies, or it would hang on a host's rule."""
    return "bypassPermissions" if task.auth == "inherit" else task.permission_mode


def config_dir(task: TaskMsg, inherited: Mapping[str, str]) -> Path:
    """Where the claude process keeps its transcripts."""
    if task.auth != "inherit":
        return Path(task.config_dir)
    return Path(inherited.get("CLAUDE_CONFIG_DIR") or Path(inherited.get("HOME", "/")) / ".claude")


def has_scratch(task: TaskMsg) -> bool:
    """Whether the task's processes have a temporary directory of their own, not the host's."""
    return task.auth != "inherit" or Wishes.of(task.sandbox).mode != "none"


def scratch(task: TaskMsg) -> Path:
    """The temporary directory of the task's processes."""
    return Path(task.config_dir).parent / "tmp"
