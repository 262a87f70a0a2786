"""The JSON schema of producer.yaml, made from the classes that read it.

`python -m producer.config.schema > producer/templates/producer.schema.json` writes the shipped copy, which editors
find through the first line of the template; a test says when it is stale.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from producer.config.load import DOCUMENT

FILE = "producer.schema.json"


def json_schema() -> dict[str, Any]:
    """The schema (JSON Schema 2020-12) as a dict."""
    schema = DOCUMENT.json_schema()
    for block in (schema, *schema["$defs"].values()):
        block.pop("title", None)
        # A class says in its docstring what it is; a reader of the schema wants its first line.
        block["description"] = block.get("description", "").split("\n")[0]
        for key in block["properties"].values():
            key.pop("title", None)
            if "patternProperties" in key:  # names that do not match are wrong, not free
                key["additionalProperties"] = False
    role = schema["$defs"]["RoleConfig"]  # its name is the key under which it stands
    role["properties"].pop("name")
    role["required"].remove("name")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "producer.yaml of ai-producer"}
    return head | schema


def text() -> str:
    """The schema as the shipped file has it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
