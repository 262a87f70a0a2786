"""The JSON routes: those of 0.3.x and what the pages need. The ledger is read; the supervisor is asked to change it.

A handler that reads is an ordinary function and runs in a thread; one that writes reads its body first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from producer.errors import UnknownTask, UsageError
from producer.ledger import browse
from producer.ledger.checks import may_be_id
from producer.web import bodies, charts, model
from producer.web.answers import BadRequest, answer
from producer.web.bodies import Body, number, one
from producer.web.desk import Desk

MOST = 200
Handler = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    """One JSON route, for the router and for the OpenAPI document. ``parameters``: of the URL's query."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[Body] | None = None
    parameters: tuple[str, ...] = ()
    status: int = 200


def desk_of(request: Request) -> Desk:
    """The project."""
    desk: Desk = request.app.state.desk
    return desk


# ---- reading


def state(request: Request) -> Response:
    """Everything at a glance."""
    return answer(model.state(desk_of(request)))


def task(request: Request) -> Response:
    """One task."""
    return answer(model.task(desk_of(request), request.path_params["ident"]))


def tasks(request: Request) -> Response:
    """A page of tasks, newest first."""
    page = listed(request)
    return answer({"tasks": page.rows, "next": page.next})


def listed(request: Request, limit: int = 50) -> browse.Page:
    """The page of tasks that a URL's query asks for. Raises BadRequest."""
    with desk_of(request).reader() as reader:
        return browse.tasks(
            reader, status=bodies.status(request), role=one(request, "role"), text=one(request, "text"),
            before=number(request, "before", 1, browse.LAST), limit=number(request, "limit", 1, MOST) or limit,
        )  # fmt: skip


def audit(request: Request) -> Response:
    """A page of the audit log, newest first."""
    page = logged(request)
    return answer({"audit": page.rows, "next": page.next})


def logged(request: Request, limit: int = 100) -> browse.Page:
    """The page of the audit log that a URL's query asks for. Raises BadRequest."""
    with desk_of(request).reader() as reader:
        return browse.audit(
            reader, action=one(request, "action"), task=one(request, "task"), text=one(request, "text"),
            before=number(request, "before", 1, browse.LAST), limit=number(request, "limit", 1, MOST) or limit,
        )  # fmt: skip


def money(request: Request) -> Response:
    """Spend by hour, role and model, caps and holds."""
    return answer(charts.money(desk_of(request), number(request, "hours", 1, 168) or 24))


def flow(request: Request) -> Response:
    """Throughput, waiting and running time, failures, and the timeline's rows."""
    return answer(charts.flow(desk_of(request), number(request, "hours", 1, 168) or 12))


def openapi(request: Request) -> Response:
    """This."""
    from producer.web.openapi import document

    return answer(document(ROUTES))


# ---- writing


async def add_task(request: Request) -> Response:
    """File a task."""
    body = await bodies.read(request, bodies.NewTask)
    known = desk_of(request).config.roles
    if body.agent_owner not in known:
        raise BadRequest(
            f"agent_owner: no role {body.agent_owner!r}: use one of {', '.join(sorted(known))}", "agent_owner"
        )
    found = await _ask(request, "insert_tasks", tasks=[body.model_dump()])
    return answer({"id": found[0]}, 201)


async def kill_task(request: Request) -> Response:
    """Take a task out of the queue; a run of it is stopped."""
    return await _change(request, "kill_task", "killed", bodies.Why)


async def requeue_task(request: Request) -> Response:
    """Have a task tried again."""
    return await _change(request, "requeue_task", "requeued", bodies.Why)


async def approve_task(request: Request) -> Response:
    """Let a task run that waits for approval."""
    return await _change(request, "approve_task", "approved", bodies.Nothing)


async def route_task(request: Request) -> Response:
    """Give a task to another role."""
    body = await bodies.read(request, bodies.NewRole)
    if body.role not in desk_of(request).config.roles:
        raise BadRequest(f"role: there is no role {body.role!r}", "role")
    return await _on_task(request, "route_task", "routed", {"role": body.role})


async def edit_task(request: Request) -> Response:
    """Change what a task says."""
    body = await bodies.read(request, bodies.Change)
    changes = body.model_dump(exclude_unset=True, exclude_none=True)
    if not changes:
        raise BadRequest("there is nothing to change")
    return await _on_task(request, "edit_task", "edited", {"changes": changes})


