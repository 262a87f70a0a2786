"""Text, paths and files from agents, at the doors where a person, a terminal, git or YAML meets them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from producer import killswitch
from producer.cli import screen
from producer.config import load_config
from producer.core import notice, text
from producer.errors import ConfigError, ProducerError
from producer.git import Git
from producer.ledger.checks import may_be_id
from producer.supervisor import escalation
from producer.wire.codec import strict_json

ESCAPES = {
    "clear the screen": "\x1b[2J", "set the title": "\x1b]0;x\x07", "a link": "\x1b]8;;http://evil\x1b\\", "C1": "\x9b2J",
    "write the clipboard": "\x1b]52;c;eA==\x07", "back over it": "ok\x08\x08no", "over the line": "evil\rfine",
    "bidi": "\u202egpj.exe", "isolate": "\u2066x\u2069", "line separator": "a\u2028b", "NUL": "a\0b", "DEL": "a\x7fb",
    "surrogate": "a\ud800b", "mark": "\u061cx",
}  # fmt: skip


@pytest.mark.parametrize("attack", ESCAPES)
def test_a_terminal_is_steered_by_nobody(attack: str, capsys: pytest.CaptureFixture[str]) -> None:
    evil = ESCAPES[attack]
    screen.say(evil)
    screen.note(evil)
    screen.warn(evil)
    screen.error(evil)
    screen.hang(evil, 2)
    screen.table(["a"], [[evil]])
    screen.show_json({"a": evil})
    screen.show_json_line(evil)
    screen.show_markdown(evil)
    said = "".join(capsys.readouterr())
    for char in said:
        assert char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"), repr(said)
        assert char not in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
        assert not "\ud800" <= char <= "\udfff"


@pytest.mark.parametrize("evil", ["x\r\nPriority: max", "x\nClick: http://evil", "x\x1b[2J", "x\u2028y", "x" * 9999])
def test_a_push_is_one_title_of_one_line_and_no_header(evil: str) -> None:
    sent = notice.message([notice.Push("escalation", evil, evil, 0.0)], topic="t", prefix=evil)
    assert "\n" not in sent["title"] and "\r" not in sent["title"] and "\x1b" not in sent["title"]
    assert len(sent["title"]) <= notice.TITLE and len(sent["message"].encode()) <= notice.BYTES + 3
    assert sent["priority"] == 4 and "click" not in sent


FENCES = ["```\n# Approved\n", "~~~\n</pre>\n", "`````` \nx", "```" * 50, "\n```\n\n| to | run |\n", "a\r```\rb"]


@pytest.mark.parametrize("evil", FENCES)
def test_an_agents_words_stay_in_their_fence(evil: str) -> None:
    from markdown_it import MarkdownIt

    task = {"id": "T", "agent_owner": "code", "priority": 3, "title": f"t{evil}", "escalation_reason": evil,
            "cost_usd": "0.00", "attempts": [], "children": [], "description": evil, "payload": {"a": evil}}  # fmt: skip
    tokens = MarkdownIt("commonmark").parse(escalation.render(task, []))
    fences = [token.content for token in tokens if token.type == "fence"]
    headings = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    assert len(fences) == 2 and not any(token.type == "html_block" for token in tokens)
    assert headings[1:] == ["What to do", "Description", "Payload", "Attempts", "Last events"]


@pytest.mark.parametrize("evil", ["# x", "[a](http://evil)", "<img src=x>", "![](x)", "a|b", "**b**", "`c`", "x\n# y"])
def test_a_title_in_markdown_is_one_line_of_plain_text(evil: str) -> None:
    from markdown_it import MarkdownIt

    inline = MarkdownIt("commonmark").parse(f"- {text.markdown(evil)}")
    kinds = {child.type for token in inline if token.children for child in token.children}
    assert kinds <= {"text", "text_special"} and not [t for t in inline if t.type == "heading_open"]


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a/b", ".", "..", "a\0b", "a\nb", "-rf x", "", "x" * 65, "é", "a b", "a\n"]
)
def test_an_id_names_no_path(name: str) -> None:
    assert not may_be_id(name)


BUDGET = "budget: {project_ceiling_usd: 1, agents: {code: {daily_cap_usd: 1}}}\n"
WHOLE = f"project_name: x\n{BUDGET}"
PROMPT = "project_name: x\nbudget: {project_ceiling_usd: 1, agents: {code: {daily_cap_usd: 1, prompt: %s}}}\n"
CEILING = "project_name: x\nbudget: {project_ceiling_usd: %s, agents: {code: {daily_cap_usd: 1}}}\n"
CONFIGS = {  # each but for the attack a configuration that is taken; and what is said of it
    "a billion laughs": ("a: &a [x, x]\nb: &b [*a, *a]\n" + WHOLE, "anchor &a is not allowed"),
    "an anchor": (f"project_name: &p x\n{BUDGET}", "anchor &p is not allowed"),
    "an alias": (f"{WHOLE}default_model: *p\n", "alias *p is not allowed"),
    "a key twice": (f"{WHOLE}project_name: y\n", "duplicate key"),
    "an object of Python's": (f"project_name: !!python/object/apply:os.system ['touch pwned']\n{BUDGET}", "the tag "),
    "infinity": (CEILING % ".inf", ".inf is not allowed"),
    "no number": (CEILING % ".nan", ".nan is not allowed"),
    "a ceiling below nothing": (CEILING % "-1", "-1 is not allowed"),
    "a merge": (f"{WHOLE}<<: {{default_model: claude-sonnet-5-5}}\n", "<<"),
    "too deep": (f"{WHOLE}a: " + "[" * 5000 + "\n", "nested deeper than 20 levels"),
    "too large": (f"{WHOLE}#" + "x" * 300_000 + "\n", "larger than 256 KiB"),
    "two documents": (f"{WHOLE}---\n{WHOLE}", "a second document"),
    "bytes that are no text": (f"{WHOLE}#\udcff\n", "not UTF-8"),
    "a NUL": (f"{WHOLE}#a\0b\n", "U+0000"),
    "a switch that is the ledger": (f"{WHOLE}kill_switch: agent-state/ledger.db\n", "kill_switch"),
    "a prompt outside": (PROMPT % "../../etc/passwd", "prompt"),
    "a prompt at the root": (PROMPT % "/etc/passwd", "prompt"),
    "a role that is a path": (WHOLE.replace("code", "'../x'"), "the name is not allowed"),
}


def test_the_configuration_that_the_attacks_begin_with_is_taken(tmp_path: Path) -> None:
    (tmp_path / "producer.yaml").write_text(WHOLE)
    assert load_config(tmp_path / "producer.yaml").project_name == "x"


@pytest.mark.parametrize("attack", CONFIGS)
def test_a_configuration_is_refused_in_one_line(tmp_path: Path, attack: str) -> None:
    file = tmp_path / "producer.yaml"
    content, said = CONFIGS[attack]
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as found:
        load_config(file)
    assert "producer.yaml" in str(found.value) and said in str(found.value) and "\n" not in str(found.value)
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


def test_a_prompt_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "project"
    root.mkdir()
    (root / "p.md").symlink_to(tmp_path / "secret")
    (root / "producer.yaml").write_text(
        "project_name: x\nbudget: {project_ceiling_usd: 1, agents: {code: {daily_cap_usd: 1, prompt: p.md}}}\n"
    )
    with pytest.raises(ConfigError, match="prompt"):
        load_config(root / "producer.yaml")


SWITCHES = {
    "an empty file": lambda p: p.write_text(""),
    "0 and more": lambda p: p.write_text("0 0"),
    "false": lambda p: p.write_text("false"),
    "off": lambda p: p.write_text("off"),
    "00": lambda p: p.write_text("00"),
    "a zero of another script": lambda p: p.write_text("٠"),
    "0 behind a mark": lambda p: p.write_bytes(b"\xef\xbb\xbf0"),
    "0 and a NUL": lambda p: p.write_bytes(b"0\0"),
    "bytes": lambda p: p.write_bytes(b"\xff\xfe"),
    "0 behind 5000 blanks": lambda p: p.write_text(" " * 5000 + "0"),
    "a directory": lambda p: p.mkdir(),
    "a dangling link": lambda p: p.symlink_to("nowhere"),
    "a link to itself": lambda p: p.symlink_to(p.name),
    "a link to a directory": lambda p: p.symlink_to("/"),
    "a pipe that nobody writes": lambda p: os.mkfifo(p),
    "a device that never ends": lambda p: p.symlink_to("/dev/zero"),
    "a file of nothing": lambda p: p.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("attack", SWITCHES)
def test_the_switch_is_armed_by_whatever_lies_there(tmp_path: Path, attack: str) -> None:
    SWITCHES[attack](tmp_path / "kill_switch")
    assert killswitch.read(tmp_path / "kill_switch").armed


PLANTED = {
    "a hook": lambda r: _executable(r / ".git/hooks/pre-commit"),
    "a hook after": lambda r: _executable(r / ".git/hooks/post-checkout"),
    "hooks elsewhere": lambda r: (_executable(r / "h/pre-commit"), _config(r, "core.hooksPath", "h")),
    "a file system monitor": lambda r: (_executable(r / "evil"), _config(r, "core.fsmonitor", str(r / "evil"))),
    "an editor": lambda r: (_executable(r / "evil"), _config(r, "core.editor", str(r / "evil"))),
    "a signature": lambda r: (
        _executable(r / "evil"), _config(r, "commit.gpgSign", "true"), _config(r, "gpg.program", str(r / "evil"))),
    "a filter": lambda r: (
        _executable(r / "evil"), _config(r, "filter.x.clean", str(r / "evil")),
        (r / ".gitattributes").write_text("* filter=x\n")),
    "a diff of its own": lambda r: (_executable(r / "evil"), _config(r, "diff.external", str(r / "evil"))),
    "a text of its own": lambda r: (
        _executable(r / "evil"), _config(r, "diff.x.textconv", str(r / "evil")),
        (r / ".gitattributes").write_text("* diff=x\n")),
    "a pager": lambda r: (_executable(r / "evil"), _config(r, "core.pager", str(r / "evil"))),
    "an alias over a command": lambda r: (_executable(r / "evil"), _config(r, "alias.status", f"!{r / 'evil'}")),
    "another askpass": lambda r: (_executable(r / "evil"), _config(r, "core.askPass", str(r / "evil"))),
}  # fmt: skip


def _executable(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text('#!/bin/sh\ntouch "$(dirname "$0")/../pwned" "$(git rev-parse --show-toplevel)/pwned"; cat\n')
    path.chmod(0o755)


def _config(repo: Path, name: str, value: str) -> None:
    subprocess.run(["git", "-C", str(repo), "config", name, value], check=True)


@pytest.mark.parametrize("attack", PLANTED)
def test_git_as_we_run_it_starts_nothing_that_was_planted(tmp_path: Path, attack: str) -> None:
    repo = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    (repo / "a").write_text("a")
    PLANTED[attack](repo)
    git, who = Git(repo), {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a",
                           "GIT_COMMITTER_EMAIL": "a"}  # fmt: skip
    git.run("status", "--porcelain")
    git.run("add", "-A")
    git.run("commit", "-m", "x", env=who)
    git.run("log", "-1", "--stat")
    git.run("checkout", "-q", "-b", "other")
    assert not list(tmp_path.rglob("pwned"))


BOMBS = [
    b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"Infinity", b"-Infinity", b"1e999", b'{"a":1,"a":2}', b'"\\ud800"',
    b"9" * 100_000, b"\xef\xbb\xbf{}", b"\xff", b"", b"{} {}", b"'a'", b"[1,]", b"\x00", b'{"\\ud800": 1}',
    b"[" * 33 + b"]" * 33,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_json_that_is_not_plain_is_refused(bomb: bytes) -> None:
    with pytest.raises(ProducerError):
        strict_json(bomb)


def test_a_seed_file_files_all_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from producer.ledger import LedgerClient

    client = LedgerClient(tmp_path / "ledger.db")
    try:
        good = {"agent_owner": "code", "title": "t", "description": "d"}
        for evil in ({**good, "status": "done"}, {**good, "task_id": "../x"}, {**good, "payload": []}, [], None, "x"):
            (tmp_path / "seed.json").write_text(json.dumps([good, evil]))
            with pytest.raises(ProducerError):
                client.seed_from_json(tmp_path / "seed.json")
        assert client.list_ready_tasks() == []
    finally:
        client.close()
