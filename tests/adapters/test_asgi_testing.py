"""Functions that a test calls with a request or scope of its own have analytics of that request."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from sessionsight import Analytics, Client, NoClientError, Settings, configure
from sessionsight.testing import record
from sessionsight_asgi import get_analytics
from sessionsight_asgi.testing import with_analytics


def scope(kind: str = "http") -> dict[str, Any]:
    headers = [(b"cookie", b"ss_sid=session-1")]
    return {"type": kind, "method": "GET", "path": "/orders", "query_string": b"", "headers": headers}


def client() -> Client:
    return Client(Settings(disabled=True))


async def none(*_: Any) -> Any:
    raise AssertionError


async def test_requests_websockets_and_scopes_have_analytics() -> None:
    request = with_analytics(Request(scope()), client())
    websocket = with_analytics(WebSocket(scope("websocket"), none, none), client())
    plain = with_analytics(scope(), client())
    with record() as recorder:
        for analytics in (request.analytics, websocket.analytics, plain["analytics"], await get_analytics(request)):
            analytics.goals.increment("views")
    assert [(goal.session_id, goal.context.page.path) for goal in recorder.goals] == [("session-1", "/orders")] * 4


def test_the_client_is_the_processs_own_by_default() -> None:
    with pytest.raises(NoClientError):
        with_analytics(scope())
    configure(disabled=True)
    with record() as recorder:
        with_analytics(scope())["analytics"].capture("seen")
    recorder.assert_captured("seen")


def test_a_dependency_may_be_overridden_where_no_middleware_serves_the_app() -> None:
    app = FastAPI()

    @app.get("/")
    def view(analytics: Annotated[Analytics, Depends(get_analytics)]) -> None:
        analytics.capture("seen")

    app.dependency_overrides[get_analytics] = lambda: client().analytics
    with record() as recorder:
        assert TestClient(app).get("/").status_code == 200
    recorder.assert_captured("seen")
