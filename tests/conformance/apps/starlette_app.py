"""The table's app on Starlette."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser, UnauthenticatedUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sessionsight_asgi import AnalyticsMiddleware
from tests.conformance.cases import CASES, USER_HEADER, Result, Visit, missing

LATER: list[Any] = []


class HeaderBackend(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get(USER_HEADER)
        return None if name is None else (AuthCredentials(), SimpleUser(name))


def make(options: dict[str, Any]) -> Starlette:
    app = Starlette(
        routes=[Route("/cases/{name}", view), Route("/cases/{name}/{rest:path}", view)],
        exception_handlers={404: not_found},
    )
    app.add_middleware(AuthenticationMiddleware, backend=HeaderBackend())
    app.add_middleware(AnalyticsMiddleware, **options)
    return app


async def view(request: Request) -> Response:
    visit = visit_of(request, request.analytics)  # type: ignore[attr-defined]
    return respond(CASES[request.path_params["name"]].view(visit))


async def not_found(request: Request, error: Exception) -> Response:
    missing(request.analytics)  # type: ignore[attr-defined]
    return PlainTextResponse("missing", 404)


def visit_of(request: Request, analytics: Any) -> Visit:
    return Visit(
        analytics,
        load_user=lambda: request.user,
        sign_in=lambda name: request.scope.update(user=SimpleUser(name)),
        sign_out=lambda: request.scope.update(user=UnauthenticatedUser()),
        later=LATER,
    )


def respond(result: Result) -> Response:
    if result is None or isinstance(result, str):
        return PlainTextResponse(result or "ok")
    return JSONResponse(result) if isinstance(result, dict) else StreamingResponse(result)
