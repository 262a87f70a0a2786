"""Every bad producer.yaml is answered with one line: file, line, key, value and what is allowed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from config_samples import MINIMAL

from producer.config import load_config
from producer.config.tools import BUILT_IN
from producer.errors import ConfigError

Write = Callable[[str], Path]
USD = "it must be an amount of US dollars from 0 to 1000000000, without quotes or a currency sign"
CAP = "budget.agents.code.daily_cap_usd"
TOOLS = f"{', '.join(BUILT_IN)} or mcp__server__tool"


def cap(value: str) -> str:
    return MINIMAL.replace("daily_cap_usd: 5", f"daily_cap_usd: {value}")


CRON = "it must be five fields, minute hour day month weekday, such as `0 7 * * 1-5`"


def entry(text: str) -> str:
    return MINIMAL + f"schedule:\n  - {{{text}}}\n"


SOCKETS = "it must be ipc, tcp, or tcp://127.0.0.1:PORT with a port up to 65532: no other address is listened on"
ELSEWHERE = ("tcp://0.0.0.0:7600", "tcp://*:7600", "tcp://192.0.2.1:7600", "tcp://[::1]:7600", "tcp://localhost:7600",
             "tcp://127.0.0.1:65533", "tcp://127.0.0.1:0", "tcp://127.0.0.1:07600", "tcp://127.0.0.1", "udp", "TCP",
             "tcp://127.0.0.1:7600;tcp://0.0.0.0:1", "ipc:///tmp/x", "7600")  # fmt: skip


CASES = {
    **{
        f"sockets {where}": (MINIMAL + f"sockets: {where}\n", f"7: sockets: {where} is not allowed: {SOCKETS}")
        for where in ELSEWHERE
    },
    "schedule is no list": (
        MINIMAL + "schedule: daily\n",
        "7: schedule: daily is not allowed: it must be a list, each entry after a `-`",
    ),
    "cron without quotes": (
        MINIMAL + "schedule:\n  - cron: */5 * * * *\n",
        "8: malformed YAML: a value that begins with * has to be quoted, near - cron: */5 * * * *",
    ),
    "bad cron": (
        entry('cron: "61 * * * *", role: code, title: t'),
        f"8: schedule[1].cron: '61 * * * *' is not allowed: {CRON} (bad minute)",
    ),
    "cron without a field": (
        entry("cron: 0 7 * *, role: code, title: t"),
        f"8: schedule[1].cron: 0 7 * * is not allowed: {CRON} (4 fields)",
    ),
    "cron that never comes": (
        entry("cron: 0 0 30 2 *, role: code, title: t"),
        f"8: schedule[1].cron: 0 0 30 2 * is not allowed: {CRON} (bad day-of-month)",
    ),
    "unknown zone": (
        entry("cron: 0 7 * * *, timezone: Europe/Berlon, role: code, title: t"),
        "8: schedule[1].timezone: Europe/Berlon is not allowed: it must be a time zone such as Europe/Berlin or UTC",
    ),
    "unknown role of an entry": (
        entry("cron: 0 7 * * *, role: coder, title: t"),
        "8: schedule[1].role: coder is not allowed: it must be one of code",
    ),
    "unknown key of an entry": (
        entry("crn: 0 7 * * *, role: code, title: t"),
        "8: schedule[1].crn: unknown key: did you mean cron? allowed here: cron, role, title, timezone, description,"
        " payload, priority",
    ),
    "entry twice": (
        entry("cron: 0 7 * * *, role: code, title: t") + "  - {cron: 0 7  * * *, role: code, title: t, priority: 1}\n",
        "9: schedule[2]: the same as entry 1 of the schedule: remove one, or change its title",
    ),
    "payload of an entry": (
        entry("cron: 0 7 * * *, role: code, title: t, payload: [1]"),
        "8: schedule[1].payload: a list is not allowed: it must be a mapping of keys to values",
    ),
    "empty": ("", "1: the file is empty: write one with `producerctl init`"),
    "only comments": ("# nothing\n", "1: the file is empty: write one with `producerctl init`"),
    "null": ("---\n", "1: the file is empty: write one with `producerctl init`"),
    "list": ("- a\n- b\n", "1: the file is a list: it must be a mapping of keys to values"),
    "text": ("\nhello\n", "2: the file is the text hello: it must be a mapping of keys to values"),
    "malformed": ("a: b: c\n", "1: malformed YAML: mapping values are not allowed here, near a: b: c"),
    "unclosed": (
        "a: [1,\n  2\n",
        "1: malformed YAML: expected ',' or ']', but got '<stream end>', near a: [1,",
    ),
    "tab": (
        "budget:\n\tagents: {}\n",
        "2: malformed YAML: found character '\\t' that cannot start any token, near agents: {}",
    ),
    "control character": ("a: \x01\n", "1: malformed YAML: the character U+0001 is not allowed"),
    "impossible escape": (
        'a: "\\UFFFFFFFF"\n',
        None,
    ),
    "half a surrogate": ('a: "\\uD800"\n', "1: a: half of a surrogate pair is not a character"),
    "anchor": ("a: &x 1\nb: *x\n", "1: a: the anchor &x is not allowed: write the value out"),
    "alias": ("a: *x\n", "1: a: the alias *x is not allowed: write the value out"),
    "tag": ("a: !!python/name:os.system x\n", None),
    "second document": (MINIMAL + "---\na: 1\n", "7: a second document (---) begins here: one is allowed"),
    "deep": (
        "a: " + "[" * 100_000,
        "1: a[1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1][1]: nested deeper than 20 levels",
    ),
    "duplicate key": (
        MINIMAL + "      daily_cap_usd: 6\n",
        f"7: {CAP}: duplicate key: it stands on line 6 already; keep one of the two",
    ),
    "duplicate role": (
        MINIMAL + "    code: {daily_cap_usd: 6}\n",
        "7: budget.agents.code: duplicate key: it stands on line 5 already; keep one of the two",
    ),
    "key is a list": ("? [a]\n: 1\n", "1: a list stands where a key is expected: keys are words"),
    "unknown key": (
        MINIMAL + "gateway:\n  recrod: true\n",
        "8: gateway.recrod: unknown key: did you mean record? allowed here: upstream, record, min_max_tokens",
    ),
    "unknown key at home elsewhere": (
        MINIMAL + "auth:\n  ntfy_topic: x\n",
        "8: auth.ntfy_topic: unknown key: did you mean notifications.ntfy_topic? allowed here: mode",
    ),
    "unknown key at home nowhere": (MINIMAL + "auth:\n  zzz: 1\n", "8: auth.zzz: unknown key: allowed here: mode"),
    "unknown key with a line break": (
        MINIMAL + 'auth:\n  "a\\nb": 1\n',
        "8: auth.'a\\nb': unknown key: allowed here: mode",
    ),
    "merge key": (
        MINIMAL + "auth:\n  <<: {mode: api}\n",
        "8: auth.<<: unknown key: allowed here: mode",
    ),
    "unknown key of a server": (
        MINIMAL + "      mcp_servers: {a: {comand: x}}\n",
        "7: budget.agents.code.mcp_servers.a.comand: unknown key: did you mean command? "
        "allowed here: type, command, args, env, url, headers",
    ),
    "missing required": (MINIMAL.replace("project_name: shop\n", ""), "1: project_name: this key is required"),
    "missing cap": (
        "project_name: x\nbudget:\n  project_ceiling_usd: 1\n  agents:\n    code: {}\n",
        f"5: {CAP}: this key is required",
    ),
    "misspelt required": (
        "project_name: x\nbudget:\n  ceiling_usd: 1\n",
        "3: budget.ceiling_usd: unknown key: did you mean project_ceiling_usd? "
        "allowed here: project_ceiling_usd, soft_cap_ratio, agents",
    ),
    "block is a list": (
        "project_name: x\nbudget: [1]\n",
        "2: budget: a list is not allowed: it must be a mapping of keys to values",
    ),
    "list is a word": (
        MINIMAL + "      allowed_tools: Read\n",
        "7: budget.agents.code.allowed_tools: Read is not allowed: it must be a list such as [Read, Grep]",
    ),
    "value is a mapping": (cap("{}"), f"6: {CAP}: a mapping is not allowed: {USD}"),
    "nan": (cap(".nan"), f"6: {CAP}: .nan is not allowed: {USD}"),
    "NaN": (cap("NaN"), f"6: {CAP}: NaN is not allowed: {USD}"),
    "infinity": (cap(".inf"), f"6: {CAP}: .inf is not allowed: {USD}"),
    "overflow": (cap("1e999"), f"6: {CAP}: 1e999 is not allowed: {USD}"),
    "beyond": (cap("1000000000.000001"), f"6: {CAP}: 1000000000.000001 is not allowed: {USD}"),
    "negative": (cap("-5"), f"6: {CAP}: -5 is not allowed: {USD}"),
    "almost zero but negative": (cap("-0.0000001"), f"6: {CAP}: -0.0000001 is not allowed: {USD}"),
    "quoted": (cap('"5"'), f"6: {CAP}: '5' is not allowed: {USD}"),
    "currency": (cap("$5"), f"6: {CAP}: $5 is not allowed: {USD}"),
    "amount in words": (cap("five"), f"6: {CAP}: five is not allowed: {USD}"),
    "comma": (cap("5,00"), f"6: {CAP}: 5,00 is not allowed: {USD}"),
    "octal": (cap("010"), f"6: {CAP}: 010 is not allowed: {USD}"),
    "sexagesimal": (cap("1:30"), f"6: {CAP}: 1:30 is not allowed: {USD}"),
    "bool as amount": (cap("true"), f"6: {CAP}: true is not allowed: {USD}"),
    "no amount": (cap(""), f"6: {CAP}: no value is given: {USD}"),
    "endless digits": (
        cap("1" * 1000),
        f"6: {CAP}: {'1' * 60}… is not allowed: {USD}",
    ),
    "ratio": (
        MINIMAL.replace("  agents", "  soft_cap_ratio: 80\n  agents"),
        "4: budget.soft_cap_ratio: 80 is not allowed: it must be a number from 0 to 1",
    ),
    "poll": (
        MINIMAL + "poll_interval_seconds: 0\n",
        "7: poll_interval_seconds: 0 is not allowed: it must be a number of seconds from 0.01 to 86400",
    ),
    "fraction of a worker": (
        MINIMAL + "      workers: 1.5\n",
        "7: budget.agents.code.workers: 1.5 is not allowed: it must be a whole number from 0 to 256",
    ),
    "flag": (
        MINIMAL + "      warm: maybe\n",
        "7: budget.agents.code.warm: maybe is not allowed: it must be true or false",
    ),
    "mode": (
        MINIMAL + "auth: {mode: outo}\n",
        "7: auth.mode: outo is not allowed: it must be one of auto, isolated, inherit, subscription, api",
    ),
    "sandbox": (
        MINIMAL + "      sandbox: firejail\n",
        "7: budget.agents.code.sandbox: firejail is not allowed: it must be one of auto, bwrap, landlock, none",
    ),
    "workspace": (
        MINIMAL + "      workspace: tree\n",
        "7: budget.agents.code.workspace: tree is not allowed: it must be one of shared, worktree",
    ),
    "review without a reviewer": (
        MINIMAL + "      workspace: worktree\n      on_done: review\n    qa: {daily_cap_usd: 1}\n",
        "8: budget.agents.code.on_done: no value is given: reviewer must be another role: qa",
    ),
    "unknown reviewer": (
        MINIMAL + "      workspace: worktree\n      on_done: review\n      reviewer: code\n",
        "9: budget.agents.code.reviewer: code is not allowed: reviewer must be another role: (there is none)",
    ),
    "unknown tool": (
        MINIMAL + "      allowed_tools:\n        - Read\n        - Bsh\n",
        "9: budget.agents.code.allowed_tools[2]: Bsh is not allowed: "
        f"it must be a known tool (did you mean Bash?): {TOOLS}",
    ),
    "tool in lower case": (
        MINIMAL + "      allowed_tools: [websearch]\n",
        "7: budget.agents.code.allowed_tools[1]: websearch is not allowed: "
        f"it must be a known tool (did you mean WebSearch?): {TOOLS}",
    ),
    "empty rule": (
        MINIMAL + "      allowed_tools: [Bash()]\n",
        "7: budget.agents.code.allowed_tools[1]: Bash() is not allowed: "
        "it must be Bash, or Bash with a rule in parentheses such as Bash(...)",
    ),
    "unknown ledger tool": (
        MINIMAL + "      allowed_tools: [mcp__ledger__drop]\n",
        "7: budget.agents.code.allowed_tools[1]: mcp__ledger__drop is not allowed: it must be one of the ledger's "
        "tools: mcp__ledger__insert_task, mcp__ledger__record_decision, mcp__ledger__record_asset, "
        "mcp__ledger__get_task, mcp__ledger__list_tasks, mcp__ledger__escalate",
    ),
    "tool of an undeclared server": (
        MINIMAL + "      allowed_tools: [mcp__git__log]\n",
        "7: budget.agents.code.allowed_tools[1]: mcp__git__log is not allowed: it must be a tool of one of the "
        "role's MCP servers: ledger (servers are declared under mcp_servers)",
    ),
    "server without a command": (
        MINIMAL + "      mcp_servers: {git: {args: []}}\n",
        "7: budget.agents.code.mcp_servers.git: a server of type stdio needs command",
    ),
    "server named ledger": (
        MINIMAL + "      mcp_servers: {ledger: {command: x}}\n",
        "7: budget.agents.code.mcp_servers.ledger: the name is not allowed: it must be a server name of letters, "
        "digits, - and single _; `ledger` is taken",
    ),
    "secret in env": (MINIMAL + "      env: {ANTHROPIC_API_KEY: x}\n", None),
    "missing prompt": (
        MINIMAL + "      prompt: agents/code.md\n",
        "7: budget.agents.code.prompt: agents/code.md is not allowed: there is no such file under ROOT",
    ),
    "prompt is a directory": (
        MINIMAL + "      prompt: .\n",
        "7: budget.agents.code.prompt: . is not allowed: a prompt must be a file",
    ),
    "prompt outside": (
        MINIMAL + "      prompt: ../../../../../../../../../../../../../../../etc/passwd\n",
        None,
    ),
    "role name": (
        MINIMAL.replace("code:", "../evil:"),
        "5: budget.agents.../evil: the name is not allowed: it must be a role name: a letter, then at most "
        "31 letters, digits, _ or -",
    ),
    "roles that differ in case": (
        MINIMAL + "    Code: {daily_cap_usd: 1}\n",
        "7: budget.agents.Code: differs from the role code in nothing but capitals: rename one of them",
    ),
    "root": (MINIMAL + "project_root: nowhere\n", "7: project_root: ROOT/nowhere is not a directory"),
    "switch is the ledger": (
        MINIMAL + "kill_switch: a\nledger_db: ./a\n",
        "7: kill_switch: it must not be the file that ledger_db names",
    ),
    "retry": (
        MINIMAL + "      retry: {base_seconds: 60, cap_seconds: 30}\n",
        "7: budget.agents.code.retry.cap_seconds: it must be at least base_seconds (60)",
    ),
    "time": (
        MINIMAL + "report: {time: 25:00}\n",
        "7: report.time: 25:00 is not allowed: it must be a time of day such as 07:00",
    ),
    "time zone": (
        MINIMAL + "report: {timezone: ../../etc/passwd}\n",
        "7: report.timezone: ../../etc/passwd is not allowed: it must be a time zone such as Europe/Berlin or UTC",
    ),
    "address": (
        MINIMAL + "gateway: {upstream: https://user:secret@host/}\n",
        "7: gateway.upstream: https://user:secret@host/ is not allowed: "
        "it must be an address such as https://host:port/path",
    ),
    "line break in the name": (
        MINIMAL.replace("shop", '"a\\nb"'),
        "1: project_name: 'a\\nb' is not allowed: it must be one line of text, at most 200 characters",
    ),
    "text direction in a value": (
        MINIMAL + "auth: {mode: \u202eipa}\n",
        "7: auth.mode: '\\u202eipa' is not allowed: it must be one of auto, isolated, inherit, subscription, api",
    ),
    "price": (
        MINIMAL + "pricing: {m: {input_per_mtok_usd: 0}}\n",
        "7: pricing.m.input_per_mtok_usd: 0 is not allowed: it must be an amount of US dollars above 0, "
        "up to 1000000000, without quotes or a currency sign",
    ),
    "the first of several": (
        cap("-1") + "gateway: {record: 3}\n",
        f"6: {CAP}: -1 is not allowed: {USD}",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_in_one_line(name: str, write: Write, tmp_path: Path) -> None:
    text, expected = CASES[name]
    path = write(text)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert said.startswith(str(path)) and said.isprintable()
    assert caught.value.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before
    if expected is not None:
        assert said.replace(str(path), "").replace(str(tmp_path), "ROOT") == f":{expected}"


@pytest.mark.parametrize("name", ["impossible escape", "tag", "secret in env", "prompt outside"])
def test_the_line_is_named_where_the_words_are_not_fixed(name: str, write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(CASES[name][0]))
    assert caught.value.line is not None or name == "impossible escape"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"producer\.yaml: no such file: write one with `producerctl init`"):
        load_config(tmp_path / "producer.yaml")


def test_a_directory_and_a_pipe_are_not_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"not a regular file|Is a directory"):
            load_config(path)


def test_bytes_that_are_not_utf8_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "producer.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(ConfigError, match=r":2: the file is not UTF-8 text"):
        load_config(path)


def test_too_large_a_file_is_not_parsed(write: Write) -> None:
    assert load_config(write(MINIMAL + "#" * (256 * 1024 - len(MINIMAL))))
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        load_config(write(MINIMAL + "#" * (256 * 1024 - len(MINIMAL) + 1)))
