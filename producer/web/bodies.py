"""What a request may say: bodies and parameters, strictly. A mistake names the field that it is in."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from producer.errors import WireError
from producer.ledger.browse import STATUSES
from producer.web.answers import BadRequest
from producer.wire.codec import strict_json
from producer.wire.messages import TASK_ID

Role = Annotated[str, Field(min_length=1, max_length=200)]
Reason = Annotated[str, Field(max_length=500)]
Priority = Annotated[int, Field(ge=0, le=5, description="From 0 (urgent) to 5 (someday).")]
Title = Annotated[str, Field(min_length=1, max_length=10_000)]
Text = Annotated[str, Field(min_length=1, max_length=65_536)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
LONGEST_PARAMETER = 200
TaskId = Annotated[str, Field(pattern=TASK_ID + "$")]
B = TypeVar("B", bound=BaseModel)


class Body(BaseModel):
    """A JSON object with no other keys than these."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class NewTask(Body):
    """A task to file."""

    agent_owner: Role
    title: Title
    description: Text
    priority: Priority = 3
    payload: dict[str, Any] = {}
    dependencies: Annotated[list[TaskId], Field(max_length=1000)] = []
    sprint_id: Annotated[str, Field(max_length=200)] | None = None
    parent_task_id: TaskId | None = None
    requires_approval: bool = False


class Change(Body):
    """What to change in a task that does not run; keys that are left out stay."""

    title: Title | None = None
    description: Text | None = None
    priority: Priority | None = None
    payload: dict[str, Any] | None = None
    dependencies: Annotated[list[TaskId], Field(max_length=1000)] | None = None


class Why(Body):
    """A reason, for the audit log."""

    reason: Reason = ""


class NewRole(Body):
    """The role that is to do a task."""

    role: Role


class Switch(Body):
    """Arm (with a reason) or disarm the kill switch; ``now`` also stops what runs."""

    armed: bool
    reason: Reason = ""
    now: bool = False


class Day(Body):
    """The UTC day of a report; today where none is named."""

    date: Date | None = None


class Scale(Body):
    """How many workers a role is to have."""

    workers: Annotated[int, Field(ge=0, le=256)]


class Nothing(Body):
    """No keys."""


async def read(request: Request, model: type[B]) -> B:
    """The body as one of the above. Raises BadRequest."""
    try:
        value = strict_json(await request.body() or b"{}")
    except WireError as error:
        raise BadRequest(str(error)) from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = str(first["loc"][0]) if first["loc"] else None
        raise BadRequest(f"{where}: {first['msg']}" if where else first["msg"], where) from None


# ---- parameters of a URL


def one(request: Request, name: str, longest: int = LONGEST_PARAMETER) -> str | None:
    """A parameter; None where it is absent or empty. Raises BadRequest where it is given twice, or too long."""
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise BadRequest(f"{name}: is given {len(given)} times", name)
    text = given[0].strip() if given else ""
    if len(text) > longest:
        raise BadRequest(f"{name}: is longer than {longest} characters", name)
    if any(ord(char) < 32 or 0xD800 <= ord(char) < 0xE000 for char in text):
        raise BadRequest(f"{name}: holds a control character", name)
    return text or None


def number(request: Request, name: str, low: int, high: int) -> int | None:
    """A whole number. Raises BadRequest."""
    text = one(request, name, 20)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
        raise BadRequest(f"{name}: is not a whole number from {low} to {high}", name)
    return int(text)


Status = Literal["pending", "blocked", "in_progress", "done", "failed", "escalated", "killed"]


def status(request: Request) -> str | None:
    """A task's state, or `blocked`. Raises BadRequest."""
    text = one(request, "status")
    if text in (None, "all") or text in STATUSES or text == "blocked":
        return None if text == "all" else text
    raise BadRequest(f"status: use one of {', '.join((*STATUSES, 'blocked', 'all'))}", "status")
