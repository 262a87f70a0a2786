"""The kinds of value that producer.yaml knows, each with its reader, its JSON schema and its words.

1. A kind reads the text that was written (a Scalar) and gives a Python value or a ValueError with `what is allowed`.
2. Numbers are decimal: no octal, no hexadecimal, no 1:30, no NaN, no infinity. Quoted digits are text.
3. An amount is rounded up to a whole micro-dollar. Up to MAX_USD the float that the 0.3.x API promises turns back
   into exactly those micro-dollars, so nothing else has to be carried along.
4. Kinds stand in ``Annotated`` and accept Python values as well, so a config can be built or replaced in code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from producer.config.tree import Node, Scalar
from producer.core import cron as core_cron
from producer.core.money import parse_usd, to_float
from producer.errors import MoneyError
from producer.places import IPC, LOOPBACK

STRICT = ConfigDict(extra="forbid", defer_build=True)
MAX_USD = 1_000_000_000
DAY = 86_400
LAST_PORT = 65_532  # three more follow it
MODEL = r"[A-Za-z0-9][A-Za-z0-9._:@/\[\]-]*"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

NUMBER = re.compile(r"[-+]?(?:(?:0|[1-9][0-9_]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
LONGEST_NUMBER = 24
FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _empty_block(value: Any) -> Any:
    return {} if isinstance(value, Scalar) and value.is_null else value


def _empty_list(value: Any) -> Any:
    return [] if isinstance(value, Scalar) and value.is_null else value


# A block that was opened and left empty is a block of defaults; a list is empty.
Block = BeforeValidator(_empty_block)
EmptyList = BeforeValidator(_empty_list)


def about(words: str) -> Any:
    """The description of a key, in the words of the reference."""
    return Field(description=words)


class Kind:
    """One kind of value. ``allowed`` completes the sentence "...: it must be"."""

    def __init__(self, read: Callable[[Scalar], Any], schema: dict[str, Any], allowed: str) -> None:
        self.read, self.schema, self.allowed = read, schema, allowed

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        nullable = type(None) in getattr(source, "__args__", ())

        def check(value: object) -> Any:
            if isinstance(value, (dict, list, tuple)):
                raise PydanticCustomError("kind", "{allowed}", {"allowed": self.allowed})
            scalar = Scalar.of(value)
            if nullable and scalar.is_null:
                return None
            try:
                return self.read(scalar)
            except ValueError as error:
                raise PydanticCustomError("kind", "{allowed}", {"allowed": str(error) or self.allowed}) from None

        schema = dict(self.schema)
        if nullable:
            schema["type"] = [schema["type"], "null"]
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        return core_schema.no_info_plain_validator_function(check, metadata={"kind": schema})

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(core["metadata"]["kind"])


def _number(scalar: Scalar) -> Decimal:
    if not scalar.plain or len(scalar.text) > LONGEST_NUMBER or not NUMBER.fullmatch(scalar.text):
        raise ValueError
    return Decimal(scalar.text.replace("_", ""))


def usd(above: int | None = None) -> Kind:
    """US dollars: a float of whole micro-dollars, rounded up, from 0 (or above ``above``) to MAX_USD."""

    def read(scalar: Scalar) -> float:
        amount = _number(scalar)
        if amount < 0 or amount > MAX_USD or (above is not None and amount <= above):
            raise ValueError
        try:
            return to_float(parse_usd(abs(amount)))
        except MoneyError:
            raise ValueError from None

    schema = {"type": "number", "minimum": 0, "maximum": MAX_USD}
    if above is not None:
        schema = {"type": "number", "exclusiveMinimum": above, "maximum": MAX_USD}
    low = "from 0" if above is None else f"above {above}, up"
    return Kind(read, schema, f"an amount of US dollars {low} to {MAX_USD}, without quotes or a currency sign")


def number(low: float, high: float, unit: str = "") -> Kind:
    """A decimal number in a range, both ends included."""

    def read(scalar: Scalar) -> float:
        value = float(_number(scalar))
        if not low <= value <= high:
            raise ValueError
        return value

    allowed = f"a number{unit and f' of {unit}'} from {low:g} to {high:,g}".replace(",", "")
    return Kind(read, {"type": "number", "minimum": low, "maximum": high}, allowed)


def whole(low: int, high: int, unit: str = "") -> Kind:
    """A whole number in a range, both ends included."""

    def read(scalar: Scalar) -> int:
        if not scalar.plain or len(scalar.text) > LONGEST_NUMBER or not WHOLE.fullmatch(scalar.text):
            raise ValueError
        value = int(scalar.text)
        if not low <= value <= high:
            raise ValueError
        return value

    allowed = f"a whole number{unit and f' of {unit}'} from {low} to {high}"
    return Kind(read, {"type": "integer", "minimum": low, "maximum": high}, allowed)


def flag() -> Kind:
    """true or false, and the other words that YAML 1.1 has for them."""

    def read(scalar: Scalar) -> bool:
        value = FLAGS.get(scalar.text.lower()) if scalar.plain else None
        if value is None:
            raise ValueError
        return value

    return Kind(read, {"type": "boolean"}, "true or false")


def choice(*words: str) -> Kind:
    """One word of a list."""

    def read(scalar: Scalar) -> str:
        if scalar.text not in words:
            raise ValueError
        return scalar.text

    return Kind(read, {"type": "string", "enum": list(words)}, f"one of {', '.join(words)}")


def text(pattern: str = "", allowed: str = "", *, longest: int = 200, empty: bool = False) -> Kind:
    """One line of text. Unquoted numbers and words such as `yes` are taken as they are written."""
    matcher = re.compile(pattern) if pattern else None
    words = allowed or f"one line of text, at most {longest} characters"

    def read(scalar: Scalar) -> str:
        value = "" if scalar.is_null else scalar.text
        if len(value) > longest or UNPRINTABLE.search(value) or not (empty or value.strip()):
            raise ValueError
        if matcher and value and not matcher.fullmatch(value):
            raise ValueError
        return value

    schema: dict[str, Any] = {"type": "string", "maxLength": longest}
    if not empty:
        schema["minLength"] = 1
    if pattern:
        schema["pattern"] = f"^(?:{pattern}{'|' if empty else ''})$"
    return Kind(read, schema, words)


def url(allowed: str = "an address such as https://host:port/path") -> Kind:
    """An http or https address without a user name, a query or a fragment; a closing slash is dropped."""

    def read(scalar: Scalar) -> str:
        parts = urlsplit(scalar.text)
        _ = parts.port  # raises ValueError where it is no number
        odd = parts.query or parts.fragment or "@" in parts.netloc or re.search(r"[\s\\]", scalar.text)
        if parts.scheme not in ("http", "https") or not parts.hostname or odd or UNPRINTABLE.search(scalar.text):
            raise ValueError(allowed)
        return scalar.text.rstrip("/")

    def checked(scalar: Scalar) -> str:
        try:
            return read(scalar)
        except ValueError:
            raise ValueError(allowed) from None

    return Kind(checked, {"type": "string", "pattern": r"^https?://[^\s?#@]+$", "maxLength": 500}, allowed)


def listening() -> Kind:
    """Where the supervisor listens: `ipc`, `tcp`, or loopback with the first of four ports."""
    allowed = f"{IPC}, tcp, or {LOOPBACK}PORT with a port up to {LAST_PORT}: no other address is listened on"

    def read(scalar: Scalar) -> str:
        found = re.fullmatch(f"{IPC}|tcp|{re.escape(LOOPBACK)}([1-9][0-9]{{0,4}})", scalar.text)
        if not found or int(found[1] or 1) > LAST_PORT:
            raise ValueError
        return scalar.text

    return Kind(read, {"type": "string", "pattern": r"^(ipc|tcp|tcp://127\.0\.0\.1:[1-9][0-9]{0,4})$"}, allowed)


def time_zone() -> Kind:
    """A name of the IANA time zone database, or UTC."""

    def read(scalar: Scalar) -> str:
        try:
            if scalar.text != "UTC":
                ZoneInfo(scalar.text)
        except (ValueError, KeyError, OSError):
            raise ValueError from None
        return scalar.text

    return Kind(read, {"type": "string"}, "a time zone such as Europe/Berlin or UTC")


def cron() -> Kind:
    """A cron expression of five fields, with single blanks between them."""
    allowed = "five fields, minute hour day month weekday, such as `0 7 * * 1-5`"

    def read(scalar: Scalar) -> str:
        if len(scalar.text) > 200 or UNPRINTABLE.search(scalar.text):
            raise ValueError
        if problem := core_cron.problem_with(scalar.text):
            raise ValueError(f"{allowed} ({problem})")
        return " ".join(scalar.text.split())

    return Kind(read, {"type": "string", "maxLength": 200}, allowed)


def prose(longest: int = 20_000) -> Kind:
    """Text of several lines."""

    def read(scalar: Scalar) -> str:
        value = "" if scalar.is_null else scalar.text
        if len(value) > longest or not value.strip() or UNPRINTABLE.search(re.sub(r"[\n\t]", "", value)):
            raise ValueError
        return value

    return Kind(read, {"type": "string", "minLength": 1, "maxLength": longest}, f"text, at most {longest} characters")


class Data:
    """A mapping of the user's own, as JSON has it: text, numbers, true, false, null, lists and mappings."""

    allowed = "a mapping of keys to values"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: object) -> Any:
            if isinstance(value, Scalar) and value.is_null:
                return {}
            if not isinstance(value, dict):
                raise PydanticCustomError("kind", "{allowed}", {"allowed": self.allowed})
            return {str(key): _json(item) for key, item in value.items()}

        return core_schema.no_info_plain_validator_function(check, metadata={"kind": {"type": "object"}})

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(core["metadata"]["kind"])


def _json(node: Node | Any) -> Any:
    """A tree as JSON has it. `yes`, dates and whatever else is not JSON's own stay text."""
    if isinstance(node, dict):
        return {str(key): _json(item) for key, item in node.items()}
    if isinstance(node, list):
        return [_json(item) for item in node]
    if not isinstance(node, Scalar) or not node.plain:
        return node.text if isinstance(node, Scalar) else node
    if node.is_null:
        return None
    if node.text in ("true", "false"):
        return node.text == "true"
    if len(node.text) <= LONGEST_NUMBER and WHOLE.fullmatch(node.text):
        return int(node.text)
    if len(node.text) <= LONGEST_NUMBER and NUMBER.fullmatch(node.text):
        return float(node.text.replace("_", ""))
    return node.text
