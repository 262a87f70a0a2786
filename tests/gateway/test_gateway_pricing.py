"""Prices: exact arithmetic, and a table that is read strictly."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer import pricing
from producer.errors import PricingError, UnknownModel
from producer.wire.messages import Usage

TABLE = pricing.load()
COUNT = st.integers(0, 2_000_000)


@pytest.mark.parametrize(
    ("model", "usage", "more", "micros"),
    [  # each was measured with the real CLI, in dollars: 0.048, 0.2205, 0.0332, 0.0525005, 0.0105, 0.009, 0.0964
        ("claude-opus-5-5", Usage(input_tokens=1000, output_tokens=1000), {"speed": "fast"}, 48_000),
        (
            "claude-opus-4-6",
            Usage(input_tokens=1000, output_tokens=1000, cache_read_tokens=1000, cache_write_5m_tokens=1000),
            {"speed": "fast"},
            220_500,
        ),
        ("sonnet", Usage(input_tokens=1000, output_tokens=1000, web_searches=2), {"geo": "us"}, 33_200),
        ("haiku", Usage(input_tokens=100_001, output_tokens=1000), {}, 52_501),
        ("haiku", Usage(input_tokens=100_000, output_tokens=1000), {}, 10_500),
        (
            "haiku",
            Usage(input_tokens=1000, output_tokens=1000, cache_read_tokens=100_000, cache_write_1h_tokens=1000),
            {},
            9_000,
        ),
        (
            "claude-mythos-5-2",
            Usage(input_tokens=1000, output_tokens=1000, cache_read_tokens=1000),
            {"speed": "fast"},
            96_400,
        ),
    ],
)
def test_a_cost_is_what_the_cli_computes(model, usage, more, micros):
    assert TABLE.lookup(model).cost_of(usage, **more) == micros


@given(COUNT, COUNT, COUNT, COUNT, COUNT, st.sampled_from(sorted(TABLE.prices)), st.sampled_from([None, "us"]))
def test_a_cost_is_rounded_up_once(plain, out, read, five, hour, model, geo):
    row = pricing.bundled()["models"][model]
    dollars = sum(
        Fraction(Decimal(str(row[f"{key}_per_mtok_usd"]))) * count
        for key, count in [("input", plain), ("output", out), ("cache_read", read), ("cache_creation", five),
                           ("cache_creation_1h", hour)]
    )  # fmt: skip
    if "long_prompt" in row and plain + read + five + hour > row["long_prompt"]["above_tokens"]:
        dollars *= 5
    dollars *= Fraction(11, 10) if geo else 1
    usage = Usage(
        input_tokens=plain,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
    )
    cost = TABLE.lookup(model).cost_of(usage, geo=geo)
    assert 0 <= cost - dollars < 1


@given(
    st.sampled_from(sorted(TABLE.prices)),
    st.integers(0, 300_000),
    st.integers(0, 10**8),
    st.booleans(),
    st.sampled_from([None, "us", "global"]),
    st.integers(0, 3),
)
def test_what_is_affordable_is_within_the_amount_and_one_more_token_is_not(model, bound, amount, hour, geo, searches):
    price = TABLE.lookup(model)
    more = {"cache_1h": hour, "geo": geo, "searches": searches}
    tokens = price.affordable_output_tokens(amount, bound, **more)
    if tokens >= 0:
        assert price.worst_case(bound, tokens, **more) <= amount
    assert price.worst_case(bound, max(0, tokens + 1), **more) > amount


@given(st.sampled_from(sorted(TABLE.prices)), COUNT, COUNT, COUNT, COUNT, st.sampled_from([None, "us", "mars"]))
def test_no_usage_within_its_bounds_costs_more_than_the_worst_case(model, plain, five, hour, out, geo):
    price = TABLE.lookup(model)
    usage = Usage(input_tokens=plain, cache_write_5m_tokens=five, cache_write_1h_tokens=hour, output_tokens=out)
    assert price.cost_of(usage, geo=geo) <= price.worst_case(plain + five + hour, out)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("opus", "claude-opus-5-5"),
        ("haiku-4-5", "claude-haiku-4-5"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("claude-3-7-sonnet-20250219", "claude-3-7-sonnet"),
        ("fable", "claude-fable-5-2"),
    ],
)
def test_models_are_known_by_their_other_names(name, model):
    assert TABLE.lookup(name).model == model


@pytest.mark.parametrize("name", ["", "claude", "gpt-9", "claude-opus-5-5-preview", "claude-opus", "CLAUDE-OPUS-5-5"])
def test_a_model_without_a_price_is_refused_by_name(name):
    with pytest.raises(UnknownModel) as error:
        TABLE.lookup(name)
    assert error.value.model == name


@pytest.mark.parametrize("speed", ["fast", "ludicrous"])
def test_a_speed_without_a_price_is_refused(speed):
    with pytest.raises(UnknownModel, match=speed):
        TABLE.lookup("sonnet").worst_case(10, 10, speed=speed)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"models": {}}, "models"),
        ({"models": {"m": {}}}, "models.m.input_per_mtok_usd: missing"),
        ({"currency": "EUR"}, "currency"),
        ({"last_updated": "yesterday"}, "last_updated"),
        ({"surprise": 1}, "surprise"),
        ({"web_search_usd": -1}, "web_search_usd"),
        ({"inference_geo_multipliers": {"us": 0.5}}, "inference_geo_multipliers.us"),
    ],
)
def test_a_bad_table_is_refused_naming_the_key(change, named):
    with pytest.raises(PricingError, match=named):
        pricing.parse(json.dumps({**json.loads(ROW_TABLE), **change}), "my.json")


ROW = {f"{key}_per_mtok_usd": 1.0 for key in ("input", "output", "cache_creation", "cache_read")}
ROW_TABLE = json.dumps({"last_updated": "2026-05-06", "currency": "USD", "models": {"m": ROW}})


@pytest.mark.parametrize("value", ["1", None, True, -0.1, [], 0.0000001])
def test_a_bad_rate_is_refused_naming_model_and_key(value):
    row = {**ROW, "output_per_mtok_usd": value}
    with pytest.raises(PricingError, match=r"my.json: models\.m\.output_per_mtok_usd"):
        pricing.parse(json.dumps({"models": {"m": row}}), "my.json")


@pytest.mark.parametrize("text", ["", "[]", "{", "NaN", '{"models": NaN}', "null"])
def test_what_is_no_table_is_refused(text):
    with pytest.raises(PricingError, match=r"my\.json"):
        pricing.parse(text, "my.json")


def test_the_project_wins_over_the_bundle_and_the_override_over_both(tmp_path):
    file = tmp_path / "pricing.json"
    file.write_text(ROW_TABLE.replace('"m"', '"claude-opus-5-5"'))
    table = pricing.load(file, {"claude-sonnet-5": {**ROW, "input_per_mtok_usd": 0.5}})
    assert table.lookup("opus").input == 1_000_000  # the alias stays with the model
    assert table.lookup("opus").write_1h == 2_000_000  # a 0.3.x row has no 1-hour rate: twice the input
    assert table.lookup("claude-sonnet-5").input == 500_000
    assert table.lookup("sonnet").input == 2_000_000
    assert pricing.load(tmp_path / "absent.json").lookup("opus").input == 4_000_000


def test_a_bad_override_is_refused_naming_where_it_stands():
    with pytest.raises(PricingError, match=r"producer\.yaml: pricing: models\.x"):
        pricing.load(None, {"x": {"input_per_mtok_usd": float("nan")}})


def test_a_table_is_stale_after_90_days():
    table = {"last_updated": "2026-01-01"}
    assert not pricing.is_stale(table, date(2026, 4, 1))
    assert pricing.is_stale(table, date(2026, 4, 2))


def test_the_bundled_table_has_a_date_and_a_source():
    table = pricing.bundled()
    assert pricing.age_days(table, date.fromisoformat(table["last_updated"])) == 0
    assert table["source_url"].startswith("https://")