async def switch(request: Request) -> Response:
    """Arm or disarm the kill switch."""
    body = await bodies.read(request, bodies.Switch)
    if body.armed and not body.reason.strip():
        raise BadRequest("reason: say why, for the others and for the log", "reason")
    if body.armed:
        return answer({**await _ask(request, "kill", reason=body.reason.strip(), now=body.now), "armed": True})
    return answer(await _ask(request, "resume", reason=body.reason.strip()))


async def morning_report(request: Request) -> Response:
    """Write the morning report."""
    body = await bodies.read(request, bodies.Day)
    try:
        found = await _ask(request, "morning_report", date=body.date)
    except UsageError as error:
        raise BadRequest(str(error).replace("--date", "date"), "date") from None
    return answer(found)


async def scale(request: Request) -> Response:
    """Have more or fewer workers."""
    body = await bodies.read(request, bodies.Scale)
    role = _role(request)
    await _ask(request, "scale", desired={role: body.workers})
    return answer({"role": role, "workers": body.workers})


async def reset_role(request: Request) -> Response:
    """Put a parked or draining role back into service."""
    await bodies.read(request, bodies.Nothing)
    return answer(await _ask(request, "role_reset", role=_role(request)))


async def link(request: Request) -> Response:
    """Another one-time link, for another browser."""
    await bodies.read(request, bodies.Nothing)
    sessions = request.app.state.sessions
    return answer({"path": f"/enter?token={sessions.link()}"}, 201)


def _role(request: Request) -> str:
    role = str(request.path_params["role"])
    if role not in desk_of(request).config.roles:
        raise BadRequest(f"there is no role {role!r}", "role", 404)
    return role


async def _change(request: Request, operation: str, done: str, model_: type[Body]) -> Response:
    body = await bodies.read(request, model_)
    return await _on_task(request, operation, done, body.model_dump())


async def _on_task(request: Request, operation: str, done: str, arguments: dict[str, Any]) -> Response:
    ident = str(request.path_params["ident"])
    if not may_be_id(ident):
        raise UnknownTask(ident)
    await _ask(request, operation, task_id=ident, **arguments)
    return answer({"id": ident, done: True})


async def _ask(request: Request, operation: str, **arguments: Any) -> Any:
    return await run_in_threadpool(desk_of(request).ask, operation, **arguments)


_PAGE = ("before", "limit")
ROUTES = (
    Route("GET", "/api/state", state, "Supervisor, switch, money, roles, queue and last events."),
    Route("GET", "/api/tasks", tasks, "Tasks, newest first, by pages.", parameters=("status", "role", "text", *_PAGE)),
    Route("POST", "/api/tasks", add_task, "File a task.", bodies.NewTask, status=201),
    Route("GET", "/api/tasks/{ident}", task, "A task with its attempts, lineage, turns and audit rows."),
    Route("POST", "/api/tasks/{ident}/kill", kill_task, "Take it out of the queue; a run is stopped.", bodies.Why),
    Route("POST", "/api/tasks/{ident}/requeue", requeue_task, "Have it tried again.", bodies.Why),
    Route("POST", "/api/tasks/{ident}/approve", approve_task, "Let it run.", bodies.Nothing),
    Route("POST", "/api/tasks/{ident}/route", route_task, "Give it to another role.", bodies.NewRole),
    Route("POST", "/api/tasks/{ident}/edit", edit_task, "Change what it says.", bodies.Change),
    Route("POST", "/api/kill_switch", switch, "Arm (with a reason; now: stop what runs) or disarm.", bodies.Switch),
    Route("POST", "/api/morning_report", morning_report, "Write the morning report.", bodies.Day),
    Route("POST", "/api/roles/{role}/scale", scale, "How many workers a role is to have.", bodies.Scale),
    Route("POST", "/api/roles/{role}/reset", reset_role, "Put a role back into service.", bodies.Nothing),
    Route("POST", "/api/links", link, "A one-time link for another browser.", bodies.Nothing, status=201),
    Route("GET", "/api/money", money, "Spend by hour, role and model; caps, holds, forecasts.", parameters=("hours",)),
    Route("GET", "/api/flow", flow, "Throughput, times, failures, timeline.", parameters=("hours",)),
    Route("GET", "/api/audit", audit, "The log, newest first.", parameters=("action", "task", "text", *_PAGE)),
    Route("GET", "/api/openapi.json", openapi, "This document."),
)
