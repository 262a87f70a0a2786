"""The OpenAPI document, made from the table of routes and the models of their bodies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from producer.ledger.browse import LAST, STATUSES
from producer.version import __version__

if TYPE_CHECKING:
    from producer.web.api import Route

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "field": {"type": "string"}},
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "status": {"type": "string", "enum": [*STATUSES, "blocked", "all"]},
    "role": {"type": "string", "maxLength": 200},
    "text": {"type": "string", "maxLength": 200},
    "action": {"type": "string", "maxLength": 200},
    "task": {"type": "string", "maxLength": 200},
    "before": {"type": "integer", "minimum": 1, "maximum": LAST},
    "limit": {"type": "integer", "minimum": 1, "maximum": 200},
    "hours": {"type": "integer", "minimum": 1, "maximum": 168},
}
_PATH = {"ident": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}, "role": {"type": "string", "minLength": 1}}
_READ_ERRORS = {
    "400": "A parameter is wrong.", "401": "No session.", "403": "Not from here.", "404": "There is no such thing.",
    "409": "There is no ledger.",
}  # fmt: skip
_WRITE_ERRORS = {
    "400": "The body is wrong; `field` says where.", "401": "No session.", "403": "Not from here, or no CSRF token.",
    "404": "There is no such thing.", "409": "Not possible in this state, or no supervisor runs.",
    "413": "More than 64 KiB.", "415": "Not application/json.",
}  # fmt: skip


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    models = {route.body.__name__: route.body.model_json_schema() for route in routes if route.body}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ai-producer dashboard", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, **models},
            "securitySchemes": {"session": {"type": "apiKey", "in": "cookie", "name": "producer_PORT"}},
        },
        "security": [{"session": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    given = [
        {"name": name, "in": "path", "required": True, "schema": _PATH[name]}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    given += [{"name": name, "in": "query", "schema": _PARAMETERS[name]} for name in route.parameters]
    found: dict[str, Any] = {
        "summary": route.summary,
        "operationId": getattr(route.handler, "__name__", route.path),
        "responses": {str(route.status): {"description": "Done.", **_json({"type": "object"})}},
    }
    for status, words in (_WRITE_ERRORS if route.body else _READ_ERRORS).items():
        found["responses"][status] = {"description": words, **_json({"$ref": "#/components/schemas/Error"})}
    if route.body:
        given.append(
            {"name": "X-Producer-CSRF", "in": "header", "required": True, "schema": {"type": "string"},
             "description": "The token of the session, from the meta tag `csrf` of every page."}
        )  # fmt: skip
        found["requestBody"] = {"required": True, **_json({"$ref": f"#/components/schemas/{route.body.__name__}"})}
    return {**found, "parameters": given} if given else found


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
