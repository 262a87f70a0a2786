"""Whatever the file holds, load_config gives a config or a ConfigError of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from config_samples import MINIMAL
from examples import examples
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producer.config import ProducerConfig, load_config
from producer.config.schema import json_schema
from producer.errors import ConfigError

FUZZ = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

SCHEMA = json_schema()
KEYS = sorted({key for block in (SCHEMA, *SCHEMA["$defs"].values()) for key in block["properties"]})
INDICATORS = [
    "&a ",
    "*a",
    "!!int ",
    "---\n",
    "...\n",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ",",
    "- ",
    "? ",
    "|\n",
    ">\n",
    "'",
    '"',
    "#",
]
BLANKS = ["\t", "\n", "\r", "  ", "\x00", "\ufeff", "\u2028", "\x85"]
ODD = [
    "%YAML 9.9\n",
    "%TAG ! tag:x,2000:\n",
    "\\U00110000",
    '"\\xZZ"',
    ".nan",
    "1e999",
    "-1",
    "null",
    "~",
    "<<",
    "0x1F",
    "1:30",
]
PIECES = st.sampled_from([*INDICATORS, *BLANKS, *ODD, "code:", "2001-01-01", "\U0001f600", *KEYS])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(KEYS), st.dates()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=5),
    max_leaves=25,
)
BLOCKS = st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6)


def acceptable(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    try:
        config = load_config(path)
    except ConfigError as error:
        said = str(error)
        assert len(said.splitlines()) == 1 and said.startswith(str(path)) and said.isprintable()
    else:
        assert isinstance(config, ProducerConfig)


@FUZZ
@example(b"\xff\xfe")
@example(b"a: !<tag:yaml.org,2002:python/object/apply:os.system> [x]")
@example(b'"\\u')
@example(b"%YAML 99999999999999999999.1\n---\na: 1")
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, raw: bytes) -> None:
    acceptable(tmp_path / "producer.yaml", raw)


@FUZZ
@given(st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join), st.integers(0, len(MINIMAL)))
def test_any_pieces_of_yaml_put_into_a_good_file(tmp_path: Path, pieces: str, at: int) -> None:
    text = MINIMAL[:at] + pieces + MINIMAL[at:]
    acceptable(tmp_path / "producer.yaml", text.encode("utf-8", "replace"))


@FUZZ
@given(
    st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6), st.dictionaries(st.sampled_from(KEYS), TREES, max_size=6)
)
def test_any_tree_under_known_keys(tmp_path: Path, top: dict[str, object], role: dict[str, object]) -> None:
    tree = {**yaml.safe_load(MINIMAL), **top}
    if isinstance(tree.get("budget"), dict) and isinstance(tree["budget"].get("agents"), dict):
        tree["budget"]["agents"]["code"] = {"daily_cap_usd": 1, **role}
    acceptable(tmp_path / "producer.yaml", yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "replace"))


@pytest.mark.parametrize("piece", ["[", "{a: ", "- ", "? ", "a:\n ", "'", '"\\', "&a *a ", "!!x ", "#", "\n", "- - ? "])
def test_a_quarter_of_a_megabyte_of_one_thing_is_answered(
    tmp_path: Path, piece: str, write: Callable[[str], Path]
) -> None:
    path = write((piece * (256 * 1024))[: 256 * 1024])
    with pytest.raises(ConfigError):
        load_config(path)
