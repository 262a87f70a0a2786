"""Whatever is asked of the JSON routes: an answer in JSON, and never a 5xx. Bodies and parameters grow from the document."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web_rig import Web

from producer.web import api, pages

KEYS = sorted(
    {name for route in api.ROUTES if route.body for name in route.body.model_fields} | {"@file", "actor", "op"}
)
TEXT = st.one_of(
    st.text(max_size=40), st.sampled_from(["code", "parser", "ask", "-1", "9" * 30, "\x00", "../x", "'--"])
)
LEAF = st.one_of(st.none(), st.booleans(), st.integers(), st.integers(0, 6), st.floats(), TEXT)
VALUE = st.recursive(
    LEAF, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXT, inside, max_size=4), max_leaves=12
)
BODY = st.one_of(st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=7), VALUE)
PARAMETERS = st.dictionaries(
    st.sampled_from(["status", "role", "text", "before", "limit", "hours", "action", "task", "day", "x"]),
    TEXT,
    max_size=5,
)
READS = [*(route.path for route in api.ROUTES if route.method == "GET"), *(path for path, _ in pages.ROUTES)]
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def filled_in(path: str, ident: str) -> str:
    """A path with its parameters in place, whatever they are."""
    safe = quote(ident.encode("utf-8", "surrogatepass"), safe="") or "x"
    return path.replace("{ident}", safe).replace("{role}", safe)


@FUZZ
@given(path=st.sampled_from([route.path for route in api.ROUTES if route.method == "POST"]), ident=TEXT, body=BODY)
def test_no_body_is_too_much(web: Web, path: str, ident: str, body: Any) -> None:
    found = web.post(filled_in(path, ident), json.dumps(body))
    assert found.status_code < 500, found.text
    assert isinstance(found.json(), dict)


@FUZZ
@given(path=st.sampled_from(READS), ident=TEXT, parameters=PARAMETERS, html=st.booleans())
def test_no_parameter_is_too_much(web: Web, path: str, ident: str, parameters: dict[str, str], html: bool) -> None:
    query = "&".join(
        f"{name}={quote(value.encode('utf-8', 'surrogatepass'), safe='')}" for name, value in parameters.items()
    )
    found = web.get(f"{filled_in(path, ident)}?{query}", accept="text/html" if html else "*/*")
    assert found.status_code < 500, found.text[:300]
    assert found.headers["content-type"].startswith(("application/json", "text/html")) or found.status_code == 303
