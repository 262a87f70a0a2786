"""The application: routes, what becomes of errors, and the gates around it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from producer.errors import ProducerError
from producer.web import api, pages, show, stream
from producer.web.answers import BadRequest, of_error, problem
from producer.web.desk import Desk
from producer.web.gates import Door, HostGate, Origin, Shield, WriteGate
from producer.web.hub import Hub
from producer.web.session import Sessions


def build(desk: Desk, sessions: Sessions, hosts: Collection[str], origins: Collection[str]) -> ASGIApp:
    """The dashboard of a project. ``hosts``: the Host headers it answers to; ``origins``: where its own pages are."""
    hub = Hub(desk)

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        listening = asyncio.create_task(hub.run())
        yield
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        desk.close()

    app = Starlette(
        routes=_routes(),
        lifespan=living,
        middleware=[
            Middleware(Shield), Middleware(HostGate, hosts=hosts), Middleware(Door, sessions=sessions),
            Middleware(Origin, origins=origins), Middleware(WriteGate),
        ],
        exception_handlers={BadRequest: _bad, ProducerError: _failed, HTTPException: _http, Exception: _unforeseen},
    )  # fmt: skip
    app.router.redirect_slashes = False
    app.state.desk, app.state.sessions, app.state.hub = desk, sessions, hub
    return app


def _routes() -> list[BaseRoute]:
    by_path: dict[str, dict[str, api.Handler]] = {}
    for route in api.ROUTES:
        by_path.setdefault(route.path, {})[route.method] = route.handler
    found: list[BaseRoute] = []
    for path, handlers in by_path.items():
        found += [StarletteRoute(path, handler, methods=[method]) for method, handler in handlers.items()]
    found.append(StarletteRoute("/api/events", stream.events, methods=["GET"]))
    found += [StarletteRoute(path, handler, methods=["GET"]) for path, handler in pages.ROUTES]
    static = Path(str(files("producer.web").joinpath("static")))
    return [*found, Mount("/static", _Static(directory=static))]


class _Static(StaticFiles):
    """Our own files, asked for again when they changed."""

    def file_response(self, *arguments: object, **more: object) -> Response:
        """A file."""
        response = super().file_response(*arguments, **more)  # type: ignore[arg-type]
        response.headers["cache-control"] = "private, no-cache"
        return response


Handling = Callable[[Request, Exception], Response | Awaitable[Response]]


async def _bad(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    return _told(request, error.status, error.error, error.field)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProducerError)
    return _told(request, *of_error(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    words = {404: "there is no such page", 405: "that cannot be done with this address"}
    return _told(request, error.status_code, words.get(error.status_code, error.detail), None)


async def _unforeseen(request: Request, error: Exception) -> Response:
    return _told(request, 500, f"the dashboard failed: {type(error).__name__}", None)


def _told(request: Request, status: int, error: str, field: str | None) -> Response:
    wants_page = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
    return show.failure(request, status, error) if wants_page else problem(status, error, field)
