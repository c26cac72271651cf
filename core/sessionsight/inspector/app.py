"""The inspector as one ASGI app: the vendors' endpoints, the API and the pages."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sessionsight.inspector.api import api_routes
from sessionsight.inspector.event_feed import EventFeed
from sessionsight.inspector.fault_injection import Injector
from sessionsight.inspector.ingest_endpoint import IngestEndpoint
from sessionsight.inspector.options import Options
from sessionsight.inspector.pages import page_routes
from sessionsight.inspector.security import SecurityMiddleware
from sessionsight.inspector.spool import SpoolReader
from sessionsight.inspector.store import Store
from sessionsight.inspector.websocket import websocket_routes

__all__ = ["create_app"]

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app(store: Store, options: Options | None = None) -> Starlette:
    """Put an inspector together.

    Its `state` has the `feed`, which must be closed before the server that runs the app is stopped, and the
    `injector` of faults.

    Args:
        store: Where everything is kept; it stays open.
        options: Its keys, faults and host count here.
    """
    options = options or Options()
    feed, injector = EventFeed(store), Injector(options.faults.validated())
    receiver = IngestEndpoint(store, injector, options.keys)

    async def receive(request: Request) -> Response:
        return await receiver(request)

    app = Starlette(
        routes=[
            Route("/v1/{path:path}", receive, methods=_METHODS),
            *websocket_routes(store, options.keys),
            *api_routes(store, feed, injector),
            *page_routes(store, injector, None if options.spool is None else SpoolReader(options.spool)),
        ],
        middleware=[Middleware(SecurityMiddleware, host=options.host)],
        exception_handlers={HTTPException: _problem},
    )
    app.state.feed = feed
    app.state.injector = injector
    return app


async def _problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - what the handler is registered for
    return JSONResponse({"error": error.detail}, error.status_code, dict(error.headers or {}))
