"""The schema, the reference and the template tell the same as the classes."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import jsonschema
import pytest
import yaml

from producer.cli.scaffold import template
from producer.config import ProducerConfig, docs, load_config, schema
from producer.config import tools as config_tools
from producer.errors import ConfigError
from producer.workers import tools as worker_tools

REPO = Path(__file__).parents[2]
ROLES = ("producer", "code", "qa", "wakeup")


def blocks() -> list[dict[str, Any]]:
    whole = schema.json_schema()
    return [whole, *whole["$defs"].values()]


def keys() -> set[str]:
    return {key for block in blocks() for key in block["properties"]}


def filled(text: str) -> str:
    return Template(text).substitute(project_name='"shop"', ntfy_topic='""', subject_prefix='"shop"')


def uncommented(text: str) -> str:
    """The template with every key in force that it shows in a comment."""
    names = "|".join(map(re.escape, sorted(keys() | {"tracker", "search", "my-model"})))
    return re.sub(rf"^( *)# ( *(?:- )?(?:{names}):)", r"\1\2", text, flags=re.M)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for role in ROLES:
        path = tmp_path / f"agents/{role}/system_prompt.md"
        path.parent.mkdir(parents=True)
        path.write_text("plan")
    return tmp_path / "producer.yaml"


def load(project: Path, text: str) -> ProducerConfig:
    project.write_text(text)
    return load_config(project)


def test_the_shipped_schema_is_current() -> None:
    shipped = resources.files("producer").joinpath("templates", schema.FILE).read_text(encoding="utf-8")
    assert shipped == schema.text(), "run `python -m producer.config.schema > producer/templates/producer.schema.json`"


def test_the_reference_is_current() -> None:
    page = (REPO / "docs/configuration.md").read_text(encoding="utf-8")
    assert page == docs.render(), "run `python -m producer.config.docs > docs/configuration.md`"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.text()))


def test_every_key_has_a_description_and_every_block_refuses_unknown_keys() -> None:
    whole = schema.json_schema()
    for block in (whole, *whole["$defs"].values()):
        assert block["additionalProperties"] is False
        for name, key in block["properties"].items():
            target = whole["$defs"][key["$ref"].rsplit("/", 1)[1]] if "$ref" in key else {}
            assert (key.get("description") or target.get("description", "")).endswith("."), name


def test_the_template_names_the_schema_in_its_first_line() -> None:
    first = filled(template("producer.yaml.template")).splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema.FILE}"


def test_the_template_shows_every_key() -> None:
    text = template("producer.yaml.template")
    missing = {key for key in keys() if not re.search(rf"^[ #-]*{key}:", text, re.M)}
    assert missing == set()


def test_every_key_of_the_template_has_a_comment() -> None:
    lines = template("producer.yaml.template").splitlines()
    first = {key: next(n for n, line in enumerate(lines) if re.match(rf"[ #-]*{key}:", line)) for key in keys()}
    above = {n + 1 for n, line in enumerate(lines) if re.match(r"\s*# [a-z]", line) and "PRODUCER_AUTH_MODE" in line}
    assert [key for key, n in first.items() if "#" not in lines[n].lstrip("# ") and n not in above] == []


def test_the_template_and_all_that_it_shows_in_comments_load(project: Path) -> None:
    text = filled(template("producer.yaml.template"))
    plain, full = load(project, text), load(project, uncommented(text))
    jsonschema.validate(yaml.safe_load(text), schema.json_schema())
    code, all_of_code = vars(plain.roles["code"]), vars(full.roles["code"])
    # Commented-out keys show their defaults, but for those whose default cannot be shown.
    assert {name for name in code if code[name] != all_of_code[name]} == {
        "max_budget_usd", "mcp_servers", "merge_into", "model", "reviewer",
    }  # fmt: skip
    same = {"audit", "schedule", "limits", "gateway", "report", "notifications", "pricing", "retention_days"}
    assert {name for name, value in vars(plain).items() if value != getattr(full, name)} <= {
        *same, "roles", "sha256"
    }  # fmt: skip
    assert full.limits.lineage_budget == 50_000_000
    assert full.notifications.events == plain.notifications.events
    assert full.failure_burst == plain.failure_burst
    assert full.pricing["my-model"]["fast_multiplier"] == 2


@pytest.mark.parametrize(
    "bad",
    [
        "budget: {project_ceiling_usd: -1}",
        "budget: {project_ceiling_usd: '1'}",
        "budget: {project_ceiling_usd: 1, agents: {'../x': {daily_cap_usd: 1}}}",
        "budget: {project_ceiling_usd: 1, agents: {code: {daily_cap_usd: 1, workers: 1.5}}}",
        "budget: {project_ceiling_usd: 1, agents: {code: {name: code, daily_cap_usd: 1}}}",
        "budget: {project_ceiling_usd: 1}\nauth: {mode: outo}",
        "budget: {project_ceiling_usd: 1}\nreport: {time: '7'}",
        "budget: {project_ceiling_usd: 1}\nzzz: 1",
    ],
)
def test_the_schema_refuses_what_the_program_refuses(bad: str, tmp_path: Path) -> None:
    text = f"project_name: shop\n{bad}\n"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema.json_schema())
    with pytest.raises(ConfigError):
        load(tmp_path / "producer.yaml", text)


def test_the_ledgers_tools_are_those_that_workers_have() -> None:
    assert config_tools.LEDGER_TOOLS == worker_tools.NAMES
    assert config_tools.LEDGER_SERVER == worker_tools.SERVER


SECTIONS = [
    "Mission",
    "What you must read first",
    "Hard rules",
    "Output discipline",
    "Ledger discipline",
    "Queue self-replenishment (REQUIRED)",
    "Stop condition",
]


@pytest.mark.parametrize("name", [*(f"agents/{role}.md" for role in ROLES), "agent_prompt_template.md"])
def test_prompts_have_the_seven_sections_and_name_tools_that_exist(name: str) -> None:
    text = template(name)
    assert re.findall(r"^## (.+)$", text, re.M) == SECTIONS
    used = set(re.findall(r"mcp__ledger__(\w+)", text))
    assert {"insert_task", "record_decision"} <= used <= set(config_tools.LEDGER_TOOLS)
    assert "LedgerClient" in text
    by_name = {tool.name: tool.schema for tool in worker_tools.TOOLS}
    for tool, arguments in re.findall(r"^mcp__ledger__(\w+)\n((?:  .+\n)+)", text, re.M):
        given = set(re.findall(r"^  (\w+):", arguments, re.M))
        assert set(by_name[tool]["required"]) <= given <= set(by_name[tool]["properties"])
