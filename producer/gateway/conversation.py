"""What the scripted model reads out of a Messages API request: who is asking, for which task, at which turn.

1. It is stateless, as the real API is: everything comes from the request's body.
2. The dispatch prompt is the first user text with the lines `Role:`, `Task:` and `Title:`; `Attempt:` and a JSON
   `Payload:` are read where they stand beside them. Later user messages (a resumed session's) are not looked at.
3. The turn is the number of assistant messages before it; those that the CLI itself puts in after an interruption or an
   API error are not the model's and do not count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_LINES = {
    name: re.compile(rf"^{name}:[ \t]*(.+?)[ \t]*$", re.MULTILINE) for name in ("Role", "Task", "Title", "Attempt")
}
_PAYLOAD = re.compile(r"^Payload:\s*(?=\{)", re.MULTILINE)
_CWD = re.compile(r"^[ \t]*-? ?(?:Primary working directory|Working directory):[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_SLOT = re.compile(r"\{(title|task|role|attempt|cwd|payload\[([^\]{}]+)\](?:\|([^{}]*))?)\}")
_NOT_THE_MODELS = ("No response requested.", "API Error")


@dataclass(frozen=True)
class Conversation:
    """A request as the script sees it. ``role`` is "" for requests that carry no dispatch prompt."""

    role: str = ""
    task: str = ""
    title: str = ""
    attempt: str = ""
    cwd: str = ""
    payload: Mapping[str, Any] = field(default_factory=dict)
    turn: int = 0
    messages: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Conversation:
        """Read a request body; what is malformed in it is passed over."""
        messages = [message for message in body.get("messages") or [] if isinstance(message, dict)]
        prompt = next((text for text in _user_texts(messages) if _LINES["Role"].search(text)), "")
        found = {name: (match[1] if (match := regex.search(prompt)) else "") for name, regex in _LINES.items()}
        return cls(
            role=found["Role"],
            task=found["Task"],
            title=found["Title"],
            attempt=found["Attempt"],
            cwd=_cwd(body, messages),
            payload=_payload(prompt),
            turn=sum(message.get("role") == "assistant" and _is_the_models(message) for message in messages),
            messages=len(messages),
        )

    def fill(self, value: Any) -> Any:
        """The value with every {slot} in its strings filled in."""
        if isinstance(value, str):
            return _SLOT.sub(self._slot, value)
        if isinstance(value, dict):
            return {key: self.fill(inner) for key, inner in value.items()}
        return [self.fill(inner) for inner in value] if isinstance(value, list) else value

    def _slot(self, match: re.Match[str]) -> str:
        if match[2] is not None:
            value = self.payload.get(match[2], match[3] or "")
            return value if isinstance(value, str) else json.dumps(value)
        return str(getattr(self, match[1]))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            yield block["text"]


def _user_texts(messages: list[dict[str, Any]]) -> Iterator[str]:
    for message in messages:
        if message.get("role") == "user":
            yield from _texts(message.get("content"))


def _is_the_models(message: dict[str, Any]) -> bool:
    content = message.get("content")
    calls = isinstance(content, list) and any(isinstance(b, dict) and b.get("type") == "tool_use" for b in content)
    return calls or not "".join(_texts(content)).startswith(_NOT_THE_MODELS)


def _cwd(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> str:
    texts = [*_texts(body.get("system"))]
    for message in messages:
        texts += _texts(message.get("content")) if message.get("role") in ("system", "user") else ()
    return next((match[1] for text in texts if (match := _CWD.search(text))), "")


def _payload(prompt: str) -> Mapping[str, Any]:
    match = _PAYLOAD.search(prompt)
    try:
        value = json.JSONDecoder().raw_decode(prompt, match.end())[0] if match else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
