"""Words of the command line to values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from producer.errors import UsageError, WireError

if TYPE_CHECKING:
    from producer.cli.app import App

MOST_WORKERS = 256


def parse_payload(text: str | None) -> dict[str, Any] | None:
    """The JSON object of --payload. Raises UsageError."""
    if text is None:
        return None
    from producer.wire.codec import strict_json

    try:
        value = strict_json(text.encode("utf-8", "surrogateescape"))
    except (WireError, UnicodeError) as error:
        raise UsageError(f"--payload: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"--payload: must be a JSON object such as {{}}, not {type(value).__name__}")
    return value


def parse_ids(app: App, text: str | None) -> list[str] | None:
    """The tasks of a comma-separated list, each in full. Raises UnknownTask."""
    return None if text is None else [app.task(part.strip()) for part in text.split(",") if part.strip()]


def parse_counts(app: App, words: tuple[str, ...]) -> dict[str, int]:
    """ROLE=N words to numbers by role. Raises UsageError."""
    found: dict[str, int] = {}
    for word in words:
        name, separator, number = word.partition("=")
        if not separator or not (number.isascii() and number.isdigit()) or int(number) > MOST_WORKERS:
            raise UsageError(f"{word!r} is not ROLE=N with N from 0 to {MOST_WORKERS}")
        found[app.role(name)] = int(number)
    return found
