"""The table's app on FastAPI: views that run in threads, analytics by a dependency, routes behind a prefix."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.responses import Response

from sessionsight import Analytics
from sessionsight_asgi import AnalyticsMiddleware, get_analytics
from tests.conformance.apps.starlette_app import LATER, HeaderBackend, not_found, respond, visit_of
from tests.conformance.cases import CASES

__all__ = ["LATER", "make"]

router = APIRouter()


def make(options: dict[str, Any]) -> FastAPI:
    app = FastAPI(exception_handlers={404: not_found})
    app.include_router(router, prefix="/cases")
    app.add_middleware(AuthenticationMiddleware, backend=HeaderBackend())
    app.add_middleware(AnalyticsMiddleware, **options)
    return app


@router.get("/{name}")
@router.get("/{name}/{rest:path}")
def view(name: str, request: Request, analytics: Annotated[Analytics, Depends(get_analytics)]) -> Response:
    return respond(CASES[name].view(visit_of(request, analytics)))
